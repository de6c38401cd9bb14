package session_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// windows has a table offer credit and cancel, with these windows.
func windows(perSession, perChannel int) option {
	return func(c *session.Config) {
		c.Extensions = session.Extensions{Offer: true, SessionWindow: perSession, ChannelWindow: perChannel, NoDeadline: true, NoCompression: true}
	}
}

const offerText = "1 credit=1000/4000 cancel"

// offering is a frame with an offer among its headers.
func offering(f codec.Frame, text string) string {
	f.Headers = []codec.Header{{Name: []byte("x"), Value: []byte("y")}, {Name: []byte("sluice"), Value: []byte(text)}}
	return "raw " + hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &f))
}

// What an offer is answered with, byte for byte: terms of our own, or nothing.
func TestOffer(t *testing.T) {
	shake := codec.Frame{Kind: codec.KindHandshake, Text: "u"}
	hello := hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindCall, Args: codec.Args(offerText).Bytes()}))
	for _, tt := range []struct {
		name, offer string
		ext         session.Extensions
		answered    bool
	}{
		{name: "credit and cancel", offer: "1 credit=1000/4000 cancel", answered: true},
		{name: "words of the future", offer: "1 wings credit=1/1 cancel=fast", answered: true},
		{name: "bad windows", offer: "1 credit=-1/99999999999999999999", answered: true},
		{name: "another version", offer: "2 credit=1000/4000"},
		{name: "empty", offer: ""},
		{name: "switched off", offer: offerText, ext: session.Extensions{NoCredit: true, NoCancel: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newQuietRig(t, channel.Script{}, codec.V1, session.Engine, windows(1000, 4000), func(c *session.Config) {
					c.Extensions.NoCredit, c.Extensions.NoCancel = tt.ext.NoCredit, tt.ext.NoCancel
				})
				r.send(offering(shake, tt.offer))
				m := r.nextMessage(time.Second)
				switch {
				case (m != nil) != tt.answered:
					t.Fatalf("answer %v, want one: %v", m, tt.answered)
				case m != nil && (m.Session != 0 || m.Type != 0 || string(m.Payload) != offerText):
					t.Errorf("answer %d %d %q, want %s", m.Session, m.Type, m.Payload, hello)
				}
			})
		})
	}
}

// An offer counts on the first frame of a link only, and never in v0: runtimes forward
// the headers of invokes.
func TestOfferElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Engine, windows(1000, 4000))
		r.send(offering(codec.Frame{Kind: codec.KindHeartbeat}, offerText))
		r.told("heartbeat")
		r.wantIdle("an offer in a heartbeat")
		w := newRig(t, codec.V1, session.Worker, windows(1000, 4000))
		w.send(offering(codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "e"}, offerText))
		w.wantIdle("an offer in an invoke")
		s := newRig(t, codec.V1, session.Server, serving(nil), windows(1000, 4000))
		s.send("raw 940102910190", offering(codec.Frame{Kind: codec.KindCall, Session: 2, Type: codec.V1Ping}, offerText))
		if m := s.nextMessage(time.Second); m == nil || m.Session != 2 {
			t.Errorf("answer %v to a late ping, want the plain one", m)
		}
		s.wantIdle("an offer in a late ping")
		if c := newRig(t, codec.V0, session.Worker, windows(1000, 4000)); c.Offer() != nil {
			t.Error("Offer() in v0, want none")
		}
		if c := newRig(t, codec.V1, session.Worker); c.Offer() != nil {
			t.Error("Offer() to a peer that is not known, want none")
		}
	})
}

