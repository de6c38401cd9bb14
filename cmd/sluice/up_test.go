package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What up refuses, before it starts anything.
func TestUpUsage(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		args []string
		want string // in stderr
	}{
		{[]string{"extra"}, "unknown command"},
		{[]string{"--app", "echo"}, "want NAME=COMMAND"},
		{[]string{"--app", "=x"}, "want NAME=COMMAND"},
		{[]string{"--app", "echo= "}, "want NAME=COMMAND"},
		{[]string{"--app", "a=x", "--package", "a=y"}, "a is there twice"},
		{[]string{"--protocol", "2"}, "want 0 or 1"},
		{[]string{"--grace", "-1s"}, "has to be positive"},
		{[]string{"--log-level", "loud"}, "loud"},
		{[]string{"--log-format", "xml"}, "want text or json"},
		{[]string{"--listen", "nowhere"}, "nowhere"},
		{[]string{"--config", file("a.yaml", "apps: [")}, "a.yaml"},
		{[]string{"--config", file("b.yaml", "listen: a\nlisten: b\n")}, "b.yaml"},
		{[]string{"--config", file("c.yaml", "no-such-field: 1\n")}, "no-such-field"},
		{[]string{"--config", file("d.json", "{\n\n,}")}, "line 3"},
	} {
		r := sluice(t, "", append([]string{"up"}, c.args...)...)
		if r.exit != exitUsage || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("sluice up %q = %+v, want exit status 2 and %q", c.args, r, c.want)
		}
	}
}

// What is in the way of a runtime is no mistake of the command line.
func TestUpFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		args []string
		want string // in stderr
	}{
		{[]string{"--listen", taken.Addr().String()}, taken.Addr().String()},
		{[]string{"--config", "/no/such/file.yaml"}, "/no/such/file.yaml"},
		{[]string{"--listen", "127.0.0.1:65535"}, "no port above 65535 is free: there is none\n"},
	} {
		r := sluice(t, "", append([]string{"up"}, c.args...)...)
		if r.exit != exitLocal || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("sluice up %q = %+v, want exit status 3 and %q", c.args, r, c.want)
		}
	}
}

// No runtime, and who says so.
func TestNoRuntime(t *testing.T) {
	const addr = "127.0.0.1:1" // which no other test gets
	for _, args := range []string{"ls", "call echo echo x", "info storage", "storage read a b", "app list", "ping", "tail"} {
		r := sluice(t, "", append(strings.Fields(args), "--locator", addr)...)
		want := "sluice: no runtime answers at " + addr + ": connection refused; start one with 'sluice up'\n"
		if r.exit != exitLocal || r.err != want || r.out != "" {
			t.Errorf("sluice %s = %+v, want exit status 3 and %q", args, r, want)
		}
	}
}

// A runtime that takes connections and says nothing.
func TestMuteRuntime(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	r := sluice(t, "", "info", "storage", "--timeout", "100ms", "--locator", mute.Addr().String())
	if r.exit != exitLocal || !strings.Contains(r.err, "no whole answer within 100ms") {
		t.Errorf("sluice info = %+v, want exit status 3", r)
	}
}
