package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
	"github.com/spf13/cobra"
)

const (
	usualTimeout = 30 * time.Second // for what a runtime does at once
	dialTimeout  = 5 * time.Second
	closeTimeout = time.Second // for what is under way when a command ends

	locatorVar     = "SLUICE_LOCATOR"
	defaultLocator = "127.0.0.1:10053"
)

// link is how a command reaches a runtime.
type link struct {
	p *program

	locator  string
	protocol int
	timeout  time.Duration
	json     bool
}

// flags adds the flags that all commands with a link have. A timeout of 0 is for ever. Nothing
// is completed with names of files; completeNames and pathSecond have it otherwise.
func (l *link) flags(cmd *cobra.Command, timeout time.Duration) {
	locator := defaultLocator
	if env := os.Getenv(locatorVar); env != "" {
		locator = env
	}
	f := cmd.Flags()
	f.StringVar(&l.locator, "locator", locator, "`ADDRESS` of the runtime's locator, or several with commas; $"+locatorVar)
	f.DurationVar(&l.timeout, "timeout", timeout, "how long it may take; 0 is for ever")
	f.BoolVar(&l.json, "json", false, "print JSON, for programs")
	protocolFlag(cmd, &l.protocol)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
}

// check tells a wrong command line.
func (l *link) check() error {
	if l.timeout < 0 {
		return errors.New("a timeout has to be positive")
	}
	if l.protocol != 0 && l.protocol != 1 {
		return fmt.Errorf("--protocol %d, want 0 or 1", l.protocol)
	}
	if strings.Trim(l.locator, ", ") == "" { // a variable that was not set should not reach another runtime
		return errors.New("--locator is empty")
	}
	if _, err := service.ParseLocators(l.locator); err != nil {
		return fmt.Errorf("--locator: %w", err)
	}
	return nil
}

func (l *link) config() service.Config {
	return service.Config{
		Locators:    strings.Split(l.locator, ","),
		V0:          l.protocol == 0,
		DialTimeout: dialTimeout,
		CallTimeout: -1,   // ours is in the context
		FailFast:    true, // the user may try again
		MaxConnects: 1,
		Logger:      slog.New(slog.NewTextHandler(l.p.err, &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

// run connects, does f within the timeout, and tells what went wrong as an *exitError.
func (l *link) run(ctx context.Context, f func(ctx context.Context, c *service.Client) error) error {
	if err := l.check(); err != nil {
		return err
	}
	if l.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.timeout, fmt.Errorf("no whole answer within %v", l.timeout))
		defer cancel()
	}
	c, err := service.Connect(ctx, l.config())
	if err != nil {
		return l.explain(err)
	}
	err = f(ctx, c)
	closing, cancel := context.WithTimeout(l.p.hard, closeTimeout)
	defer cancel()
	if err != nil {
		cancel() // nothing is worth waiting for
	}
	_ = c.Close(closing) // we are done; nothing hangs on it
	return l.explain(err)
}

// done has programs told what was done to what has a name, if err is nil; people see that
// there is no error.
func (l *link) done(err error, name, what string) error {
	return l.tell(err, map[string]any{"name": name, "done": what})
}

// tell prints v for programs if err is nil, and returns err.
func (l *link) tell(err error, v any) error {
	if err != nil || !l.json {
		return err
	}
	return l.p.printJSON(v)
}

// explain returns what to tell the user, and what to exit with.
func (l *link) explain(err error) error {
	var exit *exitError
	var se *session.Error
	var cut *channel.CloseError
	switch {
	case err == nil || errors.As(err, &exit):
		return err
	case service.Is(err, service.CategoryLocator, service.LocatorNotAvailable):
		return &exitError{exitRemote, fmt.Errorf("%w; 'sluice ls' shows what there is", named(err))}
	case errors.As(err, &se) && se.Remote:
		return &exitError{exitRemote, named(err)}
	case errors.As(err, &cut) && cut.Code == channel.CodeEOF: // a service knows no other answer to wrong arguments
		return local(fmt.Errorf("%w: the service has ended, or refused what it was sent; are the arguments right?", err))
	case refused(err):
		return local(fmt.Errorf("no runtime answers at %s: connection refused; start one with 'sluice up'", l.locator))
	}
	return local(err)
}

// refused reports whether nobody listens where the locator should be.
func refused(err error) bool {
	var re *service.ResolveError
	if !errors.As(err, &re) {
		return false
	}
	for _, t := range re.Tries {
		if (re.Name == "locator" || t.Stage == service.StageResolve) && errors.Is(t.Err, syscall.ECONNREFUSED) {
			return true
		}
	}
	return false
}

// named is err with the remote error in it as the protocol has it, and in words where the
// numbers have names.
func named(err error) error {
	var se *session.Error
	if !errors.As(err, &se) || !se.Remote {
		return err
	}
	text := ofSession(se)
	if se.Category == 0 || se.Category == service.CategoryWorker || se.Category == service.CategoryUser {
		return text
	}
	name := service.CodeName(se.Category, se.Code)
	if name == fmt.Sprintf("code %d", se.Code) {
		return text
	}
	return fmt.Errorf("%w (%s, %s)", text, service.CategoryName(se.Category), name)
}