// A client offers with a ping; a plain service's answer withdraws it.
func TestOfferByPing(t *testing.T) {
	for _, plain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, b := channel.Pair(channel.Script{})
			client, _ := newTable(t, codec.V1, session.Client, windows(1000, 4000))
			server, _ := newTable(t, codec.V1, session.Server, serving(nil), func(c *session.Config) {
				c.Extensions.NoCredit, c.Extensions.NoCancel, c.Extensions.NoDeadline, c.Extensions.NoCompression = plain, plain, plain, plain
			})
			offer := client.Offer()
			if err := errors.Join(client.Channel().Attach(a), server.Channel().Attach(b)); err != nil {
				t.Fatal(err)
			}
			defer closeNow(client)
			defer closeNow(server)
			ping := &session.Call{Type: codec.V1Ping, Headers: offer, Rx: session.Primitive}
			s, err := client.CallOffLoop(t.Context(), ping, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(t.Context()); err != nil {
				t.Fatal(err)
			}
			onLoop(t, client, func() {
				client.Withdraw()
				if client.Agreed() == plain {
					t.Errorf("Agreed() = %v with a plain service: %v", client.Agreed(), plain)
				}
			})
		})
	}
}

// creditCouple is an engine and a worker that have agreed.
func creditCouple(t testing.TB, s channel.Script, perSession, perChannel int, opts ...option) *couple {
	t.Helper()
	c := newCouple(t, codec.V1, s, append([]option{windows(perSession, perChannel)}, opts...)...)
	pass(10 * time.Second) // the link may be slow
	synctest.Wait()
	onLoop(t, c.engine, func() {
		if !c.engine.Agreed() {
			t.Error("the engine has not agreed")
		}
	})
	return c
}

// A sender is held back by what was not read, without the socket being paused; the other
// sessions go on (row B20 between peers of ours).
func TestCreditHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := creditCouple(t, channel.Script{}, 1000, 100_000)
		var slow *session.Session
		c.wo.invoke = func(s *session.Session) {
			if s.Event() == "slow" {
				slow = s
				return
			}
			s.SetHandler(&echoLoop{})
		}
		s := c.open("slow")
		sent := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for ; s.Send(ctx, make([]byte, 300)) == nil; sent++ {
		}
		if sent != 4 { // 1,200 bytes: the fourth passes the window
			t.Errorf("%d chunks of 300 bytes went into a window of 1,000, want 4", sent)
		}
		other := c.open("echo")
		for range 50 {
			_, _ = other.Write(make([]byte, 900))
			if p, err := other.Recv(t.Context()); len(p) != 900 || err != nil {
				t.Fatalf("Recv() = %d bytes, %v: the other session stands still", len(p), err)
			}
		}
		if p := c.worker.Stats().Parked; p != 0 {
			t.Errorf("the worker stopped reading %d times, want never", p)
		}
		pass(time.Minute) // longer than MaxPause: a slow reader is nobody's fault now
		for range sent {
			if _, err := slow.Recv(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Send(t.Context(), make([]byte, 300)); err != nil {
			t.Errorf("Send() after the reader went on = %v", err)
		}
	})
}

// One whose session is out of credit waits; the loop is refused and told.
func TestCreditOnLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := creditCouple(t, channel.Script{}, 1000, 100_000)
		var told, sent int
		c.wo.invoke = func(s *session.Session) {
			pour := func(s *session.Session) {
				for ; sent < 100; sent++ {
					if s.SendChunk(pattern(sent, 300)) != nil {
						return
					}
				}
				_ = s.SendChoke()
			}
			pour(s)
			s.SetHandler(onRoom{func(s *session.Session) { told++; pour(s) }})
			pour(s)
		}
		s := c.open("pour")
		synctest.Wait()
		if sent != 4 {
			t.Errorf("%d chunks were taken, want 4", sent)
		}
		for i := range 100 {
			p, err := s.Recv(t.Context())
			if err != nil || !bytes.Equal(p, pattern(i, 300)) {
				t.Fatalf("Recv() = %d bytes, %v, want chunk %d", len(p), err, i)
			}
		}
		if _, err := s.Recv(t.Context()); err != io.EOF || told == 0 {
			t.Errorf("Recv() = %v, told %d times", err, told)
		}
	})
}

// onRoom is a Writable handler.
type onRoom struct{ f func(*session.Session) }

func (h onRoom) OnChunk(*session.Session, []byte)         {}
func (h onRoom) OnChoke(*session.Session)                 {}
func (h onRoom) OnError(*session.Session, *session.Error) {}
func (h onRoom) OnWritable(s *session.Session)            { h.f(s) }

