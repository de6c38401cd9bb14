package service_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// discard is the graph behind the locator's publish and routing (protocol: locator).
func discard() *session.Graph {
	return session.NewGraph(append(service.ControlSlots(), session.Slot{Type: 0, Name: "discard", Kind: session.Value})...)
}

// board is a locator in small: routing tells of changes until the client has enough,
// publish holds for as long as the client does.
type board struct {
	readers []*service.Call
	log     []string
}

func (b *board) declaration() service.Declaration {
	return numbered(
		service.Handled{Method: service.Method{Name: "routing", Tx: discard(), Rx: service.Values}, OnLoop: b.routing, Endless: true},
		service.Handled{Method: service.Method{Name: "publish", Tx: discard(), Rx: session.Primitive}, OnLoop: b.publish,
			Args: []service.Arg{{Name: "name", Kind: service.StringArg}}},
	)
}

func (b *board) routing(c *service.Call) {
	b.readers = append(b.readers, c)
	c.OnMessage(func(name string, args []byte) { b.note("routing " + name) })
	c.OnEnd(func() {
		b.note("routing ended")
		b.readers = slices.DeleteFunc(b.readers, func(r *service.Call) bool { return r == c })
	})
	_ = c.SendValues(codec.Args("all"))
}

func (b *board) publish(c *service.Call) {
	r := c.Reader()
	name := r.String()
	c.OnMessage(func(message string, _ []byte) { b.note(name + " " + message) })
	c.OnEnd(func() { b.note(name + " ended") })
	c.OnEnd(func() { b.note(name + " is gone") })
	for _, reader := range b.readers {
		_ = reader.SendValues(codec.Args(name))
	}
	_ = c.Reply(codec.Args())
}

func (b *board) note(what string) { b.log = append(b.log, what) }

func (b *board) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(b.log, lines) {
		t.Errorf("log is %q, want %q", b.log, lines)
	}
	b.log = nil
}

// TestValuesStream: what a client subscribed to comes as it happens, ends with its
// discard, and what it published holds until its discard or its end.
func TestValuesStream(t *testing.T) {
	b := &board{}
	bubble(t, service.ServerConfig{Declaration: b.declaration()}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		c.call(1, 0)
		c.want(1, codec.V1Write, "all")
		c.call(2, 1, "a")
		c.want(1, codec.V1Write, "a")
		c.want(2, codec.V1Value)
		b.want(t)
		c.call(2, 0)
		b.want(t, "a discard", "a ended", "a is gone")
		c.call(3, 1, "b")
		c.want(1, codec.V1Write, "b")
		c.want(3, codec.V1Value)
		c.call(1, 0)
		c.want(1, codec.V1Close)
		b.want(t, "routing discard", "routing ended")
		c.call(4, 0)
		c.want(4, codec.V1Write, "all")
		c.close()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		slices.Sort(b.log)
		b.want(t, "b ended", "b is gone", "routing ended")
	})
}

// TestStreamsV0: the values of a stream are chunks, packed once more.
func TestStreamsV0(t *testing.T) {
	d := numbered(
		service.Handled{Method: service.Method{Name: "values", Rx: service.Values}, OnLoop: func(c *service.Call) {
			_ = c.SendValues(codec.Args("a"))
			_ = c.SendMessage("write", codec.Args("b", 1))
			_ = c.Close()
		}},
		service.Handled{Method: service.Method{Name: "bytes", Rx: session.Streaming}, Serve: func(ctx context.Context, c *service.Call) error {
			_, err := c.Session().Write([]byte("raw"))
			return errors.Join(err, c.Send(ctx, "write", codec.Args("more")))
		}},
	)
	bubble(t, service.ServerConfig{Declaration: d, V0: true}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V0)
		defer c.close()
		c.call(0, 0)
		c.want(0, codec.V0Chunk, "\xa1a")
		c.want(0, codec.V0Chunk, "\x92\xa1b\x01")
		c.want(0, codec.V0Choke)
		c.call(0, 1)
		c.want(0, codec.V0Chunk, "raw")
		c.want(0, codec.V0Chunk, "more")
		c.want(0, codec.V0Choke)
	})
}

// TestOffLoop: a method on the loop hands its call to a goroutine, which answers later.
func TestOffLoop(t *testing.T) {
	d := numbered(service.Handled{Method: service.Method{Name: "later", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
		c.OffLoop()
		go func() {
			time.Sleep(time.Second)
			_ = c.Reply(codec.Args("done"))
			<-c.Done()
		}()
	}})
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 0)
		time.Sleep(time.Millisecond)
		if n := srv.Stats().Pending; n != 1 {
			t.Errorf("Pending = %d, want 1", n)
		}
		c.want(1, codec.V1Value, "done")
		time.Sleep(time.Millisecond)
		if n := srv.Stats().Pending; n != 0 {
			t.Errorf("Pending = %d, want 0", n)
		}
	})
}

