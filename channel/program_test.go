package channel

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// FuzzProgram takes its input for a program: what both ends of a local pair do, one
// thing after the other, over a link with a random script. Whatever it is, what comes
// is what was sent, in its order, up to some point; each end is closed once; and the
// bytes add up.
func FuzzProgram(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x40\x02\x01\x00\x05\x00\x10\x07"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x05\x10\x00\x01" + "\x04\x02\x00\x05\x02\x00\x00\xff\xff\x02\xff\xff\x06\x07\x00\x11\x0d\x0e"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x07\x00\x20\x03" + "\x06\x00\xff\xff\x16\x00\xff\xff\x0c\x0c\x0c\x00\x10\x00\x08\xff\x0a\x07\x00\x0f\x00"))
	for seed := range byte(40) {
		program := []byte{0, 0, 0, 0, 0, 0, 0, seed, seed * 7, seed, seed}
		for i := range byte(60) {
			program = append(program, i*seed+i, seed^i, i*31)
		}
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 11 {
			return
		}
		synctest.Test(t, func(t *testing.T) { newProgram(t, data[:11]).run(data[11:min(len(data), 400)]) })
	})
}

// program is the state of one run.
type program struct {
	t      *testing.T
	script Script
	noLoop bool
	ends   [2]*actor
	wg     sync.WaitGroup // senders that wait
}

// actor is one end and what is known of it.
type actor struct {
	*side
	peer      *actor
	sent      int // chunks of session 1 that were accepted, in one order
	came      int // chunks of the peer's session 1
	beats     int // heartbeats sent
	beatsCame int
	bytes     int64 // accepted on session 1
	strays    tally[int64]
	parallel  map[uint64]int // chunks of the peer's waiting senders
	bound     int64
}

// newProgram reads seed, transport and high mark from head.
func newProgram(t *testing.T, head []byte) *program {
	p := &program{t: t, script: RandomScript(binary.BigEndian.Uint64(head)), noLoop: head[10]&1 != 0}
	m := medium{noLoop: p.noLoop, virtual: true}
	high := 1 + int(binary.BigEndian.Uint16(head[8:]))
	cfg := Config{Dialect: codec.Dialect(head[10] >> 1 & 1), HighWaterBytes: high}
	for i := range p.ends {
		a := &actor{side: newSide(t, m, cfg), parallel: map[uint64]int{}}
		a.bound = int64(high + 1<<16 + 100)
		a.onMessage = a.receive
		p.ends[i] = a
	}
	p.ends[0].peer, p.ends[1].peer = p.ends[1], p.ends[0]
	x, y := Pair(p.script)
	p.ends[0].open(x)
	p.ends[1].open(y)
	return p
}

func (a *actor) receive(m *codec.Message, _ []codec.Header) {
	switch {
	case beat(m, a.cfg.Dialect):
		a.beatsCame++
	case !whole(m.Payload):
		a.t.Errorf("a frame of %d bytes is not as it was sent", len(m.Payload))
	case m.Session == 1<<20:
		if n := number(m.Payload); n != a.came {
			a.t.Errorf("chunk %d came, want %d", n, a.came)
		}
		a.came++
	default:
		a.parallel[m.Session]++
	}
}

