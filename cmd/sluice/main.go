// Sluice is the program of the sluice runtime: it runs one, calls what runs on it, plays the
// engine for a single worker, and shows what is on the wire.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// What the program exits with.
const (
	exitRemote = 1 // the worker answered with an error; a bad frame was decoded
	exitUsage  = 2
	exitLocal  = 3 // anything here: no worker, no answer in time, no such file
)

// The groups of commands in the help.
const (
	groupRuntime = "runtime"
	groupCalls   = "calls"
	groupApps    = "apps"
	groupWire    = "wire"
)

// program is one run of the program.
type program struct {
	in   io.Reader
	out  io.Writer
	err  io.Writer       // any goroutine
	hard context.Context // ends when the user does not want to wait any more

	terminal bool                    // a person reads err
	hangups  func() <-chan os.Signal // who calls it gets the hangups, which do not end it then

	terminate time.Duration // for the worker of invoke; if zero, terminateTimeout
	kill      time.Duration // for the worker of invoke; if zero, killTimeout
}

func main() {
	p, soft := ofProcess()
	os.Exit(p.run(soft, os.Args[1:]))
}

// ofProcess returns the program of this process, and a context that ends at the first signal.
func ofProcess() (*program, context.Context) {
	s := catchSignals()
	return &program{
		in: os.Stdin, out: os.Stdout, err: &lockedWriter{w: os.Stderr}, hard: s.hard,
		terminal: isTerminal(os.Stderr), hangups: s.hangups,
	}, s.soft
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
		fmt.Fprintln(p.err, "sluice:", printable(err.Error()))
	}
	if isExit {
		return e.code
	}
	if errors.As(err, new(*os.PathError)) { // of cobra's own commands: the output
		return exitLocal
	}
	fmt.Fprintf(p.err, "Run '%s --help' for usage.\n", cmd.CommandPath())
	return exitUsage
}

// warn tells a person of what is done all the same.
func (p *program) warn(text string) { fmt.Fprintln(p.err, "sluice: warning:", printable(text)) }

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Run a runtime of the Cocaine RPC protocol, call it, and read its frames",
		Long: `Sluice runs a runtime of the Cocaine RPC protocol (v0 and v1), and calls what runs on it or
on any other. It also plays the engine for a single worker, and shows the frames of the
protocol.

  sluice up --app 'echo=go run ./examples/echo'      in one terminal
  sluice call echo echo hello                        in another

Exit status: 0 for a result; 1 if the service or worker answered with an error, or a frame
is bad; 2 if the command line is wrong; 3 for anything that went wrong here.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddGroup(
		&cobra.Group{ID: groupRuntime, Title: "The runtime:"},
		&cobra.Group{ID: groupCalls, Title: "What runs on it:"},
		&cobra.Group{ID: groupApps, Title: "Applications:"},
		&cobra.Group{ID: groupWire, Title: "Workers and frames:"},
	)
	root.AddCommand(
		p.upCommand(),
		p.callCommand(), p.lsCommand(), p.infoCommand(), p.pingCommand(), p.tailCommand(), p.storageCommand(),
		p.appCommand(), p.groupCommand(),
		p.invokeCommand(), p.decodeCommand(), p.versionCommand(),
	)
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
