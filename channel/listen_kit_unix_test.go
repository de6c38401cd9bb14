//go:build unix && !aix && !solaris

package channel

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// socketDir is a directory that Listen trusts, empty again at the end of the test.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, remove, err := PrivateDir("sluice-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mustListen(t *testing.T, network, addr string, cfg ListenConfig) *Listener {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = silent
	}
	l, err := Listen(t.Context(), network, addr, cfg)
	if err != nil {
		t.Fatalf("Listen(%s, %q) = %v", network, addr, err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return l
}

// fileNames lists a directory.
func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// deadSocketAt leaves a socket at path that nobody listens on.
func deadSocketAt(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
}

// greet serves l with one line for each connection, until the test ends.
func greet(t *testing.T, l *Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- l.Serve(func(c net.Conn) {
			_, _ = c.Write([]byte("hello\n"))
			_ = c.Close()
			l.Release()
		})
	}()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
}

// greeting connects and returns what it is told, "" if it is refused.
func greeting(t *testing.T, network, addr string) string {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	text, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("no answer from %s: %v", addr, err)
	}
	return strings.TrimSpace(string(text))
}
