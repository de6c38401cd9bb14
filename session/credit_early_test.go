package session_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// A client does not wait for the answer to its offer. What it sends until it knows the
// terms is not held back, and the peer must not take it for more than there was credit for:
// it has its place before the word that the client keeps to them.
func TestCreditEarly(t *testing.T) {
	for seed := range uint64(scaled(1000)) {
		ok := t.Run("", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { creditEarly(t, seed) }) })
		if !ok {
			t.Fatalf("seed %d failed", seed)
		}
	}
}

func creditEarly(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 12))
	perSession, perChannel, mark := 1+rnd.IntN(2000), 1+rnd.IntN(4000), 1+rnd.IntN(3000)
	opt := []option{quiet, windows(perSession, perChannel), func(c *session.Config) {
		c.Channel.HighWaterBytes, c.Channel.StallTimeout, c.Channel.FrameTimeout = mark, time.Hour, time.Hour
	}}
	client, _ := newTable(t, codec.V1, session.Client, opt...)
	server, _ := newTable(t, codec.V1, session.Server, append(opt, serving(func(s *session.Session, _ []byte) {
		go echoSlowly(s, rand.New(rand.NewPCG(seed, s.ID())))
	}))...)
	offer := client.Offer()
	a, b := channel.Pair(gentle(seed))
	if err := errors.Join(client.Channel().Attach(a), server.Channel().Attach(b)); err != nil {
		t.Fatal(err)
	}
	defer closeNow(client)
	defer closeNow(server)
	ping := &session.Call{Type: codec.V1Ping, Headers: offer, Rx: session.Primitive}
	if _, err := client.CallOffLoop(t.Context(), ping, newReceiver()); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 1 + rnd.IntN(5) {
		s, err := client.CallOffLoop(t.Context(), callOf(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		own := rand.New(rand.NewPCG(seed, uint64(i)+1000))
		all.Go(func() { converse(t, s, own) })
	}
	all.Wait()
	pass(time.Minute)
	for name, table := range map[string]*session.Table{"client": client, "server": server} {
		if err := table.Channel().Err(); err != nil {
			t.Errorf("the channel of the %s ended: %v", name, err)
		}
		if st := table.Stats(); st.Failed != 0 || st.Open != 0 {
			t.Errorf("the %s: %+v, want no failure, and no session that is left", name, st)
		}
	}
	onLoop(t, server, func() {
		if !session.Confirmed(server) {
			t.Error("the client has not said that it keeps to the terms")
		}
	})
	wantWhole(t, client, server, int64(perChannel))
	wantWhole(t, server, client, int64(perChannel))
}

// TestHelloWaits: while the answer to the peer's offer finds no room, what the peer sends is
// read. It may be all that a peer waits for which does not read either.
func TestHelloWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := channel.Script{
			AtoB: channel.Path{CapacityBytes: 1, Stalls: []channel.Stall{{At: 0, For: time.Minute}}},
			BtoA: channel.Path{Latency: time.Second},
		}
		c := newCouple(t, codec.V1, script, quiet, func(c *session.Config) {
			c.Channel.HighWaterBytes, c.Channel.StallTimeout, c.Extensions.Offer = 1<<10, -1, true
		})
		s := c.open("e")
		onLoop(t, c.engine, func() {
			for s.SendChunk(make([]byte, 100)) == nil {
			}
		})
		pass(2 * time.Second) // the handshake has come
		if st := c.engine.Channel().Stats(); st.FramesIn != 1 || st.PausedNow {
			t.Errorf("Stats() = %+v, want one frame in and no pause", st)
		}
	})
}
