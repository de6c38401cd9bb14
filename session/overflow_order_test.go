package session_test

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Under DropOldest what comes is in order, the last chunk always among it, and every other
// one came or was counted, whoever sends and whatever is short.
func TestOverflowProperty(t *testing.T) {
	for seed := range uint64(scaled(60)) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 9))
			pass(time.Duration(rnd.IntN(10)))
			var script channel.Script
			script.AtoB = channel.Path{CapacityBytes: 100 + rnd.IntN(3000), Latency: ms}
			c := creditCouple(t, script, 1000+rnd.IntN(3000), 1000+rnd.IntN(9000), func(c *session.Config) {
				c.Channel.HighWaterBytes = 1000 + rnd.IntN(3000)
			})
			h := &heard{}
			pauses := rnd.IntN(20)
			c.wo.invoke = func(s *session.Session) {
				if s.Event() == "e" {
					go func() {
						for range pauses {
							time.Sleep(10 * ms)
							if p, ok, _ := s.TryRecv(); ok {
								h.numbers = append(h.numbers, int(p[0]))
							}
						}
						h.read(s)
					}()
					return
				}
				s.SetHandler(newReceiver())
			}
			s, beside := c.open("e"), c.open("beside")
			s.SetOverflow(session.Overflow{Policy: session.DropOldest, MaxChunks: 1 + rnd.IntN(9)})
			go func() { // takes room and credit away
				for range 20 {
					_, _ = beside.Write(make([]byte, 900))
				}
				_ = beside.Close()
			}()
			loop := seed%2 == 0
			for i := range 100 {
				send := func() error { return s.Send(t.Context(), numbered(i)[:1+rnd.IntN(400)]) }
				if loop {
					send = func() (err error) {
						onLoop(t, c.engine, func() { err = s.SendChunk(numbered(i)[:1+rnd.IntN(400)]) })
						return err
					}
				}
				if err := send(); err != nil {
					t.Fatalf("chunk %d: %v", i, err)
				}
				pass(time.Duration(rnd.IntN(3)) * ms)
			}
			choke(t, c, s, loop)
			pass(time.Minute)
			got, end := h.snapshot()
			if n := len(got); end != "choke" || n == 0 || got[n-1] != 99 || !slices.IsSorted(got) {
				t.Fatalf("seed %d: the peer read %v and %q, want an ordered part, the last one, and the choke", seed, got, end)
			}
			if n := len(got) + int(s.Dropped()); n != 100 {
				t.Errorf("seed %d: %d chunks came and %d were dropped, want 100", seed, len(got), s.Dropped())
			}
		})
	}
}

// A message by number is never dropped: it waits for what is queued, and a value too.
func TestOverflowMessages(t *testing.T) {
	for _, loop := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var served *session.Session
			client, server := callPair(t, codec.V1, func(s *session.Session, _ []byte) { served = s }, windows(1000, 1<<20))
			offer := codec.Frame{Kind: codec.KindCall, Type: codec.V1Ping, Headers: client.Offer()}
			ping, err := client.CallOffLoop(t.Context(), &session.Call{Type: offer.Type, Headers: offer.Headers, Rx: session.Primitive}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ping.Recv(t.Context()); err != nil {
				t.Fatal(err)
			}
			s, err := client.CallOffLoop(t.Context(), callOf(1), nil)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			served.SetOverflow(session.Overflow{Policy: session.DropOldest})
			for i := range chunks {
				if err := served.Send(t.Context(), numbered(i)); err != nil {
					t.Fatal(err)
				}
			}
			if session.Backlog(served) == 0 {
				t.Fatal("nothing is queued: this test is of no use")
			}
			args := codec.Args(string(numbered(chunks))).Bytes()
			if !loop {
				go func() {
					_ = served.SendMessageOffLoop(context.Background(), codec.V1Write, args)
					_ = served.SendMessageOffLoop(context.Background(), codec.V1Close, nil)
				}()
			} else {
				onLoop(t, server, func() {
					served.SetHandler(onRoom{func(s *session.Session) {
						if s.SendMessage(codec.V1Write, args) == nil {
							_ = s.SendMessage(codec.V1Close, nil)
						}
					}})
					if err := served.SendMessage(codec.V1Write, args); err != channel.ErrFull {
						t.Errorf("SendMessage() = %v, want ErrFull", err)
					}
				})
			}
			pass(time.Second)
			h := &heard{}
			h.read(s)
			if got, end := h.snapshot(); len(got) != chunks+1 || !slices.IsSorted(got) || end != "choke" {
				t.Errorf("the client read %v and %s, want all in order", got, end)
			}
		})
	}
}

// A relay that may lose chunks does so for a caller that does not read, and goes on.
func TestOverflowForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 200
		pair := func() (net.Conn, net.Conn) { a, b := channel.Pair(channel.Script{}); return a, b }
		c := newChain(t, codec.V1, pair, func(s *session.Session) {
			go func() {
				_, _ = s.Recv(context.Background())
				for i := range count {
					_, _ = s.Write(append(make([]byte, 0, 4000), numbered(i)...)[:4000])
				}
				_ = s.Close()
			}()
		}, func(c *session.Config) { c.Channel.HighWaterBytes = 16 << 10 })
		s := c.open(t)
		synctest.Wait()
		var relay *session.Session
		onLoop(t, c.server, func() { relay = session.SessionOf(c.server, s.ID()) })
		relay.SetOverflow(session.Overflow{Policy: session.DropNewest})
		_, _ = s.Write([]byte("go"))
		pass(time.Second)
		if n := c.worker.Stats().Open; n != 1 || relay.Dropped() == 0 {
			t.Errorf("%d chunks were dropped for one who does not read", relay.Dropped())
		}
		h := &heard{}
		h.read(s)
		if got, end := h.snapshot(); len(got)+int(relay.Dropped()) != count || !slices.IsSorted(got) || end != "choke" {
			t.Errorf("the client read %d chunks and %q, %d were dropped, want %d in order and the choke", len(got), end, relay.Dropped(), count)
		}
		synctest.Wait()
		if !c.over() {
			t.Error("the chain did not come to its end")
		}
	})
}
