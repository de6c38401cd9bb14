//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/engine/enginetest"
)

// workerOf starts a runtime whose worker tells its pid, has it busy, and returns its process
// group.
func workerOf(t *testing.T, role string, args ...string) (*cloud, int) {
	t.Helper()
	pidFile := filepath.Join(t.TempDir(), "pid")
	worker := `sh -c 'echo $$ >` + pidFile + `; exec ` + strings.ReplaceAll(asRole(role), "'", "") + ` "$@"' sh`
	r := up(t, append([]string{"--app", "x=" + worker}, args...)...)
	t.Setenv(locatorVar, r.locator)
	if got := sluice(t, "", words("call x headers")...); got.exit != 0 {
		t.Fatalf("sluice call = %+v", got)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	group, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return r, group
}

func wantNoGroup(t *testing.T, group int) {
	t.Helper()
	await(t, "nobody of the worker's group alive", func() (any, bool) {
		left := enginetest.Group(group)
		return left, len(left) == 0
	})
}

func TestUpStops(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			r, group := workerOf(t, "serve")
			r.stop(sig, 0)
			if left := enginetest.Group(group); len(left) > 0 {
				t.Errorf("%v of the worker's group are alive", left)
			}
		})
	}
}

// The second signal does not wait for a worker that has time.
func TestUpStopsAtOnce(t *testing.T) {
	r, group := workerOf(t, "stubborn", "--grace", "1h")
	hung := make(chan result, 1)
	go func() { hung <- sluice(t, "", words("call x hang")...) }()
	await(t, "load: 1", func() (any, bool) {
		info := sluice(t, "", words("info x")...)
		return info, strings.Contains(info.out, "load: 1")
	})
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	defer insist(r.Process)()
	r.wait(exitLocal)
	wantNoGroup(t, group)
	<-hung
}

// Signals that come at once, as timeout(1) sends the same one twice, are one. Two that wait
// for a process that stands still are at once for sure.
func TestUpStopsOnce(t *testing.T) {
	r := up(t)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGINT, syscall.SIGTERM} {
		if err := r.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	r.stop(syscall.SIGCONT, 0)
}

// Nobody reads the log: all goes on, and ends.
func TestUpWithBlockedLog(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	_ = out.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for err == nil { // until it is full
		_, err = out.Write(make([]byte, 4<<10))
	}
	r := prepare(t, "--app", "x=true", "--log-level", "debug")
	r.Stderr = out
	r.begin()
	_ = out.Close()
	r.awaitReady()
	r.stop(syscall.SIGTERM, 0)
}

// A hangup that comes before the runtime runs does not end it. It reads its configuration
// from a pipe, so that the test knows when that is.
func TestUpReloadsEarly(t *testing.T) {
	dir := t.TempDir()
	config, plain := filepath.Join(dir, "sluice.json"), filepath.Join(dir, "plain.json")
	if err := errors.Join(syscall.Mkfifo(config, 0o600), os.WriteFile(plain, []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	r := launch(t, "--config", config)
	var pipe *os.File
	await(t, "that the configuration is read", func() (_ any, ok bool) {
		var err error
		pipe, err = os.OpenFile(config, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err, err == nil
	})
	err := r.Process.Signal(syscall.SIGHUP)
	_, wrote := pipe.WriteString("{}")
	if err := errors.Join(err, wrote, os.Rename(plain, config), pipe.Close()); err != nil {
		t.Fatal(err)
	}
	r.awaitReady()
}
