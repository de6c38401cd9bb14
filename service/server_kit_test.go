package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// oneLoop is an event loop that servers and clients share; they are closed before it.
func oneLoop(t *testing.T) *channel.Loops {
	t.Helper()
	loops, err := channel.NewLoops(channel.LoopsConfig{N: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loops.Close(context.Background()) })
	return loops
}

// testServer is a server that logs nothing; the test closes it.
func testServer(t *testing.T, cfg service.ServerConfig) *service.Server {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	srv, err := service.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// rawClient is a client that writes bytes.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	d    codec.Dialect
	scan *codec.Scanner
	buf  []byte
}

func rawTo(t *testing.T, conn net.Conn, d codec.Dialect) *rawClient {
	return &rawClient{t: t, conn: conn, d: d, scan: codec.NewScanner(d, codec.Limits{})}
}

// dial attaches one more raw client.
func dial(t *testing.T, srv *service.Server, d codec.Dialect, script ...channel.Script) *rawClient {
	t.Helper()
	var s channel.Script
	if len(script) > 0 {
		s = script[0]
	}
	ours, theirs := channel.Pair(s)
	if err := srv.Attach(theirs); err != nil {
		t.Fatalf("Attach() = %v", err)
	}
	return rawTo(t, ours, d)
}

func (c *rawClient) write(p []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(p); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("Write() = %v", err)
	}
}

// frame encodes [session, typ, args] in the client's dialect.
func (c *rawClient) frame(sess, typ uint64, values ...any) []byte {
	return c.frameWith(sess, typ, nil, values...)
}

func (c *rawClient) frameWith(sess, typ uint64, headers []codec.Header, values ...any) []byte {
	a := codec.Args(values...)
	if a.Err() != nil {
		c.t.Fatal(a.Err())
	}
	return codec.AppendFrame(nil, c.d, &codec.Frame{Kind: codec.KindCall, Session: sess, Type: typ, Args: a.Bytes(), Headers: headers})
}

func (c *rawClient) call(sess, typ uint64, values ...any) {
	c.t.Helper()
	c.write(c.frame(sess, typ, values...))
}

// next reads one frame, or returns the error that the stream ends with.
func (c *rawClient) next() (codec.Message, error) {
	for {
		var m codec.Message
		n, err := c.scan.Next(c.buf, &m)
		if err != nil {
			return m, err
		}
		if n > 0 {
			m = m.Clone()
			c.buf = c.buf[n:]
			return m, nil
		}
		p := make([]byte, 64<<10)
		_ = c.conn.SetReadDeadline(time.Now().Add(time.Minute))
		k, err := c.conn.Read(p)
		if err != nil {
			return m, err
		}
		c.buf = append(c.buf, p[:k]...)
	}
}

// want reads one frame and compares it.
func (c *rawClient) want(sess, typ uint64, values ...any) {
	c.t.Helper()
	c.wantArgs(sess, typ, codec.Args(values...).Bytes())
}

func (c *rawClient) wantArgs(sess, typ uint64, args []byte) {
	c.t.Helper()
	m, err := c.next()
	if err != nil || m.Session != sess || m.Type != typ || !bytes.Equal(m.Args, args) {
		c.t.Fatalf("next() = [%d, %d, %x], %v, want [%d, %d, %x]", m.Session, m.Type, m.Args, err, sess, typ, args)
	}
	if len(m.Headers) > 0 {
		c.t.Errorf("an answer has headers %x, want none", m.Headers)
	}
}

// wantError reads one v1 error.
func (c *rawClient) wantError(sess uint64, category, code int64) string {
	c.t.Helper()
	m, err := c.next()
	if err != nil {
		c.t.Fatalf("next() = %v, want an error frame", err)
	}
	cat, got, text, ok := codec.DecodeError(&m)
	if !ok || m.Session != sess || m.Type != 1 || cat != category || got != code {
		c.t.Fatalf("next() = [%d, %d, %x], want error [%d, %d] on %d", m.Session, m.Type, m.Args, category, code, sess)
	}
	return string(text)
}