// run carries the program out.
func (p *program) run(code []byte) {
	next := func() (b byte) {
		if len(code) > 0 {
			b, code = code[0], code[1:]
		}
		return b
	}
	for waiting := uint64(0); len(code) > 0; {
		op := next()
		a := p.ends[op&1]
		switch op >> 1 % 8 {
		case 0:
			n := (int(next())<<8 | int(next())) & (16<<10 - 1)
			a.onLoop(func() { a.note(n, a.Send(chunk(1<<20, a.sent, n))) })
		case 1:
			n := (int(next())<<8 | int(next())) & (16<<10 - 1)
			a.note(n, a.SendOffLoop(NoWait, chunk(1<<20, a.sent, n)))
		case 2:
			a.onLoop(func() {
				if a.SendHeartbeat() == nil {
					a.beats++
				}
			})
		case 3:
			a.onLoop(a.Pause)
		case 4:
			a.onLoop(a.Resume)
		case 5:
			elapse(time.Duration(next()) * time.Duration(1+next()) * time.Millisecond / 4)
		case 6:
			waiting++
			id, n := 1<<21+waiting, int(next())
			p.wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				f := chunk(id, 0, n<<6)
				if err := a.SendOffLoop(ctx, f); err == nil {
					a.strays.add(int64(len(codec.AppendFrame(nil, a.cfg.Dialect, f))))
				}
			})
		case 7:
			a.onLoop(func() { a.stop(next()) })
		}
		if held := a.o.queued.Load(); held > a.bound {
			p.t.Errorf("%d bytes are held, want at most %d", held, a.bound)
		}
	}
	p.finish()
}

// onLoop runs f on the loop, if there still is one.
func (a *actor) onLoop(f func()) {
	done := make(chan struct{})
	if !a.Post(func() { defer close(done); f() }) {
		return
	}
	select {
	case <-done:
	case <-a.Done():
	}
}

// note checks how a chunk of session 1 was taken.
func (a *actor) note(n int, err error) {
	var ce *CloseError
	switch {
	case err == nil:
		a.bytes += int64(len(codec.AppendFrame(nil, a.cfg.Dialect, chunk(1<<20, a.sent, n))))
		a.sent++
	case !errors.Is(err, ErrFull) && !errors.As(err, &ce):
		a.t.Errorf("sending: %v", err)
	}
}

func (a *actor) stop(how byte) {
	switch how % 4 {
	case 0:
		a.Fail(&CloseError{Code: CodeDisowned})
	case 1:
		a.Drain(&CloseError{Code: CodeTerminated}, true, time.Duration(how)*time.Millisecond)
	case 2:
		a.Drain(&CloseError{Code: CodeTerminated}, false, 0)
	case 3:
		a.Poll()
	}
}

// finish lets the channels end and adds up.
func (p *program) finish() {
	for _, a := range p.ends {
		a.onLoop(a.Resume)
	}
	elapse(time.Second)
	var closing sync.WaitGroup
	for _, a := range p.ends {
		closing.Go(func() { _ = a.Close(context.Background()) })
		elapse(time.Duration(p.script.AtoB.CapacityBytes%3) * time.Second)
	}
	closing.Wait()
	p.wg.Wait()
	lossless := p.script.AtoB.Cut.Kind == NoCut && p.script.BtoA.Cut.Kind == NoCut
	for _, a := range p.ends {
		err, b := a.Err(), a.peer
		if a.opens.Load() != 1 || a.closes.Load() != 1 {
			p.t.Errorf("%d OnOpen and %d OnClose", a.opens.Load(), a.closes.Load())
		}
		if b.came > a.sent || b.beatsCame > a.beats {
			p.t.Errorf("%d chunks came of %d, %d heartbeats of %d", b.came, a.sent, b.beatsCame, a.beats)
		}
		for id, n := range b.parallel {
			if n != 1 {
				p.t.Errorf("the chunk of session %d came %d times", id, n)
			}
		}
		accepted := a.bytes
		for _, n := range a.strays.all() {
			accepted += n
		}
		if got := a.o.written + err.Undelivered; got != accepted {
			p.t.Errorf("%d bytes were written and %d are undelivered, want %d together", a.o.written, err.Undelivered, accepted)
		}
		if bErr := b.Err(); lossless && bErr.Code == CodeEOF && !p.noLoop {
			if in, out := b.Stats().BytesIn, a.Stats().BytesOut; in != out || err.Undelivered == 0 && b.came != a.sent {
				p.t.Errorf("all was read, %d bytes of %d and %d chunks of %d", in, out, b.came, a.sent)
			}
		}
	}
}
