//go:build unix

package engine_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

// running is an engine of a test.
type running struct {
	*engine.Engine
	stop func() error // ends Run and returns what that did
}

// run runs an engine on free ports until the end of the test, which fails if Run does.
func run(t *testing.T, cfg engine.Config) *running {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(&testWriter{t}, nil))
	}
	e, err := engine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stopped := false
	r := &running{Engine: e, stop: func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	select {
	case <-e.Ready():
	case err := <-ended:
		stopped = true
		t.Fatalf("Run() = %v before Ready", err)
	}
	return r
}

type testWriter struct{ t *testing.T }

// Write logs a line, without its newline.
func (w *testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// caller is a client of a service, frame by frame.
type caller struct {
	*rawWorker
	t    *testing.T
	last uint64
}

func callerOf(t *testing.T, e service.Endpoint, d codec.Dialect) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", e.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{rawWorker: newRaw(conn, d), t: t}
}

// open sends a call, and returns its session.
func (c *caller) open(method uint64, args ...any) uint64 {
	c.t.Helper()
	c.last++
	if err := c.send(codec.Frame{Kind: codec.KindCall, Session: c.last, Type: method, Args: codec.Args(args...).Bytes()}); err != nil {
		c.t.Fatal(err)
	}
	return c.last
}

// answer returns the next message of the service.
func (c *caller) answer() codec.Message {
	c.t.Helper()
	_, m, err := c.next()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// call sends a primitive call and returns the arguments of its value; code is not zero
// for an error.
func (c *caller) call(method uint64, args ...any) (value []byte, code int64, text string) {
	c.t.Helper()
	id := c.open(method, args...)
	m := c.answer()
	if m.Session != id {
		c.t.Fatalf("the answer is on session %d, want %d", m.Session, id)
	}
	if m.Type == codec.V1ValueError {
		category, code, message, _ := codec.DecodeError(&m)
		if category != service.CategoryNode && category != service.CategoryLocator && category != service.CategoryGeneric {
			c.t.Errorf("the error has category %d", category)
		}
		return nil, code, string(message)
	}
	return m.Args, 0, ""
}

// want fails the test unless a call ends in a code and a text.
func (c *caller) wantError(code int64, text string, method uint64, args ...any) {
	c.t.Helper()
	_, got, message := c.call(method, args...)
	if got != code || !strings.Contains(message, text) {
		c.t.Errorf("call %d%v = [%d] %q, want [%d] %q", method, args, got, message, code, text)
	}
}

// wantOK fails the test if a call ends in an error.
func (c *caller) wantOK(method uint64, args ...any) []byte {
	c.t.Helper()
	value, code, text := c.call(method, args...)
	if code != 0 {
		c.t.Fatalf("call %d%v = [%d] %q, want a value", method, args, code, text)
	}
	return value
}

// find resolves a service.
func (r *running) find(t *testing.T, name string) (service.Resolved, bool) {
	t.Helper()
	return lookUp(t, r.Endpoint(), name)
}

func lookUp(t *testing.T, locator service.Endpoint, name string) (service.Resolved, bool) {
	t.Helper()
	c := callerOf(t, locator, codec.V1)
	defer c.Close()
	value, code, _ := c.call(0, name)
	if code != 0 {
		return service.Resolved{}, false
	}
	s, err := service.DecodeResolved(value)
	if err != nil {
		t.Fatal(err)
	}
	return s, true
}

// service connects to a service.
func (r *running) service(t *testing.T, name string) *caller {
	t.Helper()
	s, ok := r.find(t, name)
	if !ok {
		t.Fatalf("there is no service %q", name)
	}
	return callerOf(t, s.Endpoints[0], codec.V1)
}

// wantEcho has an application's worker answer an event.
func (c *caller) wantEcho(method uint64, args ...any) {
	c.t.Helper()
	id := c.open(method, args...)
	if err := c.send(codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte("hello")}, codec.Frame{Kind: codec.KindChoke, Session: id}); err != nil {
		c.t.Fatal(err)
	}
	if m := c.answer(); m.Session != id || m.Type != codec.V1Write || string(m.Payload) != "hello" {
		c.t.Fatalf("the answer is %+v %q, want a chunk", m, m.Args)
	}
	if m := c.answer(); m.Session != id || m.Type != codec.V1Close {
		c.t.Fatalf("the answer is %+v %q, want a close", m, m.Args)
	}
}

// echoSource is this program as an application.
func echoSource(name, role string) engine.Source {
	return engine.Source{Name: name, Command: []string{os.Args[0]}, Env: []string{roleVar + "=" + role, "GORACE=atexit_sleep_ms=0"}}
}

// echoPackage is this program as a package: a script that starts it.
func echoPackage(t *testing.T, role string) *engine.Package {
	t.Helper()
	p, err := engine.ReadPackage(echoDir(t, role), engine.PackageLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func echoDir(t *testing.T, role string) string {
	t.Helper()
	return onDisk(t, []entry{
		{name: "manifest.json", body: `{"slave": "run.sh", "environment": {"` + roleVar + `": "` + role + `", "GORACE": "atexit_sleep_ms=0"}}`, mode: 0o644},
		{name: "run.sh", body: "#!/bin/sh\nexec '" + os.Args[0] + "' \"$@\"\n", mode: 0o755},
	})
}

const (
	startApp, pauseApp, listApps, appInfo, controlApp, enqueueApp = 0, 1, 2, 3, 4, 5
	notRunning, alreadyStarted                                    = service.NodeNotRunning, service.NodeAlreadyStarted
)

// others returns the processes of this program that are alive, without this one (Linux
// only).
func others(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range list {
		line, _ := os.ReadFile(name)
		if strings.HasPrefix(string(line), os.Args[0]+"\x00") && filepath.Base(filepath.Dir(name)) != strconv.Itoa(os.Getpid()) {
			found = append(found, name)
		}
	}
	return found
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}
