package session_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Graphs of methods as their caller sees them: what it may send, what it may get.
var (
	discard = session.NewGraph(session.Slot{Type: 0, Name: "discard", Kind: session.Value})
	twoStep = session.NewGraph(
		session.Slot{Type: 0, Name: "begin", Kind: session.Value, Next: session.NewGraph(
			session.Slot{Type: 4, Name: "more", Kind: session.Value, Next: session.Same},
			session.Slot{Type: 5, Name: "end", Kind: session.Choke},
		)},
	)
	methods = map[uint64]session.Opening{
		0: {Name: "read", Tx: session.Primitive},
		1: {Name: "stream", Tx: session.Streaming, Rx: session.Streaming},
		2: {Name: "mute"},
		3: {Name: "publish", Tx: session.Primitive, Rx: discard},
		4: {Name: "upload", Rx: session.Streaming},
		5: {Name: "steps", Tx: twoStep, Rx: twoStep},
	}
	methodsV0 = map[uint64]session.Opening{
		0: {Name: "read", Tx: session.StreamingV0},
		1: {Name: "stream", Tx: session.StreamingV0},
	}
)

// callee is an owner whose peer calls methods. By default what it is told is written
// down, and a primitive is answered with its own arguments.
type callee struct {
	*owner
	methods map[uint64]session.Opening
	call    func(s *session.Session, args []byte)
}

func (c *callee) Opening(typ uint64) (session.Opening, bool) {
	o, ok := c.methods[typ]
	return o, ok
}

func (c *callee) OnCall(s *session.Session, args []byte) {
	if c.call != nil {
		c.call(s, args)
		return
	}
	c.add("call %d %s %s", s.ID(), s.Event(), codec.AppendJSONValue(nil, args))
	s.SetHandler(tracer{&c.trace})
	if s.Event() == "read" && s.Dialect() == codec.V1 {
		_ = s.SendMessage(codec.V1Value, args)
	}
}

// serving makes the owner of a table a callee.
func serving(call func(s *session.Session, args []byte)) option {
	return func(cfg *session.Config) {
		m := methods
		if cfg.Channel.Dialect == codec.V0 {
			m = methodsV0
		}
		cfg.Owner = &callee{owner: cfg.Owner.(*owner), methods: m, call: call}
	}
}

// What a server makes of calls, and what it closes the connection for: all that the
// live runtime does (protocol: wrong input).
func TestServer(t *testing.T) {
	for _, tt := range []struct {
		name string
		send []string // hex
		told []string
	}{
		{"primitive", []string{"94010091a16190"}, []string{`call 1 read ["a"]`}},
		{"three elements", []string{"93010091a161"}, []string{`call 1 read ["a"]`}},
		{"a gap", []string{"94010091a16190", "940a0091a16190"}, []string{`call 1 read ["a"]`, `call 10 read ["a"]`}},
		{"a lower number", []string{"940a0091a16190", "94050091a16190"}, []string{`call 10 read ["a"]`, "close bad_session"}},
		{"number 0", []string{"94000091a16190"}, []string{"close bad_session"}},
		{"the same number again", []string{"94010091a16190", "94010091a16190"}, []string{`call 1 read ["a"]`, "close bad_session"}},
		{"unknown method", []string{"94014d9090"}, []string{"close bad_type"}},
		{"goaway", []string{"9401cdfffc9192010190"}, []string{"close bad_type"}},
		{"settings", []string{"9401cdfffe9090"}, []string{"close bad_type"}},
		{"revoke without a code", []string{"9401cdffff910190"}, []string{"close bad_frame"}},
		{"revoke of nothing", []string{"9402cdffff920192010190"}, nil},
		{"revoke", []string{"9401019090", "9402cdffff920192070490"}, []string{"call 1 stream []", "1 error remote 4"}},
		{"chunks and close", []string{"9401019090", "94010091a16190", "9401029090"}, []string{"call 1 stream []", "1 chunk a", "1 choke"}},
		{"error", []string{"9401019090", "94010191922a1190"}, []string{"call 1 stream []", "1 error remote 17"}},
		{"behind the close", []string{"9401019090", "9401029090", "94010091a16190"},
			[]string{"call 1 stream []", "1 choke", "1 error local 0", "close bad_session"}},
		{"a message that is not there", []string{"9401019090", "9401099090"},
			[]string{"call 1 stream []", "1 error local 0", "close bad_type"}},
		{"a chunk without data", []string{"9401019090", "940100910190"},
			[]string{"call 1 stream []", "1 error local 0", "close bad_frame"}},
		{"mute", []string{"940102910190", "940202910290"}, []string{"call 1 mute [1]", "call 2 mute [2]"}},
		{"discard", []string{"94010391a16190", "9401009090"}, []string{`call 1 publish ["a"]`, "1 chunk \x90", "1 choke"}},
		{"upload", []string{"9401049090", "94010091a16190", "9401029090"}, []string{"call 1 upload []", "1 chunk a", "1 choke"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, codec.V1, session.Server, serving(nil))
				for _, text := range tt.send {
					r.send("raw " + text)
				}
				if got := r.owner.take(); !slices.Equal(got, tt.told) {
					t.Errorf("the owner was told %q, want %q", got, tt.told)
				}
				before := strings.Join(tt.send[:len(tt.send)-1], "")
				if err := r.Channel().Err(); err != nil && err.Offset != int64(len(before)/2) {
					t.Errorf("Offset of %v = %d, want %d", err, err.Offset, len(before)/2)
				}
			})
		})
	}
}

