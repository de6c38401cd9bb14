package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

const locatorAddr = "locator:10053"

// cloud is a network of local pairs: a host takes connections, or refuses them.
type cloud struct {
	t     *testing.T
	v0    bool
	began time.Time

	mu     sync.Mutex
	hosts  map[string]func(net.Conn)
	script map[string]channel.Script
	conns  map[string][]*channel.End
	dials  []dialled

	names    map[string]service.Resolved
	resolves int
	seeds    []string
	slow     time.Duration // of each resolve
}

type dialled struct {
	addr string
	at   time.Duration
}

// newCloud is a cloud with a locator.
func newCloud(t *testing.T, v0 bool) *cloud {
	c := &cloud{
		t: t, v0: v0, began: time.Now(), hosts: map[string]func(net.Conn){}, script: map[string]channel.Script{},
		conns: map[string][]*channel.End{}, names: map[string]service.Resolved{},
	}
	c.serve(locatorAddr, service.Declaration{Name: "locator", Version: 3, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, Serve: c.resolve},
	}})
	return c
}

func (c *cloud) resolve(ctx context.Context, call *service.Call) error {
	r := call.Reader()
	name, seed := r.String(), ""
	if r.Len() > 0 {
		seed = r.String()
	}
	c.mu.Lock()
	c.resolves++
	c.seeds = append(c.seeds, seed)
	found, ok := c.names[name]
	slow := c.slow
	c.mu.Unlock()
	time.Sleep(slow)
	if !ok {
		return &session.Error{Category: service.CategoryLocator, Code: service.LocatorNotAvailable, Message: "service is not available"}
	}
	if !c.v0 {
		return call.ReplyBytes(service.AppendResolved(nil, found))
	}
	value, err := service.AppendResolvedV0(nil, found)
	if err != nil {
		return err
	}
	return call.ReplyBytes(append(codec.AppendArrayHeader(nil, 1), value...))
}

// serve has a service at an address.
func (c *cloud) serve(addr string, d service.Declaration) *service.Server {
	c.t.Helper()
	srv := testServer(c.t, service.ServerConfig{Declaration: d, V0: c.v0})
	c.t.Cleanup(func() { _ = srv.Close(context.Background()) })
	c.host(addr, func(conn net.Conn) { _ = srv.Attach(conn) })
	return srv
}

// host has what takes the connections to an address; nil for nothing.
func (c *cloud) host(addr string, f func(net.Conn)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts[addr] = f
}

// hostOf returns what takes the connections to an address.
func (c *cloud) hostOf(addr string) func(net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts[addr]
}

// name has the locator say where a service is.
func (c *cloud) name(name string, r service.Resolved) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names[name] = r
}

// add is a service of one method behind the locator, at that host.
func (c *cloud) add(host string, d service.Declaration) *service.Server {
	c.t.Helper()
	srv := c.serve(at(host).String(), d)
	c.name(d.Name, service.Resolved{Endpoints: []service.Endpoint{at(host)}, Version: d.Version, API: srv.API()})
	return srv
}

func at(host string) service.Endpoint { return service.Endpoint{Host: host, Port: 1} }

// dial is a Config.Dial.
func (c *cloud) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dials = append(c.dials, dialled{addr, time.Since(c.began)})
	accept := c.hosts[addr]
	if accept == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	ours, theirs := channel.Pair(c.script[addr])
	c.conns[addr] = append(c.conns[addr], theirs)
	go accept(theirs)
	return ours, nil
}

// cut breaks every connection to an address.
func (c *cloud) cut(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns[addr] {
		_ = conn.Close()
	}
	delete(c.conns, addr)
}

func (c *cloud) resolved() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resolves
}

// dialledTo returns when an address was dialled.
func (c *cloud) dialledTo(addr string) (when []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.dials {
		if d.addr == addr {
			when = append(when, d.at)
		}
	}
	return when
}

// config is that of a client of the cloud.
func (c *cloud) config() service.Config {
	return service.Config{Locators: []string{locatorAddr}, V0: c.v0, Dial: c.dial, Logger: slog.New(slog.DiscardHandler)}
}

// client is a client of the cloud, closed at the end of the test.
func (c *cloud) client(edit func(cfg *service.Config)) *service.Client {
	c.t.Helper()
	cfg := c.config()
	if edit != nil {
		edit(&cfg)
	}
	client, err := service.Connect(c.t.Context(), cfg)
	if err != nil {
		c.t.Fatalf("Connect() = %v", err)
	}
	c.t.Cleanup(func() { closeClient(c.t, client) })
	return client
}

func closeClient(t *testing.T, client *service.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = client.Close(ctx) // its errors are those of connections that the test has cut
	if ctx.Err() != nil {
		t.Error("Close() took a minute")
	}
}

// rawPeer is a service that reads and writes frames.
type rawPeer struct{ *rawClient }

// listen returns what accepts connections as raw peers.
func listen(t *testing.T, d codec.Dialect) (chan *rawPeer, func(net.Conn)) {
	peers := make(chan *rawPeer, 16)
	return peers, func(conn net.Conn) { peers <- &rawPeer{rawTo(t, conn, d)} }
}

// echo is a service of the usual kinds of methods.
func echo(v0 bool) service.Declaration {
	once, stream := session.Primitive, session.Streaming
	methods := []service.Handled{
		{Method: service.Method{ID: 0, Name: "echo", Rx: once}, OnLoop: func(c *service.Call) { _ = c.ReplyBytes(c.Args()) }},
		{Method: service.Method{ID: 1, Name: "void", Rx: once}, OnLoop: func(c *service.Call) { _ = c.Reply(codec.Arguments{}) }},
		{Method: service.Method{ID: 2, Name: "fail", Rx: once}, OnLoop: func(c *service.Call) { _ = c.Fail(12, 2, "no such key") }},
		{Method: service.Method{ID: 3, Name: "sleep", Rx: once}, Serve: sleep},
	}
	if !v0 {
		methods = append(methods,
			service.Handled{Method: service.Method{ID: 4, Name: "enqueue", Tx: stream, Rx: stream}, Serve: echoStream},
			service.Handled{Method: service.Method{ID: 5, Name: "emit"}, OnLoop: func(*service.Call) {}},
			service.Handled{Method: service.Method{ID: 6, Name: "count", Rx: service.Values}, Serve: count},
		)
	}
	return service.Declaration{Name: "echo", Version: 7, Methods: methods}
}

func sleep(ctx context.Context, c *service.Call) error {
	r := c.Reader()
	timer := time.NewTimer(time.Duration(r.Int64()) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

func echoStream(ctx context.Context, c *service.Call) error {
	for {
		name, p, err := c.Recv(ctx)
		if err != nil || name != "write" {
			return nil
		}
		if err := c.Send(ctx, "write", codec.Args(p)); err != nil {
			return err
		}
	}
}

func count(ctx context.Context, c *service.Call) error {
	r := c.Reader()
	for i := range r.Int() {
		if err := c.Send(ctx, "write", codec.Args(i, fmt.Sprint(i))); err != nil {
			return err
		}
	}
	return nil
}

// wantString checks an answer of one string.
func wantString(t *testing.T, reply *service.Reply, err error, want string) {
	t.Helper()
	var got string
	if err == nil {
		err = reply.Decode(&got)
	}
	if err != nil || got != want {
		t.Errorf("Call() = %q, %v, want %q", got, err, want)
	}
}

// wantError returns the error of type T in err.
func wantError[T error](t *testing.T, err error) T {
	t.Helper()
	var e T
	if !errors.As(err, &e) {
		t.Fatalf("error %v of type %T, want %T", err, err, e)
	}
	return e
}
