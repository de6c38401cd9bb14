package session_test

import (
	"encoding/hex"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// extFrame is a frame of the extension session.
func extFrame(typ uint64, args ...any) string {
	f := codec.Frame{Kind: codec.KindCall, Type: typ, Args: codec.Args(args...).Bytes()}
	return "raw " + hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &f))
}

// newOffered is a client that has offered, and whose peer has not answered yet.
func newOffered(t *testing.T) *rig {
	t.Helper()
	r := newQuietRig(t, channel.Script{}, codec.V1, session.Client, windows(1000, 4000))
	var offer []codec.Header
	onLoop(t, r.Table, func() { offer = r.Offer() })
	if _, err := r.CallOffLoop(t.Context(), &session.Call{Type: codec.V1Ping, Headers: offer, Rx: session.Primitive}, nil); err != nil {
		t.Fatal(err)
	}
	r.nextMessage(time.Second)
	return r
}

// Nobody reads what the peer pours. What tells it so must not overtake what opens the
// session: it would mean nothing to the peer, which would wait for good.
func TestWaiveBehindOpen(t *testing.T) {
	for _, how := range []string{"ignored", "cut behind its choke"} {
		t.Run(how, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { waiveBehindOpen(t, how) }) })
	}
}

func waiveBehindOpen(t *testing.T, how string) {
	path := channel.Path{CapacityBytes: 100, Stalls: []channel.Stall{{At: 300, For: time.Minute}}}
	c := creditCouple(t, channel.Script{AtoB: path}, 1000, 4000, func(c *session.Config) {
		c.Channel.StallTimeout, c.Channel.FrameTimeout = time.Hour, time.Hour
	})
	sent := 0
	c.wo.invoke = func(s *session.Session) {
		if s.Event() != "pour" {
			s.SetHandler(new(ending))
			return
		}
		go func() {
			for ; sent < 20 && s.Send(t.Context(), make([]byte, 300)) == nil; sent++ {
			}
			_ = s.Close()
		}()
	}
	if _, err := c.open("stall").Write(make([]byte, 20_000)); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	onLoop(t, c.engine, func() {
		s, err := c.engine.Open("pour", nil, new(ending))
		if err != nil {
			t.Fatal(err)
		}
		if how != "ignored" {
			_ = s.SendChoke()
			s.Cancel(42, 1, "never mind")
			return
		}
		s.Ignore()
	})
	pass(2 * time.Minute)
	synctest.Wait()
	if sent != 20 {
		t.Errorf("%d chunks of 300 bytes were sent to one who does not read, want 20", sent)
	}
}

// The same for a session that was given up before the peer took the offer.
func TestWaiveBeforeAgreement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newOffered(t)
		s, err := r.CallOffLoop(t.Context(), callOf(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		s.CloseRead()
		synctest.Wait()
		r.nextMessage(time.Second)
		r.send(extFrame(0, offerText), "raw 940102910190")
		r.nextMessage(time.Second) // our terms
		r.send(r.typed(s.ID(), codec.V1Write, make([]byte, 300)))
		m := r.nextMessage(time.Second)
		if m == nil || m.Session != 0 || m.Type != 1 {
			t.Fatalf("frame %v behind a chunk that nobody reads, want a grant", m)
		}
		args := m.Reader()
		for _, want := range []int64{0, 300, int64(s.ID()), 1 << 39} {
			if n := args.Int64(); n != want {
				t.Errorf("the grant is %x, want 300 bytes for the channel, and 2^39 for session %d", m.Args, s.ID())
				break
			}
		}
	})
}

// A session that was prepared before the agreement, and opened behind it, gets its window
// when the loop installs it. Who waits for it by then is let go.
func TestCreditOfSessionBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newOffered(t)
		open, err := session.PrepareCall(r.Table, callOf(1))
		if err != nil {
			t.Fatal(err)
		}
		r.send(extFrame(0, offerText), "raw 940102910190")
		release := make(chan struct{})
		r.Channel().Post(func() { <-release })
		s, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- s.Send(t.Context(), []byte("spam")) }()
		synctest.Wait()
		close(release)
		synctest.Wait()
		select {
		case err := <-sent:
			if err != nil {
				t.Errorf("Send() = %v, want nil", err)
			}
		default:
			t.Errorf("Send() waits: %s", session.Describe(r.Table))
		}
	})
}

