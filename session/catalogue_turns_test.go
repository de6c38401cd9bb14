package session_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// mibs is a link of 64 MiB a second: what a path holds is delivered once in a millisecond.
var mibs = channel.Path{Latency: ms}

// dropper is a Handler that drops what comes, and ends when its peer does.
type dropper struct{}

func (dropper) OnChunk(*session.Session, []byte)         {}
func (dropper) OnChoke(s *session.Session)               { _ = s.SendChoke() }
func (dropper) OnError(*session.Session, *session.Error) {}

// pending is a Handler that always has one chunk to be sent, until it has sent so many.
type pending struct {
	dropper
	all   *turns
	chunk []byte
	since time.Time // of when this chunk waits
	left  int
}

// turns is what many of them come to. It belongs to the loop.
type turns struct {
	longest time.Duration // that a chunk has waited
	left    int           // of sessions
	over    chan struct{}
}

func (p *pending) OnChoke(*session.Session) {}

func (p *pending) OnError(_ *session.Session, e *session.Error) { panic(e) }

func (p *pending) OnWritable(s *session.Session) {
	for p.left > 0 {
		if s.SendChunk(p.chunk) != nil {
			return
		}
		now := time.Now()
		p.all.longest = max(p.all.longest, now.Sub(p.since))
		p.since = now
		p.left--
	}
	_ = s.SendChoke()
	if p.all.left--; p.all.left == 0 {
		close(p.all.over)
	}
}

// takeTurns has 100,000 sessions send three small chunks each, at once, and one a hundred
// large ones: each chunk waits for at most 100 ms.
func takeTurns(t *testing.T, d codec.Dialect) {
	n := scaled(100_000)
	c := newCouple(t, d, channel.Script{AtoB: mibs, BtoA: mibs}, func(c *session.Config) {
		c.MaxSessions, c.Channel.HighWaterBytes = -1, 128<<10
		c.InboxBytes = 64 << 20 // so many who wait count for more than the default
	})
	c.wo.invoke = func(s *session.Session) { s.SetHandler(dropper{}) }
	all := &turns{left: n, over: make(chan struct{})}
	var list []*session.Session
	opened := make(chan struct{})
	open := func() {
		for len(list) < n {
			s, err := c.engine.Open("e", nil, nil)
			if err != nil {
				return // OnWritable follows
			}
			list = append(list, s)
		}
		if opened != nil {
			close(opened)
			opened = nil
		}
	}
	c.eo.room = open
	wait := opened
	onLoop(t, c.engine, open)
	<-wait
	pass(time.Second)
	onLoop(t, c.engine, func() {
		now := time.Now()
		for i, s := range list {
			p := &pending{all: all, chunk: []byte("small"), since: now, left: 3}
			if i == n/2 {
				p.chunk, p.left = make([]byte, 32<<10), 100
			}
			s.SetHandler(p)
			p.OnWritable(s)
		}
	})
	<-all.over
	if all.longest > 100*ms {
		t.Errorf("a chunk of %d sessions has waited for %v, want at most 100 ms", n, all.longest)
	}
	if all.longest < 5*ms {
		t.Errorf("the longest wait was %v: nothing had to wait, this test is of no use", all.longest)
	}
	pass(time.Second) // for what is under way
	c.wantEmpty()
}

// streamAndPings has one session echo a stream of chunks of 64 KiB, as fast as the link
// takes it, and others exchange small ones. It returns how long those took, in order, and
// how much was streamed.
func streamAndPings(t *testing.T, c *couple, sessions, pings int) (took []time.Duration, streamed int64) {
	c.wo.invoke = func(s *session.Session) {
		if s.Event() == "ping" {
			s.SetHandler(&echoLoop{})
			return
		}
		go echoGo(s)
	}
	var total atomic.Int64
	var stop atomic.Bool
	var stream, all sync.WaitGroup
	bulk := c.open("bulk")
	stream.Go(func() {
		chunk := make([]byte, 64<<10)
		for !stop.Load() {
			if _, err := bulk.Write(chunk); err != nil {
				t.Errorf("Write() = %v", err)
				return
			}
		}
		_ = bulk.Close()
	})
	stream.Go(func() {
		for p, err := range bulk.Chunks(context.Background()) {
			if err != nil {
				t.Errorf("Recv() = %v", err)
				return
			}
			total.Add(int64(len(p)))
		}
	})
	var mu sync.Mutex
	for range sessions {
		all.Go(func() {
			s := c.open("ping")
			for range pings {
				start := time.Now()
				if _, err := s.Write([]byte("ping")); err != nil {
					t.Errorf("Write() = %v", err)
					return
				}
				if p, err := s.Recv(context.Background()); err != nil || string(p) != "ping" {
					t.Errorf("Recv() = %q, %v", p, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
			_ = s.Close()
		})
	}
	all.Wait()
	stop.Store(true)
	stream.Wait()
	slices.Sort(took)
	return took, total.Load()
}

// percentile of a sorted list.
func percentile(list []time.Duration, p int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return list[(len(list)-1)*p/100]
}

func testC14(t *testing.T, d codec.Dialect) {
	const mark = 128 << 10
	for _, agreed := range []bool{false, true} {
		if agreed && d == codec.V0 {
			continue
		}
		c := newCouple(t, d, channel.Script{AtoB: mibs, BtoA: mibs}, func(c *session.Config) {
			c.Channel.HighWaterBytes, c.Extensions.Offer = mark, agreed
		})
		took, streamed := streamAndPings(t, c, 20, 50)
		// Before a ping lies, on each way, what the sender holds, the water mark and a chunk,
		// and what the path does, 64 KiB; all that at 64 MiB a second, and the path's own time.
		limit := 2 * (time.Duration(mark+64<<10+64<<10)*time.Second/(64<<20) + ms)
		if p := percentile(took, 99); p > limit {
			t.Errorf("agreed %v: the 99th percentile of pings is %v beside a stream, want at most %v", agreed, p, limit)
		}
		if streamed < 1<<20 {
			t.Errorf("agreed %v: %d KiB were streamed, want more: this test is of no use", agreed, streamed>>10)
		}
		c.wantEmpty()
	}
}
