package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/session"
	"github.com/spf13/cobra"
)

const (
	quietTime        = time.Second // before we say what we wait for
	terminateTimeout = time.Second // for the worker to end when we are done
	killTimeout      = time.Second // more, after SIGTERM
)

// invocation is one run of sluice invoke.
type invocation struct {
	p *program

	worker    string
	protocol  int
	app       string
	locator   string
	handshake time.Duration
	timeout   time.Duration
	headers   []string
	json      bool

	event  string
	chunks []string
}

func (p *program) invokeCommand() *cobra.Command {
	v := &invocation{p: p}
	cmd := &cobra.Command{
		Use:     "invoke --worker 'COMMAND' [flags] EVENT [CHUNK... | -]",
		GroupID: groupWire,
		Short:   "Start a worker, invoke one event, print the answer",
		Long: `Invoke starts a worker as an engine would, invokes one event on it, sends each CHUNK
and then a choke, prints the answer as it comes, and ends the worker.

With - as the only CHUNK the chunks are what stdin gives, up to 64 KiB each, and the
answer is printed byte for byte. Otherwise a newline is added to an answer that does
not end in one.

COMMAND is one simple command for the shell; the engine's flags are appended to it. To
set a variable write 'env NAME=value program'. What the worker prints goes to stderr.
Whatever happens, no process of it is left: it is asked to end, and after a second made
to. An interrupt does the same, a second one kills it at once.

Exit status: 0 for a result, 1 if the worker answered with an error, 2 if the command
line is wrong, 3 if there was no answer: no worker, no handshake, no end in time.`,
		Example: `  sluice invoke --worker 'go run ./examples/echo' echo hello
  sluice invoke --worker ./thumbnailer --timeout 10s resize - <in.jpg >out.jpg
  sluice invoke --worker 'python3 app.py' --protocol 0 ping
  sluice invoke --worker ./app --header authorization='Bearer x' whoami
  sluice invoke --worker ./app echo -- --a-chunk-with-a-dash`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringVar(&v.worker, "worker", "", "`COMMAND` that runs the worker (required)")
	f.StringVar(&v.app, "app", "app", "`NAME` of the application that the worker is told")
	f.StringVar(&v.locator, "locator", "localhost:10053", "`ADDRESS` of the locator that the worker is told")
	f.DurationVar(&v.handshake, "handshake-timeout", 2*time.Minute, "how long the worker may take to start")
	f.DurationVar(&v.timeout, "timeout", 0, "how long the answer may take; 0 is for ever")
	f.StringArrayVar(&v.headers, "header", nil, "`NAME=VALUE` of a header of the invoke, protocol 1 only; repeatable")
	f.BoolVar(&v.json, "json", false, "print each chunk of the answer as one string of JSON on a line")
	protocolFlag(cmd, &v.protocol)
	_ = cmd.MarkFlagRequired("worker") // the error says that there is no such flag
	return cmd
}

// run checks the command line and does the rest in order.
func (v *invocation) run(ctx context.Context, args []string) error {
	v.event, v.chunks = args[0], args[1:]
	headers, err := parseHeaders(v.headers, v.protocol)
	switch {
	case err != nil:
		return err
	case v.protocol != 0 && v.protocol != 1:
		return fmt.Errorf("--protocol %d, want 0 or 1", v.protocol)
	case v.timeout < 0 || v.handshake <= 0:
		return errors.New("a timeout has to be positive")
	case strings.TrimSpace(v.worker) == "":
		return errors.New("--worker is empty")
	}
	s, err := engine.Spawn(ctx, v.slave())
	if err != nil {
		return local(err)
	}
	err = v.call(ctx, s, headers)
	return v.explain(s, err, v.finish(s))
}

// parseHeaders reads NAME=VALUE.
func parseHeaders(texts []string, protocol int) ([]codec.Header, error) {
	var list []codec.Header
	for _, h := range texts {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q, want NAME=VALUE", h)
		}
		list = append(list, codec.Header{Name: []byte(name), Value: []byte(value)})
	}
	if len(list) > 0 && protocol == 0 {
		return nil, errors.New("--header needs --protocol 1: there are no headers in 0")
	}
	return list, nil
}

// workerTimeouts are for a worker to end: when it is asked to, and then after SIGTERM.
func (p *program) workerTimeouts() (terminate, kill time.Duration) {
	return cmp.Or(p.terminate, terminateTimeout), cmp.Or(p.kill, killTimeout)
}

func (v *invocation) slave() engine.SlaveConfig {
	terminate, kill := v.p.workerTimeouts()
	return engine.SlaveConfig{
		Command:          engine.Shell(v.worker),
		App:              v.app,
		Locator:          v.locator,
		Dialect:          codec.Dialect(v.protocol),
		HandshakeTimeout: v.handshake,
		TerminateTimeout: terminate,
		KillTimeout:      kill,
		Output:           v.p.err,
		Logger:           slog.New(slog.NewTextHandler(v.p.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// call waits for the worker, invokes the event, and prints the answer.
func (v *invocation) call(ctx context.Context, s *engine.Slave, headers []codec.Header) error {
	late := time.AfterFunc(quietTime, func() {
		fmt.Fprintf(v.p.err, "sluice: waiting for the worker's handshake, up to %v\n", v.handshake)
	})
	err := s.Ready(ctx)
	late.Stop()
	if err != nil {
		return err
	}
	if v.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, v.timeout, fmt.Errorf("no whole answer within %v", v.timeout))
		defer cancel()
	}
	call, err := s.Invoke(ctx, v.event, headers)
	if err != nil {
		return err
	}
	t := newTalk(v.p, v.chunks)
	t.json = v.json
	return t.over(ctx, call)
}

// finish ends the worker, whatever it did, and returns how it ended.
func (v *invocation) finish(s *engine.Slave) error {
	code := int64(engine.SlaveShutdown)
	if v.protocol == 0 {
		code = 1 // normal; 2 is the other one
	}
	terminate, kill := v.p.workerTimeouts()
	ctx, cancel := context.WithTimeout(v.p.hard, terminate+kill)
	defer cancel()
	return s.Terminate(ctx, code, "sluice invoke is done")
}

// explain returns what to tell the user, from what the call and the worker ended with.
func (v *invocation) explain(s *engine.Slave, err, end error) error {
	var se *session.Error
	var gone *engine.SlaveError
	switch {
	case errors.As(err, &gone): // the worker never came so far
		return local(ofWorker(gone))
	case errors.As(err, &se) && se.Remote:
		return &exitError{exitRemote, ofSession(se)}
	case errors.As(err, &se) && errors.As(end, &gone): // the session was lost with the worker
		return local(ofWorker(gone))
	case err == nil && errors.As(end, &gone):
		fmt.Fprintln(v.p.err, "sluice:", ofWorker(gone)) // there was a result all the same
		return nil
	}
	return local(err)
}

// ofSession is the worker's error as the protocol has it; v0 has no categories.
func ofSession(e *session.Error) error {
	if e.Category == 0 {
		return fmt.Errorf("[%d] %s", e.Code, e.Message)
	}
	return fmt.Errorf("[%d, %d] %s", e.Category, e.Code, e.Message)
}

// ofWorker is why the worker ended, without the output that the user has seen.
func ofWorker(e *engine.SlaveError) error {
	text := "worker: " + e.Reason
	if e.Code == engine.SlaveSuicide {
		text = "worker: it asked to end: " + e.Reason
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Status != "" {
		text += " (" + e.Status + ")"
	}
	return errors.New(text)
}
