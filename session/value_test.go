package session

import (
	"context"
	"io"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

// TestValues: the answer of a primitive call is all its arguments, then the end; a
// stream of values ends by its choke, like one of chunks.
func TestValues(t *testing.T) {
	stream := NewGraph(
		Slot{codec.V1Write, "write", Value, Same},
		Slot{codec.V1Error, "error", Fault, nil},
		Slot{codec.V1Close, "close", Choke, nil},
	)
	args := codec.Args("uuid", 7, []any{"a", "b"}).Bytes()
	value := func(n uint64) *codec.Message {
		return message(t, codec.V1, codec.Frame{Kind: codec.KindCall, Session: n, Type: codec.V1Value, Args: args})
	}
	fault := message(t, codec.V1, codec.Frame{Kind: codec.KindError, Session: 4, Category: 1, Code: 7, Text: "no"})
	choke := message(t, codec.V1, codec.Frame{Kind: codec.KindChoke, Session: 3})

	o, _, onLoop := newStill(t, codec.V1)
	graphs := map[uint64]*Graph{2: Primitive, 3: stream, 4: Primitive, 5: Primitive}
	list := map[uint64]*Session{}
	heard := &hearing{}
	o.inv = func(s *Session) {
		s.rx = graphs[s.id]
		if list[s.id] = s; s.id == 5 {
			s.SetHandler(heard)
		}
	}
	onLoop(func() {
		e := events{o.t}
		for n := range uint64(4) {
			e.OnMessage(message(t, codec.V1, codec.Frame{Kind: codec.KindInvoke, Session: 2 + n, Text: "e"}), nil)
		}
		e.OnMessage(value(2), nil)
		e.OnMessage(value(2), nil) // behind the end
		e.OnMessage(value(3), nil)
		e.OnMessage(value(3), nil)
		e.OnMessage(choke, nil)
		e.OnMessage(fault, nil)
		e.OnMessage(value(5), nil)
	})
	for n, want := range map[uint64]int{2: 1, 3: 2, 4: 0} {
		s, got := list[n], 0
		for {
			p, err := s.Recv(context.Background())
			if err == nil && string(p) == string(args) {
				got++
				continue
			}
			if n == 4 && err != error(s.Err()) || n != 4 && err != io.EOF {
				t.Errorf("session %d: Recv() = %x, %v", n, p, err)
			}
			break
		}
		if got != want {
			t.Errorf("session %d: %d values, want %d", n, got, want)
		}
	}
	if heard.chunks != 1 || heard.chokes != 1 || heard.last != string(args) {
		t.Errorf("the handler was told %+v, want the arguments and the end", heard)
	}
	if n := o.t.Stats().Repeated; n != 1 {
		t.Errorf("Stats().Repeated = %d, want 1", n)
	}
}

// TestBigValue: an answer larger than an inbox does not make the channel stand still,
// since nothing follows it.
func TestBigValue(t *testing.T) {
	o, _, onLoop := newStill(t, codec.V1)
	var s *Session
	o.inv = func(got *Session) { s = got; s.rx = Primitive }
	args := codec.Args(make([]byte, 1<<20)).Bytes()
	onLoop(func() {
		e := events{o.t}
		e.OnMessage(message(t, codec.V1, codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "e"}), nil)
		e.OnMessage(message(t, codec.V1, codec.Frame{Kind: codec.KindCall, Session: 2, Args: args}), nil)
		if o.t.ch.Paused() {
			t.Error("the channel stands still")
		}
	})
	if p, err := s.Recv(context.Background()); len(p) != len(args) || err != nil {
		t.Errorf("Recv() = %d bytes, %v, want the %d", len(p), err, len(args))
	}
}

// hearing counts what it is told.
type hearing struct {
	chunks, chokes int
	last           string
}

func (h *hearing) OnChunk(_ *Session, p []byte) { h.chunks++; h.last = string(p) }
func (h *hearing) OnChoke(*Session)             { h.chokes++ }
func (h *hearing) OnError(*Session, *Error)     { h.chokes += 100 }

// TestValueMeddling: a handler that ends all sessions while it takes a value is not told
// of the end of the peer's direction behind the error.
func TestValueMeddling(t *testing.T) {
	o, _, onLoop := newStill(t, codec.V1)
	h := &ender{}
	o.inv = func(s *Session) { s.rx = Primitive; s.SetHandler(h) }
	h.end = func() { o.t.End(1, "end") }
	onLoop(func() {
		e := events{o.t}
		e.OnMessage(message(t, codec.V1, codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "e"}), nil)
		e.OnMessage(message(t, codec.V1, codec.Frame{Kind: codec.KindCall, Session: 2, Args: codec.Args(1).Bytes()}), nil)
		if h.chokes != 0 || h.errors != 1 || o.t.Len() != 0 {
			t.Errorf("%d chokes, %d errors, %d sessions, want one error alone", h.chokes, h.errors, o.t.Len())
		}
	})
}

type ender struct {
	end            func()
	chokes, errors int
}

func (h *ender) OnChunk(*Session, []byte) { h.end() }
func (h *ender) OnChoke(*Session)         { h.chokes++ }
func (h *ender) OnError(*Session, *Error) { h.errors++ }
