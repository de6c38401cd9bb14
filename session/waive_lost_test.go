package session_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/session"
)

// A session is cut while the output is full, and a choke that waited for room comes before
// the error, which then cannot be sent: the peer, who knows nothing of the cut, may send all
// it wants.
func TestWaiveBehindChoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := channel.Path{CapacityBytes: 100, Stalls: []channel.Stall{{At: 600, For: time.Minute}}}
		c := creditCouple(t, channel.Script{AtoB: path}, 1000, 4000, func(c *session.Config) {
			c.Channel.HighWaterBytes, c.Channel.StallTimeout, c.Channel.FrameTimeout = 1000, time.Hour, time.Hour
		})
		const want = 20
		sent, ended := 0, make(chan struct{})
		c.wo.invoke = func(s *session.Session) {
			if s.Event() != "pour" {
				s.SetHandler(new(ending))
				return
			}
			go func() {
				defer close(ended)
				for ; sent < want && s.Send(t.Context(), make([]byte, 300)) == nil; sent++ {
				}
				_ = s.Close()
			}()
		}
		s := c.open("pour")
		pass(time.Second)
		if _, err := c.open("stall").Write(make([]byte, 20_000)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		go func() { _ = s.Close() }()
		synctest.Wait()
		onLoop(t, c.engine, func() {
			s.Cut(42, 1, "never mind")
			if n := session.Owed(c.engine); n != 1 {
				t.Errorf("%d errors are owed, want 1: this test is of no use", n)
			}
		})
		pass(2 * time.Minute)
		select {
		case <-ended:
		default:
			t.Errorf("the peer waits for credit for good: %s", session.Describe(c.worker))
		}
		if sent != want {
			t.Errorf("%d chunks of 300 bytes were sent to one who does not read, want %d", sent, want)
		}
	})
}
