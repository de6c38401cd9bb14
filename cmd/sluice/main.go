// Sluice is the program of the sluice runtime: it plays the engine for a worker, and shows
// what is on the wire.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

// What the program exits with.
const (
	exitRemote = 1 // the worker answered with an error; a bad frame was decoded
	exitUsage  = 2
	exitLocal  = 3 // anything here: no worker, no answer in time, no such file
)

// program is one run of the program.
type program struct {
	in   io.Reader
	out  io.Writer
	err  io.Writer       // any goroutine
	hard context.Context // ends when the user does not want to wait any more
}

func main() {
	soft, hard := signals()
	p := program{in: os.Stdin, out: os.Stdout, err: &lockedWriter{w: os.Stderr}, hard: hard}
	os.Exit(p.run(soft, os.Args[1:]))
}

// signals returns a context that ends at the first signal to stop, and one that ends at
// the second. No signal ends the program itself: it has a worker to end first.
func signals() (soft, hard context.Context) {
	hard, cancelHard := context.WithCancel(context.Background())
	soft, cancelSoft := context.WithCancelCause(hard)
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signal.Notify(stop, syscall.SIGHUP)
	}
	// A reader of our output that goes away is an error of Write, and no signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		cancelSoft(fmt.Errorf("stopped by a signal: %v", <-stop))
		<-stop
		cancelHard()
	}()
	return soft, hard
}

// run does what args say and returns what to exit with.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var e *exitError
	isExit := errors.As(err, &e)
	if !errors.Is(err, syscall.EPIPE) { // who does not read our output knows
		fmt.Fprintln(p.err, "sluice:", err)
	}
	if isExit {
		return e.code
	}
	fmt.Fprintf(p.err, "Run '%s --help' for usage.\n", cmd.CommandPath())
	return exitUsage
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Try workers of the Cocaine RPC protocol, and read its frames",
		Long: `Sluice plays the engine for a worker of the Cocaine RPC protocol (v0 and v1), and
shows the frames of the protocol.

Exit status: 0 for a result; 1 if the worker answered with an error, or a frame is
bad; 2 if the command line is wrong; 3 for anything that went wrong here.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(p.invokeCommand(), p.decodeCommand(), p.versionCommand())
	return root
}

// exitError is an error that is no mistake of usage.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

// local returns err as one of what went wrong here, and nil for nil.
func local(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitLocal, err}
}

// protocolFlag adds the flag --protocol.
func protocolFlag(cmd *cobra.Command, p *int) {
	cmd.Flags().IntVar(p, "protocol", 1, "version of the protocol: 0 (runtime 0.10, 0.11) or 1 (0.12)")
	// The error says that there is no such flag.
	_ = cmd.RegisterFlagCompletionFunc("protocol", cobra.FixedCompletions([]cobra.Completion{"0", "1"}, cobra.ShellCompDirectiveNoFileComp))
}

// lockedWriter lets several goroutines write whole pieces.
type lockedWriter struct {
	mu sync.Mutex // held while w writes
	w  io.Writer
}

// Write writes p.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
