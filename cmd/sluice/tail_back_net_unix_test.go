//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// fakeRuntime is a locator that goes on, and a log whose service comes and goes.
type fakeRuntime struct {
	t       *testing.T
	locator string
	log     *engine.LoggingService
	now     time.Time // of records
	serving *service.Server

	mu   sync.Mutex
	tail *service.Resolved // nil: there is none
}

func newFakeRuntime(t *testing.T) *fakeRuntime {
	r := &fakeRuntime{t: t, now: time.Now().Round(time.Second)}
	srv := r.serve(service.Declaration{Name: "locator", Version: 3, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, OnLoop: r.resolve},
	}})
	r.locator = srv.Endpoints()[0].String()
	r.newLog()
	r.open()
	return r
}

func (r *fakeRuntime) resolve(c *service.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tail == nil {
		_ = c.Fail(service.CategoryLocator, service.LocatorNotAvailable, "service is not available")
		return
	}
	_ = c.ReplyBytes(service.AppendResolved(nil, *r.tail))
}

func (r *fakeRuntime) serve(d service.Declaration) *service.Server {
	r.t.Helper()
	srv, err := service.NewServer(service.ServerConfig{Declaration: d, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = srv.Listen(r.t.Context(), "tcp", "127.0.0.1:0")
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.end(srv) })
	return srv
}

// end closes a server as one that is killed.
func (r *fakeRuntime) end(srv *service.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = srv.Close(ctx) // which says that calls were cut
}

// newLog begins a log, whose numbers begin at 0.
func (r *fakeRuntime) newLog() {
	r.t.Helper()
	log, err := engine.NewLoggingService(engine.LoggingConfig{
		Handler: slog.DiscardHandler, Now: func() time.Time { r.now = r.now.Add(time.Millisecond); return r.now }})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = log.Close(context.Background()) })
	r.log = log
}

// open has the log be followed, at a new port.
func (r *fakeRuntime) open() {
	r.serving = r.serve(r.log.TailDeclaration())
	there := r.serving.Resolved()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tail = &there
}

// close ends what follows the log: as a runtime that is stopped, or as one that is killed.
func (r *fakeRuntime) close(killed bool) {
	r.t.Helper()
	r.mu.Lock()
	r.tail = nil
	r.mu.Unlock()
	if killed {
		r.end(r.serving)
	} else if err := r.serving.Close(r.t.Context()); err != nil {
		r.t.Error(err)
	}
}

func (r *fakeRuntime) emit(messages ...string) {
	for _, m := range messages {
		r.log.Emit(slog.LevelInfo, "app", m)
	}
}

// untilSeen emits records until one is shown, and reads those that come behind it.
func (r *fakeRuntime) untilSeen(f *follower) {
	r.t.Helper()
	for n := 0; ; n++ {
		text := fmt.Sprint("early ", n)
		r.emit(text)
		select {
		case line := <-f.lines:
			for !strings.HasSuffix(line, " INFO  app: "+text) {
				line = <-f.lines
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// The runtime ends, and is back with the log that it had, or with another one: each record is
// shown once, and each end is told once.
func TestTailBack(t *testing.T) {
	for _, recent := range []string{"2", "0"} {
		r := newFakeRuntime(t)
		r.emit("old", "one", "two")
		t.Setenv(locatorVar, r.locator)
		f := tailOf(t, "--recent", recent)
		if recent == "2" {
			f.want("INFO  app: one")
			f.want("INFO  app: two")
		} else {
			r.untilSeen(f)
		}
		r.close(true)
		r.emit("while away")
		r.open()
		f.want("INFO  app: while away")
		r.emit("three")
		f.want("INFO  app: three")
		r.close(false)
		r.newLog() // with small numbers
		r.emit("anew")
		r.open()
		f.want("INFO  app: anew")
		r.emit("four")
		f.want("INFO  app: four")
		r.close(true)
		f.stop() // while it waits
		want := "sluice: warning: the runtime has ended, or cannot be reached: waiting for it\n"
		if got := f.errs.String(); got != strings.Repeat(want, 2) && got != strings.Repeat(want, 3) {
			t.Errorf("tail printed %q on stderr, want that the runtime is away, once each time", got)
		}
	}
}

// A service that ends the connection instead of an answer does not know what it was asked
// for: nothing is waited for.
func TestTailRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 100))
			_ = conn.Close()
		}
	}()
	r := newFakeRuntime(t)
	e, err := service.ParseLocators(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.tail.Endpoints = e
	r.mu.Unlock()
	t.Setenv(locatorVar, r.locator)
	for _, args := range [][]string{{"tail"}, {"tail", "--recent", "0"}, {"tail", "--no-follow"}} {
		if got := sluice(t, "", args...); got.exit != exitLocal || !strings.Contains(got.err, "refused what it was sent") {
			t.Errorf("sluice %q = %+v, want that it was refused", args, got)
		}
	}
}
