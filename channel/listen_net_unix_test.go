//go:build unix && !aix && !solaris

package channel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestListenServe(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, network := range []string{"tcp", "tcp4", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(socketDir(t), "s")
			}
			l := mustListen(t, network, addr, ListenConfig{})
			greet(t, l)
			for range 3 {
				if got := greeting(t, network, l.Addr().String()); got != "hello" {
					t.Fatalf("greeting() = %q", got)
				}
			}
			if err := errors.Join(l.Close(), l.Close()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			if got, want := l.Stats(), (ListenStats{Accepted: 3}); got != want {
				t.Errorf("Stats() = %+v, want %+v", got, want)
			}
			if err := l.Serve(nil); err == nil {
				t.Error("a second Serve works")
			}
		})
	}
	eventually(t, "as few goroutines as before", func() bool { return runtime.NumGoroutine() <= before })
}

func TestListenBadNetwork(t *testing.T) {
	for _, network := range []string{"", "udp", "unixgram", "tcp9"} {
		var unknown net.UnknownNetworkError
		if _, err := Listen(t.Context(), network, "127.0.0.1:0", ListenConfig{}); !errors.As(err, &unknown) {
			t.Errorf("Listen(%q) = %v, want UnknownNetworkError", network, err)
		}
	}
	if _, err := Listen(t.Context(), "tcp", "127.0.0.1:99999", ListenConfig{}); err == nil {
		t.Error("Listen on port 99999 works")
	}
}

// TestCatalogueListen has the rows of the fault catalogue that listeners answer for.
func TestCatalogueListen(t *testing.T) {
	t.Run("D1", func(t *testing.T) {
		t.Run("once", TestListenBackoff)
		t.Run("30s", exhaustedFor30s)
	})
	t.Run("D2", tooManyConns)
	t.Run("D17", otherThingsAtPath)
	t.Run("D18", liveAndDead)
	t.Run("D19", untrustedPlaces)
	t.Run("D20", umasks)
	t.Run("D23", addresses)
}

func tooManyConns(t *testing.T) {
	const limit, extra = 5, 20
	l := mustListen(t, "tcp", "127.0.0.1:0", ListenConfig{MaxConns: limit})
	served := make(chan net.Conn, limit+extra)
	go func() { _ = l.Serve(func(c net.Conn) { served <- c }) }()
	var kept []net.Conn
	for range limit {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s := <-served
		defer s.Close()
		kept = append(kept, c, s)
	}
	for range extra {
		if got := greeting(t, "tcp", l.Addr().String()); got != "" {
			t.Errorf("over the limit: %q", got)
		}
	}
	for i := 0; i < len(kept); i += 2 {
		buf := make([]byte, 4)
		_, _ = kept[i].Write([]byte("ping"))
		if _, err := io.ReadFull(kept[i+1], buf); err != nil || string(buf) != "ping" {
			t.Errorf("a connection within the limit: %q, %v", buf, err)
		}
	}
	if got, want := l.Stats(), (ListenStats{Accepted: limit, Active: limit, Refused: extra}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
	_ = kept[0].Close()
	l.Release()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = (<-served).Close()
}

func addresses(t *testing.T) {
	t.Run("abstract", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			refused(t, "@sluice-test", "Linux only")
			return
		}
		name := fmt.Sprintf("@sluice-test-%d", os.Getpid())
		l := mustListen(t, "unix", name, ListenConfig{})
		greet(t, l)
		if got := greeting(t, "unix", l.Addr().String()); got != "hello" {
			t.Errorf("greeting() = %q", got)
		}
		refused(t, name, "address already in use")
		refused(t, "@", "empty")
		refused(t, "@"+strings.Repeat("x", maxSocketPath+1), "the limit is")
		mustListen(t, "unix", name+strings.Repeat("x", maxSocketPath+1-len(name)), ListenConfig{})
	})
	t.Run("path", func(t *testing.T) {
		dir := socketDir(t)
		base := strings.Repeat("s", maxSocketPath-len(dir)-1)
		refused(t, filepath.Join(dir, base+"s"), "the limit is")
		deep := filepath.Join(dir, base[:len(base)-2])
		if err := os.Mkdir(deep, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(deep)
		for _, path := range []string{filepath.Join(dir, base), filepath.Join(deep, "s")} {
			l := mustListen(t, "unix", path, ListenConfig{})
			greet(t, l)
			if got := greeting(t, "unix", path); got != "hello" {
				t.Errorf("greeting() = %q", got)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("relative path", func(t *testing.T) {
		dir := socketDir(t)
		t.Chdir(dir)
		l := mustListen(t, "unix", "./x/../s", ListenConfig{})
		t.Chdir("/")
		if err := l.Close(); err != nil || len(fileNames(t, dir)) > 0 {
			t.Errorf("Close() = %v, left %v", err, fileNames(t, dir))
		}
	})
	t.Run("scope", func(t *testing.T) {
		host := linkLocal()
		if host == "" {
			t.Skip("no interface has a link-local IPv6 address")
		}
		l := mustListen(t, "tcp6", net.JoinHostPort(host, "0"), ListenConfig{})
		greet(t, l)
		if got := greeting(t, "tcp6", l.Addr().String()); got != "hello" {
			t.Errorf("greeting() = %q", got)
		}
	})
}

// linkLocal returns an address with its zone, or "".
func linkLocal() string {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() == nil && ip.IP.IsLinkLocalUnicast() {
				return ip.IP.String() + "%" + i.Name
			}
		}
	}
	return ""
}