// What a peer's grants and overdrafts get (rows B21 to B23).
func TestCreditBad(t *testing.T) {
	shake := offering(codec.Frame{Kind: codec.KindHandshake, Text: "u"}, offerText)
	grant := func(args ...any) string {
		f := codec.Frame{Kind: codec.KindCall, Type: 1, Args: codec.Args(args...).Bytes()}
		return "raw " + hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &f))
	}
	confirm := "raw " + hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindCall, Args: codec.Args(offerText).Bytes()}))
	big := string(bytes.Repeat([]byte("x"), 1000))
	for _, tt := range []struct {
		name string
		send []string
		code channel.Code // 0: the channel lives
		told string
	}{
		{name: "a good grant", send: []string{grant(2, 100), grant(0, 100)}},
		{name: "0", send: []string{grant(2, 0)}, code: channel.CodeBadCredit},
		{name: "negative", send: []string{grant(2, -5)}, code: channel.CodeBadCredit},
		{name: "2^63", send: []string{grant(2, uint64(1)<<63)}, code: channel.CodeBadCredit},
		{name: "the sum overflows", send: []string{grant(0, int64(1)<<39), grant(0, int64(1)<<39), grant(0, int64(1)<<39)}, code: channel.CodeBadCredit},
		{name: "a string", send: []string{grant(2, "x")}, code: channel.CodeBadCredit},
		{name: "unknown session", send: []string{grant(77, 5)}},
		{name: "overdrawn", send: []string{"chunk 2 " + big, "chunk 2 " + big}, told: "error 2 42 203"},
		{name: "overdrawn on two sessions", send: []string{"chunk 2 " + big, "chunk 2 " + big, "chunk 3 " + big, "chunk 3 " + big},
			code: channel.CodeBadCredit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newQuietRig(t, channel.Script{}, codec.V1, session.Engine, windows(1000, 4000))
				r.send(shake)
				r.nextMessage(time.Second)
				r.send(confirm)
				r.owner.take()
				for range 2 {
					if _, err := r.OpenOffLoop(t.Context(), "e", nil, nil); err != nil {
						t.Fatal(err)
					}
					r.next(time.Second)
				}
				for _, f := range tt.send {
					_, _ = r.conn.Write(r.frame(f))
				}
				synctest.Wait()
				if err := r.Channel().Err(); err != nil && err.Code != tt.code || err == nil && tt.code != 0 {
					t.Errorf("the channel ended with %v, want %v", err, tt.code)
				}
				if tt.told != "" {
					r.wantError(2, 42, session.CodeOverflow, "overdrawn")
				}
			})
		})
	}
}

// A cancel ends both directions at the peer, its handler's context too, and overtakes what
// the session has queued.
func TestCancel(t *testing.T) {
	for _, agreed := range []bool{true, false} {
		t.Run(fmt.Sprintf("agreed=%v", agreed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCouple(t, codec.V1, channel.Script{}, func(cfg *session.Config) {
					cfg.Extensions.Offer, cfg.Extensions.NoCancel = agreed, !agreed
				})
				got := make(chan error, 1)
				c.wo.invoke = func(s *session.Session) {
					ctx, _ := s.Bind(context.Background())
					go func() {
						<-ctx.Done()
						got <- context.Cause(ctx)
						_ = s.Close()
					}()
				}
				s := c.open("wait")
				synctest.Wait()
				onLoop(t, c.engine, func() { s.Cancel(42, 7, "never mind") })
				var e *session.Error
				if err := <-got; !errors.As(err, &e) || !e.Remote || e.Code != 7 || e.Message != "never mind" {
					t.Errorf("the worker's context ended with %v, want the remote error", err)
				}
				if _, err := s.Recv(t.Context()); !errors.As(err, &e) || e.Remote || e.Code != 7 {
					t.Errorf("Recv() = %v, want the local error", err)
				}
				c.wantEmpty()
				if n := c.engine.Stats().Late; agreed && n != 0 {
					t.Errorf("%d frames came late: the worker answered a cancel", n)
				}
			})
		})
	}
}