// What goes out as the answer, byte for byte.
func TestServerAnswers(t *testing.T) {
	for _, tt := range []struct{ name, send, want string }{
		{"ping", "9401cdfffd9090", "[1, 0, []]"},
		{"revoke", "9402cdffff920192010190", "[2, 0, []]"},
		{"value", "94010092a161a16290", `[1, 0, ["a","b"]]`},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, codec.V1, session.Server, serving(nil))
			r.send("raw " + tt.send)
			m := r.nextMessage(time.Second)
			if m == nil {
				t.Fatalf("%s: no answer", tt.name)
			}
			if got := fmt.Sprintf("[%d, %d, %s]", m.Session, m.Type, codec.AppendJSONValue(nil, m.Args)); got != tt.want {
				t.Errorf("%s: answer %s, want %s", tt.name, got, tt.want)
			}
			if r.Len() != 0 {
				t.Errorf("%s: %d sessions are left, want 0", tt.name, r.Len())
			}
		})
	}
}

// A v0 service answers what it does not know, and takes a number as often as it comes.
func TestServerV0(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V0, session.Server, serving(func(s *session.Session, args []byte) {
			if s.Event() == "read" {
				_ = s.SendChunk(args)
				_ = s.SendChoke()
			}
		}))
		for range 3 {
			r.send("raw 930007 91a161")
			r.wants("chunk 7 \x91\xa1a", "choke 7")
		}
		r.send("raw 93 09 07 90")
		r.wants("error 7 0 1 unknown message type", "choke 7")
		r.send("raw 93 01 08 90", "raw 93 01 08 90")
		r.wants("error 8 0 207 the number of a call that is not answered yet", "choke 8")
		r.send("raw 94 00 09 90 90")
		<-r.owner.closed
	})
}

// wants reads these frames and no other.
func (r *rig) wants(frames ...string) {
	r.t.Helper()
	for _, f := range frames {
		r.want(f, "answer")
	}
}

// A session that was failed here may be written to for a while: the peer cannot know yet.
func TestServerLenientAfterItsOwnCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Server, serving(nil))
		r.send("raw 9401019090")
		r.loop(func() { r.End(session.CodeDeadline, "late") })
		r.send("chunk 1 a", "choke 1", "raw 9402019090")
		if st := r.Stats(); st.Late != 2 || st.Open != 1 {
			t.Errorf("Stats() = %+v, want 2 late frames and the next call open", st)
		}
	})
}

func TestServerMaxSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Server, serving(nil), func(c *session.Config) { c.MaxSessions = 1 })
		r.send("raw 9401019090", "raw 9402019090", "raw 9403029090", "chunk 2 x")
		r.wants("error 2 42 202 too many sessions are open")
		if st := r.Stats(); st.Open != 1 || st.Refused != 1 || st.Late != 1 {
			t.Errorf("Stats() = %+v, want one session, one refused, one late frame", st)
		}
	})
}

// A client and a server of ours over one link.
func callPair(t *testing.T, d codec.Dialect, call func(*session.Session, []byte), opts ...option) (client, server *session.Table) {
	t.Helper()
	a, b := channel.Pair(channel.Script{})
	client, _ = newTable(t, d, session.Client, opts...)
	server, _ = newTable(t, d, session.Server, append([]option{serving(call)}, opts...)...)
	if err := errors.Join(client.Channel().Attach(a), server.Channel().Attach(b)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(client); closeNow(server) })
	return client, server
}

func callOf(typ uint64, args ...any) *session.Call {
	o := methods[typ]
	return &session.Call{Name: o.Name, Type: typ, Args: codec.Args(args...).Bytes(), Tx: o.Rx, Rx: o.Tx}
}