// refusedBehind is a handler that another goroutine has left a chunk in the queue for.
type refusedBehind struct {
	ending
	err  error
	told int
}

func (h *refusedBehind) OnChunk(s *session.Session, _ []byte) {
	done := make(chan error, 1)
	go func() { done <- s.Send(s.Context(), []byte("queued")) }()
	<-done
	s.SetOverflow(session.Overflow{Policy: session.Refuse})
	h.err = s.SendChunk([]byte("refused"))
}

func (h *refusedBehind) OnWritable(*session.Session) { h.told++ }

// A handler that was refused because chunks of another goroutine wait is told when those
// have been sent, even if they never waited for anything but their turn.
func TestOverflowToldBehindQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newQuietRig(t, channel.Script{}, codec.V1, session.Engine, windows(1000, 4000))
		r.send(offering(codec.Frame{Kind: codec.KindHandshake, Text: "u"}, offerText), extFrame(0, offerText))
		h := new(refusedBehind)
		r.loop(func() {
			s, err := r.Open("e", nil, h)
			if err != nil {
				t.Fatal(err)
			}
			s.SetOverflow(session.Overflow{Policy: session.DropOldest})
			_ = s.SendChunk(make([]byte, 1000))
		})
		r.send("chunk 2 go", extFrame(1, 2, 1000)) // at once: credit comes while the flush is posted
		if h.err != channel.ErrFull || h.told != 1 {
			t.Errorf("SendChunk() behind a queue = %v, and told %d times of room, want %v and once", h.err, h.told, channel.ErrFull)
		}
	})
}

// A queue bounds the memory of what waits, and not only its bytes: the room of a long chunk
// that was dropped does not go on under short ones.
func TestOverflowMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Engine, func(c *session.Config) { c.Channel.HighWaterBytes = 1 })
		r.loop(func() {
			s, err := r.Open("e", nil, new(ending))
			if err != nil {
				t.Fatal(err)
			}
			const bound = 100_000
			s.SetOverflow(session.Overflow{Policy: session.DropOldest, MaxBytes: bound, MaxChunks: 20})
			for i := range 1000 {
				n := 10
				if i%21 == 0 {
					n = 90_000
				}
				_ = s.SendChunk(make([]byte, n))
			}
			if n := session.BacklogCap(s); n > 2*bound {
				t.Errorf("what is queued takes %d bytes, want at most %d", n, 2*bound)
			}
		})
	})
}

// Nobody reads a session whose peer sends blocks that are 150 times as long without credit:
// what was read of them at once is not all decompressed into the inbox.
func TestCompressionStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newCompressing(t, "1 s2=65536", func(c *session.Config) { c.InboxBytes = 1000 })
		r.send(r.typed(0, 0, "1 s2=65536"))
		s, err := r.OpenOffLoop(t.Context(), "e", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		frames := make([]string, 100)
		for i := range frames {
			frames[i] = r.packed(s.ID(), block(t, make([]byte, 60_000)))
		}
		r.send(frames...)
		if n := session.Held(s); n == 0 || n > 2*60_100 {
			t.Errorf("%d bytes are kept for one who does not read, want at most two chunks", n)
		}
	})
}

// Nobody reads a stream of a graph of its own, either.
func TestWaiveOfMixed(t *testing.T) {
	slots := append(session.Streaming.Slots(), session.Slot{Type: 3, Name: "mark", Kind: session.Chunk})
	for i := range slots {
		if slots[i].Kind == session.Chunk {
			slots[i].Next = session.Same
		}
	}
	for _, how := range []string{"ignored", "cut behind its choke"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				c := newService(t, channel.Script{}, func(s *session.Session, _ []byte) {
					go func() {
						for ; sent < 20 && s.Send(t.Context(), make([]byte, 300)) == nil; sent++ {
							pass(time.Second)
						}
						_ = s.Close()
					}()
				}, windows(1000, 4000))
				call := callOf(1)
				call.Rx = session.NewGraph(slots...)
				s, err := c.client.CallOffLoop(t.Context(), call, nil)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				onLoop(t, c.client, func() {
					if how == "ignored" {
						s.Ignore()
						return
					}
					_ = s.SendChoke()
					s.Cut(42, 1, "never mind")
				})
				pass(time.Minute)
				synctest.Wait()
				if sent != 20 {
					t.Errorf("%d chunks of 300 bytes were sent to one who does not read, want 20", sent)
				}
			})
		})
	}
}
