//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/engine/enginetest"
)

// running is the program in a process of its own, whose worker has answered.
type running struct {
	*exec.Cmd
	t     *testing.T
	err   bytes.Buffer // to be read after Wait
	group int          // of the worker
	temp  string
}

// start runs sluice invoke, or what else is in its role, for a worker whose leader tells its
// pid, and waits for the worker to be started.
func start(t *testing.T, program, role string, out *os.File, args ...string) *running {
	t.Helper()
	dir := t.TempDir()
	temp, err := os.MkdirTemp("/tmp", "c")
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(dir, "pid")
	worker := `sh -c 'echo $$ >` + pidFile + `; exec ` + strings.ReplaceAll(asRole(role), "'", "") + ` "$@"' sh`
	r := &running{t: t, temp: temp}
	r.Cmd = exec.Command(os.Args[0], append([]string{"invoke", "--worker", worker}, args...)...)
	r.Env = append(os.Environ(), roleVar+"="+program, "TMPDIR="+temp, "GORACE=atexit_sleep_ms=0")
	r.Stdout, r.Stderr = out, &r.err
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); r.group == 0; time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(pidFile)
		r.group, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		if time.Since(begin) > patience {
			_ = r.Process.Kill()
			t.Fatal("the worker was not started")
		}
	}
	return r
}

// wantEnd waits for the end and fails the test unless the exit status is 3, stderr has
// the text, and nothing is left.
func (r *running) wantEnd(text string) {
	r.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = r.Process.Kill() })
	defer timer.Stop()
	_ = r.Wait()
	if code := r.ProcessState.ExitCode(); code != exitLocal || !strings.Contains(r.err.String(), text) {
		r.t.Errorf("%v, %q, want exit status 3 and %q", r.ProcessState, &r.err, text)
	}
	if left := enginetest.Group(r.group); len(left) > 0 {
		r.t.Errorf("%v of the worker's group are alive", left)
	}
	if err := os.Remove(r.temp); err != nil {
		r.t.Errorf("the temporary directory: %v", err)
	}
}

func (r *running) signal(sig os.Signal) {
	r.t.Helper()
	if err := r.Process.Signal(sig); err != nil {
		r.t.Fatal(err)
	}
}

func TestSignals(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP) // else who runs the tests under nohup has the program ignore it
	t.Cleanup(func() { signal.Stop(caught) })
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		for _, role := range []string{"mute", "serve"} { // before the handshake, or likely after it
			t.Run(sig.String()+" "+role, func(t *testing.T) {
				t.Parallel()
				r := start(t, "sluice", role, nil, "hang")
				r.signal(sig)
				r.wantEnd("sluice: stopped by a signal: " + sig.String())
			})
		}
	}
}

// The first signal asks a worker that does not want to end, and has an hour, the second one
// kills it (catalogue E14).
func TestSecondSignal(t *testing.T) {
	r := start(t, "patient", "stubborn", nil, "hang")
	r.signal(syscall.SIGTERM)
	defer insist(r.Process)()
	r.wantEnd("sluice: stopped by a signal: terminated")
}

// insist sends SIGTERM again and again until it is told to stop, and waits for that. When a
// process looks at its first signal only the machine knows, and one that comes too soon
// behind it is the same.
func insist(p *os.Process) (stop func()) {
	over := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		again := time.NewTicker(3 * sameSignal)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				_ = p.Signal(syscall.SIGTERM) // it may have ended
			case <-over:
				return
			}
		}
	})
	return func() {
		close(over)
		sender.Wait()
	}
}

// A reader of our output that goes away, as in "sluice invoke … | head -1".
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, "sluice", "serve", out, "flood")
	_ = out.Close()
	if _, err := in.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	r.wantEnd("")
}

// A reader that is there and does not read: a signal ends us all the same.
func TestBlockedOutput(t *testing.T) {
	t.Parallel()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r := start(t, "sluice", "serve", out, "flood")
	_ = out.Close()
	if _, err := in.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // until the pipe is full again
	r.signal(syscall.SIGTERM)
	r.wantEnd("sluice: stopped by a signal")
}