// TestCreditProperty runs random schedules over random links: every byte arrives once and
// in order, nobody is left waiting, and no credit is lost or made.
func TestCreditProperty(t *testing.T) {
	for seed := range scaled(10_000) {
		ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { creditSchedule(t, uint64(seed)) })
		})
		if !ok {
			t.Fatalf("seed %d failed", seed)
		}
	}
}

func creditSchedule(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 4))
	perSession, perChannel := 1+rnd.IntN(2000), 1+rnd.IntN(4000)
	script := channel.Script{}
	if seed%2 == 1 {
		script = gentle(seed)
	}
	c := creditCouple(t, script, perSession, perChannel)
	onWorker := rnd.IntN(2) == 0
	c.wo.invoke = func(s *session.Session) {
		if onWorker && s.Event() == "loop" {
			s.SetHandler(&echoLoop{})
			return
		}
		go echoSlowly(s, rand.New(rand.NewPCG(seed, s.ID())))
	}
	var all sync.WaitGroup
	for i := range 1 + rnd.IntN(6) {
		own := rand.New(rand.NewPCG(seed, uint64(i)+1000))
		s := c.open([]string{"loop", "go"}[i%2])
		all.Go(func() { converse(t, s, own) })
	}
	all.Wait()
	pass(10 * time.Second) // for what is under way
	c.wantEmpty()
	var left, received, read [2]int64
	for i, table := range []*session.Table{c.engine, c.worker} {
		onLoop(t, table, func() { left[i], received[i], read[i] = session.Accounts(table) })
	}
	for i := range 2 {
		if left[i]+received[1-i] != int64(perChannel) || received[i] != read[i] {
			t.Errorf("side %d: %d left, the peer has received %d and read %d: not the window of %d",
				i, left[i], received[1-i], read[1-i], perChannel)
		}
	}
}

// gentle is a random link that loses nothing.
func gentle(seed uint64) channel.Script {
	s := channel.RandomScript(seed)
	for _, p := range []*channel.Path{&s.AtoB, &s.BtoA} {
		p.Cut = channel.Cut{}
		p.CapacityBytes = max(p.CapacityBytes, 4<<10) // else the frames are too slow
		for i := range p.Stalls {
			p.Stalls[i].For = min(max(p.Stalls[i].For, 0), time.Second)
		}
	}
	return s
}

// converse sends random chunks, and wants each back.
func converse(t *testing.T, s *session.Session, rnd *rand.Rand) {
	n := rnd.IntN(20)
	chunks := make([][]byte, n)
	for i := range chunks {
		chunks[i] = pattern(i, rnd.IntN(1500))
	}
	pauses := rand.New(rand.NewPCG(rnd.Uint64(), 1))
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for _, p := range chunks {
			if _, err := s.Write(p); err != nil {
				t.Errorf("Write() = %v", err)
				return
			}
			if pauses.IntN(4) == 0 {
				pass(time.Duration(pauses.IntN(50)) * time.Millisecond)
			}
		}
		_ = s.Close()
	})
	for i, want := range chunks {
		if rnd.IntN(4) == 0 {
			pass(time.Duration(rnd.IntN(50)) * time.Millisecond)
		}
		got, err := s.Recv(t.Context())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("chunk %d of session %d: %d bytes, %v, want %d", i, s.ID(), len(got), err, len(want))
			return
		}
	}
	if _, err := s.Recv(t.Context()); err != io.EOF {
		t.Errorf("Recv() = %v, want io.EOF", err)
	}
}

func echoSlowly(s *session.Session, rnd *rand.Rand) {
	ctx, cancel := s.Bind(context.Background())
	defer cancel()
	for p, err := range s.Chunks(ctx) {
		if err != nil {
			return
		}
		if rnd.IntN(4) == 0 {
			pass(time.Duration(rnd.IntN(30)) * time.Millisecond)
		}
		if _, err := s.Write(p); err != nil {
			return
		}
	}
	_ = s.Close()
}
