//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// heard is what a process has written so far. Any goroutine.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write keeps p.
func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

// String returns all of it.
func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// await waits for text.
func (h *heard) await(t *testing.T, text string) {
	t.Helper()
	await(t, "stderr with "+text, func() (any, bool) { return h, strings.Contains(h.String(), text) })
}

// A hangup has the file of the configuration read anew, under nohup, too. A bad one changes
// nothing, and what is wrong with it is told.
func TestUpReloads(t *testing.T) {
	echo := echoProgram(t)
	for name, wrap := range map[string][]string{"plain": nil, "nohup": {"/bin/sh", "-c", `trap "" HUP; exec "$@"`, "sh"}} {
		t.Run(name, func(t *testing.T) { testReloads(t, echo, wrap) })
	}
}

func testReloads(t *testing.T, echo string, wrap []string) {
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	config := func(limit string) string {
		return fmt.Sprintf("apps:\n  echo:\n    command: %q\n    profile: small\nprofiles:\n  small: {pool-limit: %s}\n", echo, limit)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(config("3"))
	r := prepare(t, "--config", file)
	if wrap != nil {
		r.Path, r.Args = wrap[0], append(wrap, r.Args...)
	}
	var stderr heard
	r.Stderr = &stderr
	r.begin()
	r.awaitReady()
	t.Setenv(locatorVar, r.locator)
	step{args: words("call echo ping"), out: "pong\n"}.check(t)
	step{args: words("info echo"), out: "*pool:*capacity: 3\n*"}.check(t)

	for _, c := range []struct{ text, told string }{
		{"profiles: [", "sluice: the configuration stays as it was: engine: reload: " + file + ": yaml"},
		{config("many"), file + ": profiles.small.pool-limit: is no whole number"},
		{config("4") + "listn: x\n", file + ": listn: is unknown"},
		{config("5"), "engine: profiles and groups were read anew"},
	} {
		write(c.text)
		if err := r.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		stderr.await(t, c.told)
		want := "*pool:*capacity: 3\n*"
		if c.text == config("5") {
			want = "*pool:*capacity: 5\n*"
		}
		step{args: words("info echo"), out: want}.check(t)
		step{args: words("call echo ping"), out: "pong\n"}.check(t)
	}
	r.stop(syscall.SIGTERM, 0)
}
