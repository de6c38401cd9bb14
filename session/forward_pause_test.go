package session_test

import (
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// newNarrowChain is a chain whose runtime can hold little and whose worker begins to echo
// when it is released. It returns the session in the middle, that of the caller.
func newNarrowChain(t *testing.T, release <-chan struct{}) (s, middle *session.Session) {
	t.Helper()
	narrow := channel.Path{CapacityBytes: 1000, Latency: ms}
	link := func() (net.Conn, net.Conn) {
		a, b := channel.Pair(channel.Script{AtoB: narrow, BtoA: narrow})
		return a, b
	}
	c := newChain(t, codec.V1, link, func(s *session.Session) {
		go func() {
			<-release
			echoGo(s)
		}()
	}, func(c *session.Config) {
		c.Channel.HighWaterBytes, c.InboxBytes = 3000, 3000
		c.MaxPause, c.Channel.StallTimeout = time.Hour, time.Hour
	})
	s = c.open(t)
	pass(time.Second)
	onLoop(t, c.server, func() { middle = session.SessionOf(c.server, s.ID()) })
	return s, middle
}

// stamped is a chunk that says which one it is.
func stamped(i int) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(i)), pattern(i, 996)...)
}

// exchange sends n chunks while f runs, and counts those that come back in order.
func exchange(t *testing.T, s *session.Session, n int, f func(came *atomic.Int64)) {
	t.Helper()
	var came atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p, err := range s.Chunks(t.Context()) {
			if err != nil || int64(binary.BigEndian.Uint32(p)) != came.Load() {
				t.Errorf("Recv() = %d bytes, %v, want chunk %d", len(p), err, came.Load())
				return
			}
			came.Add(1)
		}
	}()
	go func() {
		for i := range n {
			if err := s.Send(context.Background(), stamped(i)); err != nil {
				t.Errorf("Send() = %v", err)
				break
			}
		}
		_ = s.Close()
	}()
	f(&came)
	<-done
	if got := came.Load(); got != int64(n) {
		t.Errorf("%d chunks came back, want %d", got, n)
	}
}

// Who resumes a session that is joined to another does not make the joint forget the chunk
// that it keeps for want of room.
func TestForwardResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s, middle := newNarrowChain(t, release)
		exchange(t, s, 500, func(*atomic.Int64) {
			for i := range 100 {
				if i == 50 {
					close(release)
				}
				middle.ResumeOffLoop()
				pass(10 * ms)
			}
		})
	})
}

// Who pauses one has it stand still, whatever room there is, until it is resumed.
func TestForwardPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s, middle := newNarrowChain(t, release)
		exchange(t, s, 500, func(came *atomic.Int64) {
			pass(time.Second) // until the joint is full
			middle.PauseOffLoop()
			pass(ms)
			close(release)
			for range 3 {
				pass(time.Second) // for what has passed it
				before := came.Load()
				pass(2 * time.Second)
				if came.Load() != before || before == 0 || before == 500 {
					t.Errorf("%d chunks had come back when it was paused, then %d", before, came.Load())
				}
				middle.ResumeOffLoop()
				pass(50 * ms)
				middle.PauseOffLoop()
			}
			middle.ResumeOffLoop()
		})
	})
}
