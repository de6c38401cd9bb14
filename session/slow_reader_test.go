package session_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// crowd is a thousand sessions that exchange small chunks, one after the other, over a
// link of a millisecond, and one whose reader is slow.
type crowd struct {
	*couple
	all    []*session.Session
	served atomic.Pointer[session.Session] // the worker's end of the slow one
}

const (
	crowdWindow = 256 << 10
	crowdMark   = 1 << 20
	crowdInbox  = 64 << 10
	crowdChunk  = 16 << 10
)

func newCrowd(t *testing.T, agreed bool) *crowd {
	k := &crowd{}
	k.couple = newCouple(t, codec.V1, channel.Script{AtoB: mibs, BtoA: mibs}, quiet, func(c *session.Config) {
		c.Channel.HighWaterBytes, c.InboxBytes, c.MaxSessions = crowdMark, crowdInbox, 2000
		c.Extensions = session.Extensions{Offer: agreed, SessionWindow: crowdWindow, ChannelWindow: 4 * crowdWindow}
	})
	k.wo.invoke = func(s *session.Session) {
		if s.Event() == "slow" {
			k.served.Store(s)
			return
		}
		s.SetHandler(&echoLoop{})
	}
	for range 1000 {
		k.all = append(k.all, k.open("echo"))
	}
	pass(time.Second)
	return k
}

// round has each session make one exchange. It returns how long they took, in order, and
// checks meanwhile that neither side holds more than its bounds.
func (k *crowd) round(check func()) []time.Duration {
	k.t.Helper()
	var took []time.Duration
	for i, s := range k.all {
		start := time.Now()
		if _, err := s.Write(pattern(i, 64)); err != nil {
			k.t.Fatal(err)
		}
		if p, err := s.Recv(context.Background()); err != nil || len(p) != 64 {
			k.t.Fatalf("Recv() = %d bytes, %v", len(p), err)
		}
		took = append(took, time.Since(start))
		for _, table := range []*session.Table{k.engine, k.worker} {
			if q := table.Channel().Stats().QueuedBytes; q > crowdMark+crowdChunk+100 {
				k.t.Fatalf("%d bytes are queued, want at most the water mark and a chunk", q)
			}
		}
		check()
	}
	slices.Sort(took)
	return took
}

// keeps is a check that at most so much is kept for a reader that does not read.
func (k *crowd) keeps(s *session.Session, most int) func() {
	return func() {
		if n := session.Held(s); n > most {
			k.t.Fatalf("%d bytes are kept for the slow reader, want at most %d", n, most)
		}
	}
}

// owes is the same for one that does: how much has come of which it has not given back.
func (k *crowd) owes(table *session.Table, s *session.Session, most int64) func() {
	return func() {
		onLoop(k.t, table, func() {
			if _, received, _ := session.AccountOf(s); received > most {
				k.t.Errorf("%d bytes have come for the slow reader, want at most %d", received, most)
			}
		})
	}
}

// leave ends all the exchanges.
func (k *crowd) leave() {
	for _, s := range k.all {
		_ = s.Close()
	}
	pass(time.Second)
	k.wantEmpty()
}

// With credit a slow reader of one session among a thousand costs the others next to
// nothing: their 99th percentile at most doubles, and it is the same to the nanosecond
// while the reader does not read at all. All that was sent arrives.
func TestSlowReaderCredit(t *testing.T) {
	for _, reader := range []string{"worker", "engine"} {
		t.Run("at the "+reader, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { slowReader(t, reader == "worker") })
		})
	}
}

func slowReader(t *testing.T, atWorker bool) {
	k := newCrowd(t, true)
	before := k.round(func() {})
	s := k.open("slow")
	pass(time.Second)
	from, to, reader := s, k.served.Load(), k.worker
	if !atWorker {
		from, to, reader = to, from, k.engine
	}
	const chunks = 400 // 6 MiB
	go func() {
		for i := range chunks {
			if err := from.Send(context.Background(), pattern(i, crowdChunk)); err != nil {
				t.Errorf("Send() = %v", err)
				return
			}
		}
		_ = from.Close()
	}()
	pass(time.Second)
	still := k.round(k.keeps(to, crowdWindow+crowdChunk+16*(crowdWindow/crowdChunk+1)))
	if !slices.Equal(before, still) {
		t.Errorf("an exchange takes %v to %v beside a session that nobody reads, before %v to %v, want no difference",
			still[0], percentile(still, 100), before[0], percentile(before, 100))
	}
	if held := session.Held(to); held < crowdWindow {
		t.Errorf("%d bytes are kept for the slow reader, want a window: this test is of no use", held)
	}
	read := make(chan struct{})
	go func() { // 20 chunks a second
		defer close(read)
		for i := range chunks {
			p, err := to.Recv(context.Background())
			if err != nil || !slices.Equal(p, pattern(i, crowdChunk)) {
				t.Errorf("Recv() = %d bytes, %v, want chunk %d", len(p), err, i)
				return
			}
			pass(50 * ms)
		}
		_ = to.Close()
	}()
	for range 3 {
		slow := k.round(k.owes(reader, to, crowdWindow+crowdChunk))
		if a, b := percentile(before, 99), percentile(slow, 99); b > 2*a {
			t.Errorf("the 99th percentile of the others is %v beside a slow reader, before %v, want at most twice", b, a)
		}
	}
	<-read
	if e, w := k.engine.Stats(), k.worker.Stats(); e.Parked+w.Parked+e.Failed+w.Failed != 0 {
		t.Errorf("engine %+v, worker %+v, want no pause and no failure", e, w)
	}
	k.leave()
}

// Without credit one that does not read stops the channel, for MaxPause and not longer:
// then its session fails, and the others go on as before.
func TestSlowReaderPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCrowd(t, false)
		before := k.round(func() {})
		s := k.open("slow")
		ended := make(chan error, 1)
		go func() { // until it is told of the failure
			_, err := pourInto(s, crowdChunk, time.Hour)
			ended <- err
		}()
		pass(time.Second)
		const most = 2*crowdInbox + 2*crowdChunk + 16*(2*crowdInbox/crowdChunk+2)
		during := k.round(k.keeps(k.served.Load(), most))
		if longest := percentile(during, 100); longest > 5*time.Second || longest < 3*time.Second {
			t.Errorf("the others have waited for %v, want what is left of 5 s", longest)
		}
		if p := percentile(during, 99); p > 2*percentile(before, 99) {
			t.Errorf("the 99th percentile is %v, before %v: more than one pause", p, percentile(before, 99))
		}
		_, err := s.Recv(t.Context())
		var e *session.Error
		if !errors.As(err, &e) || !e.Remote || e.Code != session.CodeOverflow {
			t.Errorf("Recv() = %v, want the overflow", err)
		}
		_ = s.Close()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("the sender still waits")
		}
		pass(time.Second)
		if after := k.round(func() {}); !slices.Equal(before, after) {
			t.Errorf("an exchange takes %v to %v when it is over, before %v to %v, want no difference",
				after[0], percentile(after, 100), before[0], percentile(before, 100))
		}
		if w := k.worker.Stats(); w.Failed != 1 || w.Parked == 0 {
			t.Errorf("Stats() = %+v, want a pause and one failure", w)
		}
		k.leave()
	})
}
