package session_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// program reads a fuzzer's bytes as numbers; behind their end all are zero.
type program struct{ data []byte }

func (p *program) done() bool { return len(p.data) == 0 }

func (p *program) next(n int) int {
	if len(p.data) == 0 {
		return 0
	}
	b := p.data[0]
	p.data = p.data[1:]
	return int(b) % n
}

// pick returns one of the values.
func pick[T any](p *program, values ...T) T { return values[p.next(len(values))] }

// args are the arguments of a frame, most of them such as some message has.
func (p *program) args() []byte {
	n := p.next(5)
	list := make([]any, 0, 4)
	for range min(n, 3) {
		list = append(list, pick[any](p, "e", "", "x", 1, -1, nil, 1.5, true, []any{42, 7}, []any{1}, []any{"a", "b"},
			[]any{[]any{[]any{}}}, []byte(str("%1100d", 0)), uint64(math.MaxUint64)))
	}
	return codec.Args(list...).Bytes()
}

// FuzzDispatch sends arbitrary frames to tables of both roles and dialects: nothing
// panics, and whatever was opened has ended once at the end.
func FuzzDispatch(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0, 2, 3, 1, 0, 2, 4, 1, 1, 2, 6, 0})
	f.Add([]byte{1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 2, 0, 1, 0, 2, 0, 1, 1, 2, 1, 2, 8, 0})
	f.Add([]byte{2, 0, 0, 0, 1, 0, 0, 1, 0, 2, 4, 1, 0, 2, 5, 2, 3, 0, 2, 6, 0})
	f.Add([]byte{3, 1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 2, 1, 2, 8, 0, 2, 2, 0})
	f.Add([]byte{7, 1, 1, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return
		}
		synctest.Test(t, func(t *testing.T) { dispatchAnything(t, data) })
	})
}

// feedAnything writes the frames that the program says, some of them in one piece, and
// lets time pass now and then.
func (r *rig) feedAnything(p *program, d codec.Dialect) {
	var b []byte
	for !p.done() {
		f := codec.Frame{
			Kind:    codec.KindCall,
			Session: pick(p, 2, 1, 0, 3, 4, 5, 6, 7, 8, 100, 101, 1<<32, math.MaxInt64, math.MaxUint64-1, uint64(math.MaxUint64)),
			Type:    pick(p, 0, 1, 2, 3, 4, 5, 6, 7, 100, 65532, 65533, 65535, math.MaxUint32, uint64(4)),
			Args:    p.args(),
		}
		if b = codec.AppendFrame(b, d, &f); p.next(3) == 0 {
			_, _ = r.conn.Write(b)
			b = b[:0]
			synctest.Wait()
		}
		if p.next(40) == 1 {
			pass(6 * time.Second)
		}
	}
	_, _ = r.conn.Write(b)
}

// dispatchAnything runs a program of frames against one end, in each role and with each
// face, and closes it: whatever came, the table is empty and all were told.
func dispatchAnything(t *testing.T, data []byte) {
	p := &program{data}
	first := p.next(8)
	d, role := codec.Dialect(first&1), session.Role(first>>1&1)
	var r *rig
	r = newQuietRig(t, channel.Script{}, d, role, quiet, func(c *session.Config) {
		c.MaxSessions = 1 + p.next(8)
		c.InboxBytes = 16 + p.next(200)
		c.OnSettled = func(s *session.Session) { r.owner.add("%d settled", s.ID()) }
	})
	r.dropOutput()
	face := p.next(3)
	var opened []*session.Session
	r.owner.invoke = func(s *session.Session) {
		switch face {
		case 0:
			s.SetHandler(tracer{&r.owner.trace})
		case 1:
			s.SetHandler(&meddler{&r.owner.trace, func(s *session.Session) { _ = s.SendChoke() }})
		case 2:
			go echoGo(s)
		}
	}
	if first&4 == 0 && role == session.Engine {
		_, _ = r.conn.Write(r.frame("handshake u"))
		synctest.Wait()
		for range p.next(5) {
			s, err := r.OpenOffLoop(t.Context(), "e", nil, nil)
			switch {
			case err != nil:
			case face == 2:
				go echoGo(s)
			default:
				opened = append(opened, s)
			}
		}
	}
	r.feedAnything(p, d)
	synctest.Wait()
	_ = r.conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = r.Channel().Close(ctx)
	synctest.Wait()
	if err := <-r.owner.closed; err.Code == channel.CodePanic {
		t.Fatalf("a frame made the table panic: %v", err)
	}
	if n := r.Stats().Open; n != 0 {
		t.Fatalf("%d sessions are open behind the end", n)
	}
	checkTold(t, r.owner.sessionLines(), 0)
	for _, s := range opened { // nobody read them: each has an end to find
		for _, err := range s.Chunks(context.Background()) {
			if err != nil && s.Err() == nil {
				t.Fatalf("session %d ended with %v and was not cut", s.ID(), err)
			}
		}
	}
}