// TestCall makes calls of each kind of graph, and sends what their graphs do not have.
func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := callPair(t, codec.V1, func(s *session.Session, args []byte) {
			switch s.Event() {
			case "read":
				_ = s.SendMessage(codec.V1Value, args)
			case "stream":
				go echoGo(s)
			case "publish":
				_ = s.SendMessage(codec.V1Value, nil)
			}
		})
		ctx := t.Context()
		s, err := client.CallOffLoop(ctx, callOf(0, "a", 7), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(ctx); string(got) != "\x92\xa1a\x07" || err != nil {
			t.Errorf("Recv() = %x, %v, want the arguments", got, err)
		}
		if _, err := s.Recv(ctx); err != io.EOF {
			t.Errorf("Recv() behind the value = %v, want io.EOF", err)
		}
		if _, err := s.Write([]byte("x")); err != session.ErrClosed {
			t.Errorf("Write() behind a primitive call = %v, want ErrClosed", err)
		}
		if s, err = client.CallOffLoop(ctx, callOf(1), nil); err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write([]byte("hello"))
		if got, err := s.Recv(ctx); string(got) != "hello" || err != nil {
			t.Errorf("Recv() = %q, %v, want the echo", got, err)
		}
		_ = s.Close()
		if _, err := s.Recv(ctx); err != io.EOF {
			t.Errorf("Recv() = %v, want io.EOF", err)
		}
		if s, err = client.CallOffLoop(ctx, callOf(3, "name"), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(ctx); err != nil {
			t.Error(err)
		}
		if err := s.Send(ctx, nil); err == nil {
			t.Error("Send() of a chunk = nil, want that the graph has none")
		}
		if err := s.Close(); !errors.Is(err, session.ErrGraph) {
			t.Errorf("Close() = %v, want ErrGraph: the graph has no choke", err)
		}
		if err := s.SendMessageOffLoop(ctx, 1, nil); !errors.Is(err, session.ErrGraph) {
			t.Errorf("SendMessageOffLoop(1) = %v, want ErrGraph", err)
		}
		if err := s.SendMessageOffLoop(ctx, 0, nil); err != nil {
			t.Error(err)
		}
		if err := s.SendMessageOffLoop(ctx, 0, nil); err != session.ErrClosed {
			t.Errorf("a second discard = %v, want ErrClosed", err)
		}
		if _, err := client.CallOffLoop(ctx, callOf(2, 1), nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if c, s := client.Stats(), server.Stats(); c.Open != 0 || s.Open != 0 || c.Opened != 4 {
			t.Errorf("client %+v, server %+v: want nothing open", c, s)
		}
	})
}

// A graph of several states and kinds of messages, on both faces and in both directions.
func TestCallGraph(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen trace
		var held *session.Session
		client, server := callPair(t, codec.V1, func(s *session.Session, _ []byte) {
			held = s
			s.SetHandler(slotTracer{&seen})
			s.Pause() // what comes is kept with its place in the graph
		})
		ctx := t.Context()
		s, err := client.CallOffLoop(ctx, callOf(5), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMessageOffLoop(ctx, 4, nil); !errors.Is(err, session.ErrGraph) {
			t.Errorf("more before begin = %v, want ErrGraph", err)
		}
		for _, typ := range []uint64{0, 4, 4, 5} {
			if err := s.SendMessageOffLoop(ctx, typ, codec.Args(int(typ)).Bytes()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		onLoop(t, server, func() { held.Resume() })
		for _, want := range []string{"begin", "more", "more"} {
			slot, p, err := s.RecvMessage(ctx)
			if err != nil || slot == nil || slot.Name != want {
				t.Fatalf("RecvMessage() = %v, %x, %v, want %s", slot, p, err, want)
			}
		}
		if _, _, err := s.RecvMessage(ctx); err != io.EOF {
			t.Errorf("RecvMessage() = %v, want io.EOF", err)
		}
		want := []string{"begin [0]", "more [4]", "more [4]", "choke"}
		if got := seen.take(); !slices.Equal(got, want) {
			t.Errorf("the server was told %q, want %q", got, want)
		}
	})
}

// slotTracer sends back all that it is told.
type slotTracer struct{ t *trace }

func (h slotTracer) OnChunk(s *session.Session, p []byte) {
	h.t.add("%s %s", s.Slot().Name, codec.AppendJSONValue(nil, p))
	_ = s.SendMessage(s.Slot().Type, p)
}

func (h slotTracer) OnChoke(s *session.Session) {
	h.t.add("choke")
	_ = s.SendMessage(5, nil)
}

func (h slotTracer) OnError(*session.Session, *session.Error) {}

// Both sides call over one channel.
func TestBothSidesCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := func(s *session.Session, args []byte) { _ = s.SendMessage(codec.V1Value, args) }
		a, b := channel.Pair(channel.Script{})
		client, _ := newTable(t, codec.V1, session.Client, serving(answer))
		server, _ := newTable(t, codec.V1, session.Server, serving(answer))
		if err := errors.Join(client.Channel().Attach(a), server.Channel().Attach(b)); err != nil {
			t.Fatal(err)
		}
		defer closeNow(client)
		defer closeNow(server)
		for i := range 5 {
			for name, side := range map[string]*session.Table{"client": client, "server": server} {
				s, err := side.CallOffLoop(t.Context(), callOf(0, name, i), nil)
				if err != nil {
					t.Fatal(err)
				}
				want := string(codec.Args(name, i).Bytes())
				if got, err := s.Recv(t.Context()); string(got) != want || err != nil {
					t.Errorf("%s: Recv() = %x, %v, want %x", name, got, err, want)
				}
			}
		}
	})
}

