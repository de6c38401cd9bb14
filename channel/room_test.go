package channel

import (
	"context"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

// late is a session whose direction turns out to be closed when room for its frame has been
// reserved.
type late struct {
	party
	meanwhile func()
}

func (p *late) Direction() *Direction {
	if f := p.meanwhile; f != nil {
		p.meanwhile = nil
		f()
	}
	return p.party.Direction()
}

// TestRoomGivenBack: the loop finds no room because of a frame of another goroutine that is
// then refused, and is told that there is.
func TestRoomGivenBack(t *testing.T) {
	told := 0
	f, s := newFake(t, Config{HighWaterBytes: 1}, &side{onWritable: func() { told++ }})
	p := &late{}
	p.dir.Close()
	p.meanwhile = func() {
		if err := s.Send(chunk(2, 0, 8)); err != ErrFull {
			t.Errorf("Send() = %v while room is reserved, want ErrFull: this test is of no use", err)
		}
	}
	if err := s.SendOfOffLoop(t.Context(), p, chunk(1, 0, 100), 0); err != ErrFinished {
		t.Errorf("SendOfOffLoop() behind the last frame = %v, want ErrFinished", err)
	}
	f.turn()
	f.turn()
	if told != 1 {
		t.Errorf("OnWritable was called %d times, want 1", told)
	}
}

// TestRoomGivenBackByLoop: the same for those who wait for a frame of the loop.
func TestRoomGivenBackByLoop(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		a, b := m.pair(t, Config{HighWaterBytes: 1})
		var p party
		p.dir.Close()
		defer b.end()
		defer a.end()
		sent := make(chan error, 1)
		go func() {
			for range 300 {
				if err := a.SendOffLoop(context.Background(), chunk(1, 0, 8)); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		for range 300 {
			a.do(func() {
				for range 300 {
					if err := a.SendOf(&p, &codec.Frame{Kind: codec.KindChoke, Session: 2}, Last); err != ErrFinished && err != ErrFull {
						t.Errorf("SendOf() behind the last frame = %v, want ErrFinished", err)
					}
				}
			})
		}
		if err := await(t, "the end of the sender", sent); err != nil {
			t.Errorf("SendOffLoop() = %v", err)
		}
	})
}
