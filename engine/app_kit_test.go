package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/session"
)

// cloud is an App with fake processes in a bubble.
type cloud struct {
	*engine.App
	t       *testing.T
	d       codec.Dialect
	spawned chan *spawned
}

// spawned is a process that the App started.
type spawned struct {
	*engine.Slave
	proc *engine.FakeProcess
}

func newCloud(t *testing.T, cfg engine.AppConfig) *cloud {
	t.Helper()
	c := &cloud{t: t, d: cfg.Dialect, spawned: make(chan *spawned, 100)}
	cfg.Name, cfg.Command, cfg.Logger = "shop", []string{"fake"}, slog.New(slog.DiscardHandler)
	var err error
	c.App, err = engine.NewFakeApp(cfg, func(s *engine.Slave, p *engine.FakeProcess) {
		c.spawned <- &spawned{Slave: s, proc: p}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("Stop() = %v", err)
		}
	})
	return c
}

// next returns the next process that the App starts; it is virtual time that passes.
func (c *cloud) next() *spawned {
	c.t.Helper()
	select {
	case s := <-c.spawned:
		return s
	case <-time.After(time.Minute):
		c.t.Fatal("no worker is started")
		return nil
	}
}

// none fails the test if a process is started.
func (c *cloud) none() {
	c.t.Helper()
	synctest.Wait()
	select {
	case <-c.spawned:
		c.t.Fatal("a worker is started, want none")
	default:
	}
}

// stranger is a connection to the App's lobby.
func (c *cloud) stranger(s *spawned) *rawWorker {
	ours, theirs := channel.Pair(channel.Script{})
	c.t.Cleanup(func() { _ = theirs.Close() })
	s.Admit(ours)
	return newRaw(theirs, c.d)
}

// worker is the worker of a process, made active: by its handshake, in v0 by its first
// heartbeat, which is answered before anything else.
func (c *cloud) worker(s *spawned) *rawWorker {
	c.t.Helper()
	w := c.stranger(s)
	frames := []codec.Frame{handshake(s.UUID()), heartbeat}
	if c.d == codec.V1 {
		frames = frames[:1]
	}
	if err := w.send(frames...); err != nil {
		c.t.Fatal(err)
	}
	if c.d == codec.V0 {
		w.want(c.t, heartbeat)
	}
	return w
}

// visitor is a client on a channel of its own, whose calls are enqueued.
type visitor struct {
	t     *testing.T
	d     codec.Dialect
	table *session.Table
	far   *session.Table // the serving end
}

// visit connects a client of a dialect to the App.
func (c *cloud) visit(d codec.Dialect) *visitor {
	c.t.Helper()
	v := &visitor{t: c.t, d: d}
	v.table = newVisitTable(c.t, session.Config{Role: session.Client, Owner: quietOwner{}}, d)
	v.far = newVisitTable(c.t, session.Config{Role: session.Server, Owner: &counter{app: c.App, d: d}}, d)
	a, b := channel.Pair(channel.Script{})
	if err := errors.Join(v.table.Channel().Attach(a), v.far.Channel().Attach(b)); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(v.leave) // before the App is stopped, which would wait for its calls
	return v
}

func newVisitTable(t *testing.T, cfg session.Config, d codec.Dialect) *session.Table {
	t.Helper()
	cfg.Channel.Dialect = d
	table, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// leave ends the client's connection.
func (v *visitor) leave() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, table := range []*session.Table{v.table, v.far} {
		_ = table.Channel().Close(ctx)
	}
}

// enqueue calls the App.
func (v *visitor) enqueue(event string, headers ...codec.Header) *session.Session {
	v.t.Helper()
	call := &session.Call{
		Name: "enqueue", Args: codec.Args(event, "all of it").Bytes(), Headers: headers,
		Tx: session.Streaming, Rx: session.Stream(v.d),
	}
	if v.d == codec.V0 {
		call.Tx = nil
	}
	s, err := v.table.CallOffLoop(v.t.Context(), call, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return s
}

// wantError reads the error that ends a call.
func (v *visitor) wantError(s *session.Session, category, code int64, message string) {
	v.t.Helper()
	_, err := s.Recv(v.t.Context())
	var e *session.Error
	if !errors.As(err, &e) || !e.Remote {
		v.t.Fatalf("Recv() = %v, want an error of the peer", err)
	}
	if v.d == codec.V0 {
		category = e.Category
	}
	if e.Category != category || e.Code != code || e.Message != message {
		v.t.Fatalf("the client is told %v, want [%d, %d] %s", e, category, code, message)
	}
}

// counter is the service of an application, as small as it can be.
type counter struct {
	quietOwner
	app *engine.App
	d   codec.Dialect
}

// Opening has one method.
func (c *counter) Opening(uint64) (session.Opening, bool) {
	if c.d == codec.V0 {
		return session.Opening{Name: "enqueue", Tx: session.StreamingV0}, true
	}
	return session.Opening{Name: "enqueue", Tx: session.Streaming, Rx: session.Streaming}, true
}

// OnCall gives the call to the App.
func (c *counter) OnCall(s *session.Session, args []byte) {
	r := codec.NewReader(args)
	event, data := r.String(), r.Bytes()
	if s.Dialect() == codec.V0 {
		c.app.EnqueueWhole(s, event, data, s.Headers())
		return
	}
	c.app.Enqueue(s, event, s.Headers())
}

// quietOwner is an Owner that wants to know nothing.
type quietOwner struct{}

func (quietOwner) OnOpen()                     {}
func (quietOwner) OnInvoke(*session.Session)   {}
func (quietOwner) OnHandshake([]byte)          {}
func (quietOwner) OnHeartbeat()                {}
func (quietOwner) OnTerminate(int64, []byte)   {}
func (quietOwner) OnClose(*channel.CloseError) {}

// diary notes what an App tells.
type diary struct {
	sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.Lock()
	defer d.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	d.Lock()
	defer d.Unlock()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("told %s, want %s", strings.Join(d.lines, "; "), strings.Join(lines, "; "))
	}
}

// accept attaches the first connection to a table.
func accept(table *session.Table, once *sync.Once, accepted chan<- struct{}) func(net.Conn) {
	return func(conn net.Conn) {
		once.Do(func() {
			_ = table.Channel().Attach(conn)
			close(accepted)
		})
	}
}