// Who may call and who may invoke.
func TestRolesOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, role := range []session.Role{session.Worker, session.Engine, session.Client, session.Server} {
			r := newRig(t, codec.V1, role, serving(nil))
			r.loop(func() {
				_, invoke := r.Open("e", nil, nil)
				_, call := r.Call(callOf(0), nil)
				if (invoke == nil) != (role == session.Engine) || (call == nil) != (role >= session.Client) {
					t.Errorf("role %d: Open() = %v, Call() = %v", role, invoke, call)
				}
			})
		}
	})
	if _, err := session.New(session.Config{Role: session.Server, Owner: &owner{}}); err == nil {
		t.Error("New() of a server whose owner is no Callee = nil error")
	}
}

// The first number of a client can be chosen: some count from 2.
func TestFirstNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Client, func(c *session.Config) { c.Channel.FirstSession = 2 })
		r.loop(func() {
			s, err := r.Call(callOf(0), nil)
			if err != nil || s.ID() != 2 {
				t.Errorf("Call() = session %d, %v, want 2", s.ID(), err)
			}
		})
	})
}

// A lost channel ends calls with what is known of them.
func TestCallLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := callPair(t, codec.V1, func(*session.Session, []byte) {})
		s, err := client.CallOffLoop(t.Context(), callOf(0), nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		closeNow(server)
		var e *session.Error
		if _, err := s.Recv(t.Context()); !errors.As(err, &e) || e.Delivery != session.Unknown || e.Remote {
			t.Errorf("Recv() = %v, want a local error of unknown delivery", err)
		}
		closeNow(client)
		if _, err := client.CallOffLoop(t.Context(), callOf(0), nil); !errors.As(err, &e) || e.Delivery != session.NotSent {
			t.Errorf("CallOffLoop() = %v, want not sent", err)
		}
	})
}

// Pause keeps a session's chunks in bounds, and the others go on until they are passed.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Server, serving(nil), func(c *session.Config) { c.InboxBytes = 1000 })
		var s *session.Session
		r.owner.take()
		r.send("raw 9401019090")
		hold(t, r, &s)
		r.send("chunk 1 a", "chunk 1 b", "choke 1", "raw 94020091a16190")
		if got, want := r.owner.take(), []string{"call 1 stream []", `call 2 read ["a"]`}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		r.loop(s.Resume)
		if got, want := r.owner.take(), []string{"1 chunk a", "1 chunk b", "1 choke"}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// hold pauses the session that was called last.
func hold(t *testing.T, r *rig, s **session.Session) {
	t.Helper()
	r.loop(func() {
		*s = session.SessionOf(r.Table, 1)
		(*s).Pause()
	})
}

// A paused session that is sent more than can be kept fails alone, after MaxPause.
func TestPauseTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Server, serving(nil), func(c *session.Config) { c.InboxBytes = 1000 })
		var s *session.Session
		r.send("raw 9401019090")
		hold(t, r, &s)
		r.send("chunk 1 " + string(make([]byte, 2000)))
		r.send("raw 94020091a16190")
		if got := r.owner.take(); len(got) != 1 {
			t.Errorf("told %q, want the first call only: the channel stands still", got)
		}
		pass(6 * time.Second)
		if got, want := r.owner.take(), []string{"1 error local 203", `call 2 read ["a"]`}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}
