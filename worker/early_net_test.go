//go:build linux

package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/worker"
)

// stuckListener returns an address at which a dial waits: nobody accepts, and the
// queue of those who want to be accepted is full.
func stuckListener(t *testing.T) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for taken, late := 0, 0; taken < 10; {
		c, err := net.DialTimeout("tcp", addr, 50*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			taken, late = taken+1, 0
		} else if late++; late == 5 { // once may be the machine
			return addr
		}
	}
	t.Skip("this system takes any number of connections that nobody accepts")
	return ""
}

// The same within the dial.
func TestEndWhileConnecting(t *testing.T) {
	addr := stuckListener(t)
	for name, f := range map[string]func(w *worker.Worker, cancel func()){
		"terminate": func(w *worker.Worker, _ func()) { w.Terminate(false, "no") },
		"close":     func(w *worker.Worker, _ func()) { w.Close() },
		"context":   func(_ *worker.Worker, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			w, err := worker.New(worker.Config{UUID: uuid, Endpoint: addr, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			for begin := time.Now(); w.State() != worker.Connecting; time.Sleep(time.Millisecond) {
				if time.Since(begin) > patience {
					t.Fatalf("State() = %v, want connecting", w.State())
				}
			}
			f(w, cancel)
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("Run() = %v, want nil", err)
				}
			case <-time.After(patience):
				t.Error("Run goes on connecting")
			}
		})
	}
}

// Run, over and over, with an end at every moment.
func TestEndAtAnyMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for buf := make([]byte, 1<<10); err == nil; {
					_, err = c.Read(buf)
				}
			}()
		}
	}()
	for i := range 60 {
		w, err := worker.New(worker.Config{UUID: uuid, Endpoint: path, Grace: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		time.Sleep(time.Duration(i/3) * 20 * time.Microsecond)
		switch i % 3 {
		case 0:
			w.Terminate(false, "")
		case 1:
			w.Close()
		case 2:
			cancel()
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
		case <-time.After(patience):
			t.Fatal("Run goes on")
		}
		cancel()
	}
}