// TestWritable: a stream on the loop stops at the water mark and goes on when the client
// has read; values that were owed come too, in either dialect.
func TestWritable(t *testing.T) {
	for _, dialect := range []codec.Dialect{codec.V0, codec.V1} {
		left := 100
		d := numbered(
			service.Handled{Method: service.Method{Name: "stream", Rx: session.Streaming}, OnLoop: func(c *service.Call) {
				more := func() {
					for ; left > 0; left-- {
						if err := c.SendValues(codec.Args(make([]byte, 10_000))); err != nil {
							if err != channel.ErrFull {
								t.Errorf("SendValues() = %v, want %v", err, channel.ErrFull)
							}
							return
						}
					}
					_ = c.Close()
				}
				c.OnWritable(more)
				more()
			}},
			service.Handled{Method: service.Method{Name: "big", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
				if err := c.Reply(codec.Args(make([]byte, 50_000))); err != nil {
					t.Errorf("Reply() = %v, want nil", err)
				}
			}})
		cfg := service.ServerConfig{Declaration: d, V0: dialect == codec.V0,
			Sessions: session.Config{Channel: channel.Config{HighWaterBytes: 64 << 10}}}
		bubble(t, cfg, func(t *testing.T, srv *service.Server) {
			c := dial(t, srv, dialect)
			defer c.close()
			for i := range uint64(10) {
				c.call(i+1, 1)
			}
			c.call(11, 0)
			time.Sleep(time.Second)
			bytes, ends := 0, 0
			for ends < 11 {
				m, err := c.next()
				if err != nil {
					t.Fatalf("next() = %v after %d bytes and %d ends", err, bytes, ends)
				}
				bytes += len(m.Payload)
				if m.Session < 11 && m.Type == codec.V1Value && dialect == codec.V1 || m.Session == 11 && m.Type == codec.V1Close && dialect == codec.V1 ||
					m.Type == codec.V0Choke && dialect == codec.V0 {
					ends++
				}
			}
			if want := 100*10_000 + 10*50_000; bytes < want || bytes > want+200 {
				t.Errorf("%v: %d bytes came, want %d", dialect, bytes, want)
			}
		})
	}
}

// calledBack is the Owner of a client that serves methods over the connection that it
// made.
type calledBack struct{ *service.Callee }

func (calledBack) OnOpen()                   {}
func (calledBack) OnInvoke(*session.Session) {}
func (calledBack) OnHandshake([]byte)        {}
func (calledBack) OnHeartbeat()              {}
func (calledBack) OnTerminate(int64, []byte) {}

// calledTable is the table of a client's connection, whose other end may call srv.
func calledTable(t *testing.T, srv *service.Server) *session.Table {
	t.Helper()
	k := srv.Callee()
	table, err := session.New(session.Config{Role: session.Client, Owner: calledBack{k}, OnSettled: k.OnSettled,
		Channel: channel.Config{Dialect: codec.V1}})
	if err != nil {
		t.Fatal(err)
	}
	k.Bind(table, nil)
	return table
}

// TestCallBack: both sides of one connection call each other's methods.
func TestCallBack(t *testing.T) {
	front := numbered(primitive("greet", func(ctx context.Context, c *service.Call) error {
		back, err := c.Table().CallOffLoop(ctx, &session.Call{Name: "name", Type: 0, Args: codec.Args("who?").Bytes(), Rx: session.Primitive}, nil)
		if err != nil {
			return err
		}
		args, err := back.Recv(ctx)
		if err != nil {
			return err
		}
		r := codec.NewReader(args)
		return c.Reply(codec.Args("hello " + r.String()))
	}))
	own := numbered(primitive("name", func(ctx context.Context, c *service.Call) error {
		if c.Peer() != nil || c.Dialect() != codec.V1 || c.Method().Name != "name" {
			t.Errorf("Peer() = %v, Dialect() = %v, Method() = %v", c.Peer(), c.Dialect(), c.Method())
		}
		return c.Reply(codec.Args("bob"))
	}))
	synctest.Test(t, func(t *testing.T) {
		srv, client := testServer(t, service.ServerConfig{Declaration: front}), testServer(t, service.ServerConfig{Declaration: own})
		table := calledTable(t, client)
		a, b := channel.Pair(channel.Script{})
		if err := errors.Join(srv.Attach(b), table.Channel().Attach(a)); err != nil {
			t.Fatal(err)
		}
		s, err := table.CallOffLoop(t.Context(), &session.Call{Name: "greet", Type: 0, Rx: session.Primitive}, nil)
		if err != nil {
			t.Fatal(err)
		}
		args, err := s.Recv(t.Context())
		r := codec.NewReader(args)
		if got := r.String(); got != "hello bob" || err != nil {
			t.Errorf("Recv() = %q, %v, want hello bob", got, err)
		}
		if st := client.Stats(); st.Methods[0].Calls != 1 || st.Conns != 0 {
			t.Errorf("Stats() = %+v, want one call", st)
		}
		if err := client.Close(t.Context()); err != nil { // the channel is not its own
			t.Errorf("Close() = %v", err)
		}
		if state := table.Channel().State(); state != channel.Open {
			t.Errorf("State() = %v, want %v", state, channel.Open)
		}
		if err := errors.Join(table.Channel().Close(t.Context()), srv.Close(t.Context())); err != nil {
			t.Error(err)
		}
	})
}
