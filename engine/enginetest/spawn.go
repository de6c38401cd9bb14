package enginetest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/engine"
)

// goneTimeout is how long a killed slave may take to be gone.
const goneTimeout = 20 * time.Second

// Build compiles the package at path, relative to the test's directory, and returns the
// program, which is removed with the test.
func Build(t testing.TB, path string) (program string) {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(t.TempDir(), filepath.Base(abs))
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = abs
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", path, err, out)
	}
	return program
}

// Spawn starts a worker as engine.Spawn does, with its output in the test's log unless
// cfg says otherwise. At the end of the test it is killed, if it is not gone, and the
// test fails if a process of its group is left (Linux only).
func Spawn(t testing.TB, cfg engine.SlaveConfig) *engine.Slave {
	t.Helper()
	if cfg.Output == nil {
		log := &logWriter{t: t}
		cfg.Output = log
		t.Cleanup(log.close)
	}
	s, err := engine.Spawn(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		select {
		case <-s.Done():
		case <-time.After(goneTimeout):
			t.Errorf("enginetest: the worker is %v %v after it was killed", s.State(), goneTimeout)
		}
		if left := Group(s.PID()); len(left) > 0 {
			t.Errorf("enginetest: processes %v of the worker's group %d live on", left, s.PID())
		}
	})
	return s
}

// Group returns the processes of a process group that are alive, zombies aside. It knows
// Linux only, and finds none elsewhere.
func Group(group int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
		fields := strings.Fields(rest) // state, ppid, pgrp, …
		if len(fields) < 3 || fields[0] == "Z" || fields[0] == "X" || fields[2] != strconv.Itoa(group) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// logWriter writes lines to a test's log while the test runs.
type logWriter struct {
	t testing.TB

	mu     sync.Mutex // guards the following
	line   []byte
	closed bool
}

// Write never fails.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return len(p), nil
	}
	w.line = append(w.line, p...)
	for {
		line, rest, ok := bytes.Cut(w.line, []byte{'\n'})
		if !ok {
			return len(p), nil
		}
		w.t.Logf("worker: %s", line)
		w.line = rest
	}
}

func (w *logWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if len(w.line) > 0 {
		w.t.Logf("worker: %s", w.line)
	}
}
