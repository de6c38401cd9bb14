package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/engine/enginetest"
)

// invoke runs sluice invoke for a worker. One that SIGTERM ends is not killed, however slow
// the machine is.
func invoke(t *testing.T, stdin, protocol, worker string, args ...string) result {
	t.Helper()
	return program{kill: time.Hour}.test(t, stdin, append([]string{"invoke", "--protocol", protocol, "--worker", worker}, args...)...)
}

// TestInvoke runs sluice invoke with a program of ours, in both dialects.
func TestInvoke(t *testing.T) {
	echo := "env GORACE=atexit_sleep_ms=0 '" + enginetest.Build(t, "../../examples/echo") + "'"
	random := make([]byte, 200_000)
	rand.NewChaCha8([32]byte{1}).Read(random)
	for _, c := range []struct {
		args  string
		stdin string
		want  result // err is what is in stderr
	}{
		{"echo hello", "", result{0, "hello\n", ""}},
		{"echo hel lo", "", result{0, "hello\n", ""}},
		{"echo", "", result{0, "", ""}},
		{"echo -", "no newline", result{0, "no newline", ""}},
		{"echo -", string(random), result{0, string(random), ""}},
		{"echo -", "", result{0, "", ""}},
		{"echo - x", "", result{0, "-x\n", ""}},
		{"echo -- --x", "", result{0, "--x\n", ""}},
		{"ping", "", result{0, "pong\n", ""}},
		{"ping many chunks that nobody wants", "", result{0, "pong\n", ""}},
		{"--timeout 1m sleep 1ms", "", result{0, "1ms\n", ""}},
		{"fail", "", result{exitRemote, "", "sluice: [42, 7] told to fail\n"}},
		{"panic", "", result{exitRemote, "", "sluice: [42, 100] the handler"}},
		{"nothing", "", result{exitRemote, "", "sluice: [42, 200] "}},
	} {
		for _, protocol := range []string{"0", "1"} {
			want := c.want
			if protocol == "0" {
				want.err = strings.ReplaceAll(want.err, "[42, ", "[")
			}
			r := invoke(t, c.stdin, protocol, echo, strings.Fields(c.args)...)
			if r.exit != want.exit || r.out != want.out || !strings.Contains(r.err, want.err) {
				t.Errorf("protocol %s: invoke %s = %.200v, want %.200v", protocol, c.args, r, want)
			}
		}
	}
}

// The worker cannot be told that nobody waits any more: it is made to end.
func TestInvokeTimeout(t *testing.T) {
	t.Parallel()
	r := invoke(t, "", "1", asRole("serve"), "--timeout", "50ms", "hang")
	if r.exit != exitLocal || r.out != "" || !strings.Contains(r.err, "sluice: no whole answer within 50ms\n") {
		t.Errorf("invoke = %+v, want exit status 3", r)
	}
}

// A worker that does not end in time is no reason to lose its answer.
func TestInvokeLinger(t *testing.T) {
	t.Parallel()
	r := invoke(t, "", "1", asRole("serve"), "linger")
	if r.exit != 0 || r.out != "done\n" || !strings.Contains(r.err, "sluice: worker: it did not end in time after a terminate (signal: terminated)\n") {
		t.Errorf("invoke = %+v, want the answer, and a word about the worker", r)
	}
}

// go run is a leader that is not the worker, and takes its time.
func TestInvokeGoRun(t *testing.T) {
	if r := invoke(t, "", "1", "go run ../../examples/echo", "echo", "hello"); r.exit != 0 || r.out != "hello\n" {
		t.Errorf("invoke = %+v, want hello", r)
	}
}

func TestInvokeFlags(t *testing.T) {
	r := invoke(t, "", "1", asRole("serve"), "--header", "a=b", "--header", "c=d=e", "headers")
	if want := "a=b;c=d=e;\n"; r.exit != 0 || r.out != want {
		t.Errorf("invoke = %+v, want %q", r, want)
	}
	r = invoke(t, "", "0", asRole("serve"), "--app", "shop", "--locator", "example.org:1", "app")
	if want := "shop [example.org:1]\n"; r.exit != 0 || r.out != want {
		t.Errorf("invoke = %+v, want %q", r, want)
	}
}

// Everything that can go wrong with the worker.
func TestInvokeFailures(t *testing.T) {
	for name, c := range map[string]struct {
		worker string
		args   []string
		want   []string // in stderr
	}{
		"no program": {"/no/such/program", []string{"x"}, []string{"/no/such/program", "sluice: worker: the process ended by itself (exit status 127)"}},
		"bad shell":  {"'", []string{"x"}, []string{"sluice: worker: the process ended by itself (exit status 2)"}},
		"exits":      {asRole("exit"), []string{"x"}, []string{"no such module\n", "sluice: worker: the process ended by itself (exit status 4)"}},
		"dies":       {asRole("serve"), []string{"die"}, []string{"going down\n", "sluice: worker: the process ended by itself (exit status 5)"}},
		"mute": {asRole("mute"), []string{"--handshake-timeout", "1100ms", "x"},
			[]string{"sluice: waiting for the worker's handshake, up to 1.1s\n", "sluice: worker: not ready within 1.1s (signal: terminated)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := invoke(t, "", "1", c.worker, c.args...)
			for _, want := range c.want {
				if r.exit != exitLocal || r.out != "" || !strings.Contains(r.err, want) {
					t.Errorf("invoke = %+v, want exit status 3 and %q", r, want)
				}
			}
		})
	}
}

// A worker that ignores SIGTERM too is killed.
func TestInvokeStubborn(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	r := sluice(t, "", "invoke", "--worker", asRole("stubborn"), "--timeout", "10ms", "hang")
	if took := time.Since(begin); r.exit != exitLocal || took < terminateTimeout+killTimeout {
		t.Errorf("invoke = %+v after %v, want that it was killed", r, took)
	}
}
