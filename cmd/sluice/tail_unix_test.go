//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

// Records that were there before, those that come, and the end by an interrupt.
func TestTail(t *testing.T) {
	r := up(t)
	t.Setenv(locatorVar, r.locator)
	emit := func(severity, source, message string, attrs ...string) {
		t.Helper()
		step{args: append([]string{"call", "logging", "emit", severity, source, message}, attrs...)}.check(t)
	}
	emit("1", "app/echo", "first", `[["k", 1], ["text", "a b"], ["esc", "\u001b[2J"]]`)
	emit("3", "app/shop", "other")

	follow := tailOf(t, "--source", "app/echo")
	follow.want(`INFO  app/echo: first k=1 text=a b esc="\x1b[2J"`)
	emit("0", "app/echo", "quiet")
	emit("2", "app/shop", "other")
	emit("2", "app/echo/deep", "below")
	follow.want("DEBUG app/echo: quiet")
	follow.want("WARN  app/echo/deep: below")
	follow.stop()

	got := sluice(t, "", "tail", "--no-follow", "--level", "error", "--json")
	var rec record
	if err := json.Unmarshal([]byte(got.out), &rec); got.exit != 0 || err != nil || rec.Source != "app/shop" || rec.Message != "other" || rec.Level != "ERROR" {
		t.Errorf("sluice tail = %+v, want one record of app/shop", got)
	}
	if got := sluice(t, "", "tail", "--no-follow", "--recent", "1"); strings.Count(got.out, "\n") != 1 || got.exit != 0 {
		t.Errorf("sluice tail --recent 1 = %+v, want one record", got)
	}
	// Its time begins before it is connected, which may take long.
	for timeout := time.Second; ; timeout *= 2 {
		got := sluice(t, "", "tail", "--timeout", timeout.String(), "--recent", "0")
		if got == (result{}) {
			break
		}
		if timeout > patience {
			t.Fatalf("sluice tail --timeout %v = %+v, want nothing, and no error", timeout, got)
		}
	}
}

// follower is sluice tail that goes on.
type follower struct {
	t      *testing.T
	cancel context.CancelFunc
	lines  chan string
	exit   chan int
	errs   *bytes.Buffer // its stderr; to be read after stop
}

func tailOf(t *testing.T, args ...string) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{t: t, cancel: cancel, lines: make(chan string, 100), exit: make(chan int, 1), errs: new(bytes.Buffer)}
	in, out := io.Pipe()
	go func() {
		p := program{in: strings.NewReader(""), out: out, err: &lockedWriter{w: f.errs}, hard: context.Background()}
		f.exit <- p.run(ctx, append([]string{"tail"}, args...))
		out.Close()
	}()
	go func() {
		defer close(f.lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			f.lines <- s.Text()
		}
	}()
	return f
}

// want waits for the next line, which has a time in front.
func (f *follower) want(text string) {
	f.t.Helper()
	select {
	case line := <-f.lines:
		if _, rest, _ := strings.Cut(line, " "); rest != text {
			f.t.Errorf("tail printed %q, want %q", line, text)
		}
	case <-time.After(patience):
		f.t.Fatalf("tail did not print %q", text)
	}
}

func (f *follower) stop() {
	f.t.Helper()
	f.cancel()
	if exit := <-f.exit; exit != 0 {
		f.t.Errorf("tail ended with exit status %d, want 0", exit)
	}
	for line := range f.lines {
		f.t.Errorf("tail printed %q, want nothing more", line)
	}
}
