package service_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestListen serves TCP and a unix socket at once, each to several clients.
func TestListen(t *testing.T) {
	srv := testServer(t, service.ServerConfig{Declaration: newMemory().declaration()})
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "storage.sock")
	if err := errors.Join(srv.Listen(t.Context(), "tcp", "127.0.0.1:0"), srv.Listen(t.Context(), "unix", path)); err != nil {
		t.Fatal(err)
	}
	list := srv.Endpoints()
	if len(list) != 1 || list[0].Host != "127.0.0.1" || list[0].Port == 0 {
		t.Fatalf("Endpoints() = %v, want one of 127.0.0.1", list)
	}
	if r := srv.Resolved(); len(r.Endpoints) != 1 || r.Version != 1 {
		t.Errorf("Resolved() = %v", r)
	}
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			network, addr := "tcp", list[0].String()
			if i%2 == 1 {
				network, addr = "unix", path
			}
			conn, err := net.Dial(network, addr)
			if err != nil {
				t.Errorf("Dial() = %v", err)
				return
			}
			c := rawTo(t, conn, codec.V1)
			defer c.close()
			key := strconv.Itoa(i)
			for n := uint64(1); n < 40; n += 2 {
				c.call(n, 1, "c", key, "blob"+key)
				if m, err := c.next(); err != nil || m.Session != n || m.Type != codec.V1Value {
					t.Errorf("next() = %v, %v, want the value of %d", m, err, n)
					return
				}
				c.call(n+1, 0, "c", key)
				if m, err := c.next(); err != nil || string(m.Payload) != "blob"+key {
					t.Errorf("next() = %q, %v, want blob%s", m.Payload, err, key)
					return
				}
			}
		})
	}
	all.Wait()
	if err := srv.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if st := srv.Stats(); st.Accepted != 6 || st.Conns != 0 || st.Methods[0].Calls != 120 || st.Methods[1].Calls != 120 {
		t.Errorf("Stats() = %+v", st)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Lstat() = %v, want the socket gone", err)
	}
	if _, err := net.Dial("tcp", list[0].String()); err == nil {
		t.Error("Dial() = nil, want nobody there")
	}
}

// TestListenShared shares loops among servers, which Close leaves alone.
func TestListenShared(t *testing.T) {
	loops := oneLoop(t)
	for _, v0 := range []bool{false, true} {
		srv := testServer(t, service.ServerConfig{Declaration: newMemory().declaration(), Loops: loops, V0: v0, Host: "here"})
		if err := srv.Listen(t.Context(), "tcp", ":0"); err != nil {
			t.Fatal(err)
		}
		at := srv.Endpoints()[0]
		if at.Host != "here" {
			t.Errorf("Endpoints() = %v, want the configured host", at)
		}
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(at.Port)))
		if err != nil {
			t.Fatal(err)
		}
		d, typ := codec.V1, uint64(codec.V1Value)
		if v0 {
			d, typ = codec.V0, codec.V0Chunk
		}
		c := rawTo(t, conn, d)
		c.call(1, 3, "c", []string{})
		if m, err := c.next(); err != nil || m.Type != typ {
			t.Errorf("next() = %v, %v, want type %d", m, err, typ)
		}
		c.close()
		if err := srv.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
}

// TestListenMaxConns: one connection too many is closed at once, and its place is free
// again when another has gone.
func TestListenMaxConns(t *testing.T) {
	srv := testServer(t, service.ServerConfig{Declaration: newMemory().declaration(), MaxConns: 1})
	if err := srv.Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	connect := func() *rawClient {
		conn, err := net.Dial("tcp", srv.Endpoints()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		return rawTo(t, conn, codec.V1)
	}
	first := connect()
	first.call(1, 3, "c", []string{})
	first.want(1, codec.V1Value, []string{})
	second := connect()
	second.wantEnd()
	second.close()
	first.close()
	for begin := time.Now(); ; { // until the end of the first was noticed
		third := connect()
		third.call(1, 3, "c", []string{})
		_, err := third.next()
		third.close()
		if err == nil {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("nobody is let in again")
		}
	}
	if err := srv.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if st := srv.Stats(); st.RefusedConns < 1 {
		t.Errorf("Stats() = %+v, want one refused", st)
	}
}

func TestListenErrors(t *testing.T) {
	srv := testServer(t, service.ServerConfig{Declaration: newMemory().declaration()})
	if err := srv.Listen(t.Context(), "udp", "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "serve storage") {
		t.Errorf("Listen() = %v, want one that names the service", err)
	}
	if err := srv.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// BenchmarkServer is a primitive call and its answer over TCP, one at a time, on the loop.
func BenchmarkServer(b *testing.B) {
	srv, err := service.NewServer(service.ServerConfig{Declaration: numbered(service.Handled{
		Method: service.Method{Name: "echo", Rx: session.Primitive}, OnLoop: func(c *service.Call) { _ = c.ReplyBytes(c.Args()) }})})
	if err != nil {
		b.Fatal(err)
	}
	if err := srv.Listen(b.Context(), "tcp", "127.0.0.1:0"); err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("tcp", srv.Endpoints()[0].String())
	if err != nil {
		b.Fatal(err)
	}
	answer := make([]byte, 100)
	args := codec.Args("data").Bytes()
	var frame []byte
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		frame = codec.AppendFrame(frame[:0], codec.V1, &codec.Frame{Kind: codec.KindCall, Session: n, Args: args})
		if _, err := conn.Write(frame); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
	_ = conn.Close()
	if err := srv.Close(b.Context()); err != nil {
		b.Error(err)
	}
}