// wantEnd reads the end of the connection.
func (c *rawClient) wantEnd() {
	c.t.Helper()
	m, err := c.next()
	if err == nil {
		c.t.Fatalf("next() = [%d, %d, %x], want the end", m.Session, m.Type, m.Args)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("next() = %v, want io.EOF", err)
	}
}

// wantNothing checks that nothing comes within a second.
func (c *rawClient) wantNothing() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
	var p [1]byte
	if n, err := c.conn.Read(p[:]); !errors.Is(err, os.ErrDeadlineExceeded) || len(c.buf) > 0 {
		c.t.Fatalf("Read() = %d, %v, want nothing", n, err)
	}
}

func (c *rawClient) close() { _ = c.conn.Close() }

// bubble runs f in a synctest bubble with a server, and closes that.
func bubble(t *testing.T, cfg service.ServerConfig, f func(t *testing.T, srv *service.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := testServer(t, cfg)
		f(t, srv)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := srv.Close(ctx); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if st := srv.Stats(); st.Conns != 0 || st.Pending != 0 {
			t.Errorf("Stats() = %+v, want nothing open", st)
		}
	})
}

// memory is a storage service in memory, with the answers of the runtimes.
type memory struct {
	mu   sync.Mutex
	data map[string]string // collection/key
	tags map[string][]string
}

func newMemory() *memory {
	return &memory{data: map[string]string{}, tags: map[string][]string{}}
}

func (m *memory) declaration() service.Declaration {
	collection := service.Arg{Name: "collection", Kind: service.StringArg}
	key := service.Arg{Name: "key", Kind: service.StringArg}
	return service.Declaration{Name: "storage", Version: 1, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "read", Rx: session.Primitive}, Args: []service.Arg{collection, key}, Serve: m.read},
		{Method: service.Method{ID: 1, Name: "write", Rx: session.Primitive}, OnLoop: m.write, Args: []service.Arg{collection, key,
			{Name: "blob", Kind: service.StringArg}, {Name: "tags", Kind: service.StringsArg, Optional: true}}},
		{Method: service.Method{ID: 2, Name: "remove", Rx: session.Primitive}, Args: []service.Arg{collection, key}, OnLoop: m.remove},
		{Method: service.Method{ID: 3, Name: "find", Rx: session.Primitive}, OnLoop: m.find,
			Args: []service.Arg{collection, {Name: "tags", Kind: service.StringsArg}}},
	}}
}

func (m *memory) read(_ context.Context, c *service.Call) error {
	r := c.Reader()
	collection, key := r.String(), r.String()
	m.mu.Lock()
	blob, ok := m.data[collection+"/"+key]
	m.mu.Unlock()
	if !ok {
		text := fmt.Sprintf("object '%s' has not been found in '%s'", key, collection)
		if c.Dialect() == codec.V0 {
			return &session.Error{Code: service.V0Invocation, Message: text}
		}
		return &session.Error{Category: service.CategoryGeneric, Code: 2, Message: text}
	}
	return c.Reply(codec.Args(blob))
}

func (m *memory) write(c *service.Call) {
	r := c.Reader()
	name, blob := r.String()+"/"+r.String(), r.String()
	var tags []string
	if r.Len() > 0 {
		for n := r.ArrayLen(); n > 0; n-- {
			tags = append(tags, r.String())
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[name], m.tags[name] = blob, tags
	_ = c.ReplyBytes(nil)
}

func (m *memory) remove(c *service.Call) {
	r := c.Reader()
	name := r.String() + "/" + r.String()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, name)
	delete(m.tags, name)
	_ = c.ReplyBytes(nil)
}

func (m *memory) find(c *service.Call) {
	r := c.Reader()
	collection := r.String()
	var want []string
	for n := r.ArrayLen(); n > 0; n-- {
		want = append(want, r.String())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := []string{}
	for name, tags := range m.tags {
		if key, ok := bytes.CutPrefix([]byte(name), []byte(collection+"/")); ok && len(want) > 0 && includes(tags, want) {
			keys = append(keys, string(key))
		}
	}
	_ = c.Reply(codec.Args(keys))
}

func includes(have, want []string) bool {
	for _, w := range want {
		found := false
		for _, h := range have {
			found = found || h == w
		}
		if !found {
			return false
		}
	}
	return true
}
