package main

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/engine/enginetest"
	"github.com/sluice-rpc/sluice/session"
)

// invoke returns what the worker answers to the chunks.
func invoke(t *testing.T, s *engine.Slave, event string, chunks ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	call, err := s.Invoke(ctx, event, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if err := call.Send(ctx, []byte(c)); err != nil {
			break // the worker may have answered already
		}
	}
	_ = call.Close()
	answer, err := io.ReadAll(call.Reader(ctx))
	return string(answer), err
}

func TestEcho(t *testing.T) {
	program := enginetest.Build(t, ".")
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		t.Run("events "+d.String(), func(t *testing.T) { testEvents(t, program, d) })
		t.Run("http "+d.String(), func(t *testing.T) { testHTTP(t, program, d) })
	}
	t.Run("sleep is cut", func(t *testing.T) { testSleepIsCut(t, program) })
	t.Run("without engine", func(t *testing.T) { testWithoutEngine(t, program) })
}

func testEvents(t *testing.T, program string, d codec.Dialect) {
	s := enginetest.Spawn(t, engine.SlaveConfig{Command: []string{program}, Dialect: d})
	for _, c := range []struct {
		event  string
		chunks []string
		want   string
		code   int64 // of the error
	}{
		{"echo", []string{"hello", " ", "world"}, "hello world", 0},
		{"echo", nil, "", 0},
		{"ping", nil, "pong", 0},
		{"ping", []string{"ignored"}, "pong", 0},
		{"sleep", []string{"1ms"}, "1ms", 0},
		{"sleep", []string{"soon"}, "", 1},
		{"fail", nil, "", 7},
		{"panic", nil, "", session.CodePanic},
		{"nothing", nil, "", session.CodeNoHandler},
	} {
		got, err := invoke(t, s, c.event, c.chunks...)
		var se *session.Error
		errors.As(err, &se)
		if got != c.want || (c.code == 0) != (err == nil) || se != nil && (!se.Remote || se.Code != c.code) {
			t.Errorf("%s %q = %q, %v, want %q, code %d", c.event, c.chunks, got, err, c.want, c.code)
		}
	}
	if err := s.Terminate(t.Context(), 1, "the test is over"); err != nil {
		t.Errorf("Terminate() = %v, want nil", err)
	}
}

// A handler that sleeps is woken by the end of its session.
func testSleepIsCut(t *testing.T, program string) {
	s := enginetest.Spawn(t, engine.SlaveConfig{Command: []string{program}, Dialect: codec.V1})
	call, err := s.Invoke(t.Context(), "sleep", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := call.Send(t.Context(), []byte("1h")); err != nil {
		t.Fatal(err)
	}
	if err := call.Fail(session.CategoryWorker, session.CodeDeadline, "too long"); err != nil {
		t.Fatal(err)
	}
	if p, err := call.Recv(t.Context()); err == nil {
		t.Errorf("Recv() = %q, want the end of the session", p)
	}
	if err := s.Terminate(t.Context(), 1, "the test is over"); err != nil {
		t.Errorf("Terminate() = %v, want nil", err)
	}
}

func testWithoutEngine(t *testing.T, program string) {
	out, err := exec.Command(program).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "sluice invoke --worker") {
		t.Errorf("echo without flags: %v, %q, want exit status 2 and what to do", err, out)
	}
}

// The answer to an HTTP request is a head and a body.
func testHTTP(t *testing.T, program string, d codec.Dialect) {
	s := enginetest.Spawn(t, engine.SlaveConfig{Command: []string{program}, Dialect: d})
	for _, c := range []struct{ method, body, want string }{
		{"GET", "", "hello, GET /a?b"},
		{"POST", "what\ncame", "hello, POST /a?b\nwhat\ncame"},
		{"HEAD", "", ""},
	} {
		call, err := s.Invoke(t.Context(), "http", nil)
		if err != nil {
			t.Fatal(err)
		}
		headers := []any{[]any{"Host", "example.org"}}
		if err := call.Send(t.Context(), codec.Args(c.method, "/a?b", "1.1", headers, c.body).Bytes()); err != nil {
			t.Fatal(err)
		}
		_ = call.Close()
		status, got := 0, ""
		for chunk, err := range call.Chunks(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			switch r := codec.NewReader(chunk); {
			case status == 0:
				status = r.Int()
			case d == codec.V0:
				r = codec.NewValueReader(chunk)
				got += r.String()
			default:
				got += string(chunk)
			}
		}
		if status != 200 || got != c.want {
			t.Errorf("%s = %d %q, want 200 %q", c.method, status, got, c.want)
		}
	}
	if err := s.Terminate(t.Context(), 1, "the test is over"); err != nil {
		t.Errorf("Terminate() = %v, want nil", err)
	}
}
