package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// A link of 6.4 MB a second: 64 KiB are under way for 10 ms.
const (
	bulkChunk = 64 << 10
	slowPath  = 64 << 10
	slowTime  = 10 * time.Millisecond
	slowHigh  = 256 << 10
)

var slowScript = channel.Script{
	AtoB: channel.Path{CapacityBytes: slowPath, Latency: slowTime},
	BtoA: channel.Path{CapacityBytes: slowPath, Latency: slowTime},
}

// ahead is how long a small frame may take over one such link: before it are what is held
// above the high water mark, by one chunk; one chunk of a sender that waits longer; and the
// path. Each path's fill takes the path's time.
func ahead(high int) time.Duration {
	return time.Duration((high+2*bulkChunk+slowPath)/slowPath+1) * slowTime
}

// bulkLoop sends without end on the loop.
type bulkLoop struct {
	chunk []byte
	sent  *atomic.Int64
}

func (h bulkLoop) OnChunk(*session.Session, []byte)         {}
func (h bulkLoop) OnChoke(*session.Session)                 {}
func (h bulkLoop) OnError(*session.Session, *session.Error) {}
func (h bulkLoop) OnWritable(s *session.Session) {
	for s.SendChunk(h.chunk) == nil {
		h.sent.Add(bulkChunk)
	}
}

// bulkGo does so in a goroutine, as one large Write after the other.
func bulkGo(s *session.Session, sent *atomic.Int64, split bool) {
	w := s.Writer(context.Background())
	p := make([]byte, bulkChunk)
	if split {
		p = make([]byte, 4<<20)
	}
	for {
		n, err := w.Write(p)
		sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// pings measures the slowest of n questions on s, from Write to the answer.
func pings(t *testing.T, s *session.Session, n int) (slowest time.Duration) {
	t.Helper()
	for range n {
		start := time.Now()
		if _, err := s.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if p, err := s.Recv(t.Context()); err != nil || string(p) != "ping" {
			t.Fatalf("Recv() = %q, %v", p, err)
		}
		slowest = max(slowest, time.Since(start))
		pass(7 * time.Millisecond)
	}
	return slowest
}

// checkFair holds what was measured against its bound; a bulk session that does not move
// proves nothing.
func checkFair(t *testing.T, slowest, limit, took time.Duration, sent int64) {
	t.Helper()
	if slowest > limit {
		t.Errorf("the slowest ping took %v, want at most %v", slowest, limit)
	}
	// Half of what the link can carry.
	if want := int64(took/slowTime) * slowPath / 2; sent < want {
		t.Errorf("the bulk session moved %d KiB in %v, want %d at least", sent>>10, took, want>>10)
	}
}

// TestBulkStarvesNobody: beside a session that sends as much as the link takes, a question
// gets its answer within what lies before it, however the bulk is sent.
func TestBulkStarvesNobody(t *testing.T) {
	for _, tt := range []struct {
		name string
		bulk func(c *couple, s *session.Session, sent *atomic.Int64)
	}{
		{"goroutine", func(_ *couple, s *session.Session, sent *atomic.Int64) { go bulkGo(s, sent, false) }},
		{"large writes", func(_ *couple, s *session.Session, sent *atomic.Int64) { go bulkGo(s, sent, true) }},
		{"loop", func(c *couple, s *session.Session, sent *atomic.Int64) {
			onLoop(c.t, c.engine, func() {
				h := bulkLoop{make([]byte, bulkChunk), sent}
				s.SetHandler(h)
				h.OnWritable(s)
			})
		}},
		{"drop oldest", func(_ *couple, s *session.Session, sent *atomic.Int64) {
			s.SetOverflow(session.Overflow{Policy: session.DropOldest})
			go func() {
				for p := make([]byte, bulkChunk); s.Send(context.Background(), p) == nil; sent.Add(bulkChunk) {
					time.Sleep(slowTime / 4) // four times what the link takes
				}
			}()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, credit := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					c := newCouple(t, codec.V1, slowScript, windows(1<<20, 4<<20), func(c *session.Config) {
						c.Channel.HighWaterBytes = slowHigh
						c.Extensions.NoCredit = !credit
					})
					c.wo.invoke = func(s *session.Session) {
						if s.Event() == "ping" {
							s.SetHandler(&echoLoop{})
							return
						}
						s.SetHandler(newReceiver())
					}
					ping := c.open("ping")
					if credit {
						pass(time.Second)
					}
					pings(t, ping, 1)
					bulk := c.open("bulk")
					synctest.Wait()
					var sent atomic.Int64
					start := time.Now()
					tt.bulk(c, bulk, &sent)
					pass(time.Second)
					slowest := pings(t, ping, scaled(30))
					checkFair(t, slowest, ahead(slowHigh)+slowTime, time.Since(start), sent.Load())
					closeNow(c.engine)
					pass(time.Second)
				})
			}
		})
	}
}

// TestBulkForwardStarvesNobody is the same through Forward: two links, and between them
// what is kept for a session that finds no room.
func TestBulkForwardStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair := func() (net.Conn, net.Conn) { a, b := channel.Pair(slowScript); return a, b }
		echo := func(s *session.Session) { s.SetHandler(&echoLoop{}) }
		c := newChain(t, codec.V1, pair, func(s *session.Session) { echo(s) }, func(c *session.Config) {
			c.Channel.HighWaterBytes = slowHigh
			c.InboxBytes = slowHigh
		})
		pass(time.Second)
		ping := c.open(t)
		pings(t, ping, 1)
		echo = func(s *session.Session) { s.SetHandler(newReceiver()) }
		bulk := c.open(t)
		pass(time.Second)
		var sent atomic.Int64
		start := time.Now()
		go bulkGo(bulk, &sent, false)
		pass(time.Second)
		slowest := pings(t, ping, scaled(30))
		kept := time.Duration((slowHigh+2*bulkChunk)/slowPath) * slowTime
		checkFair(t, slowest, ahead(1<<20)+kept+ahead(slowHigh)+2*slowTime, time.Since(start), sent.Load())
		closeNow(c.client)
		pass(time.Second)
	})
}

// sizes is a reader of one session: the bytes and the size of each chunk.
func sizes(t *testing.T, s *session.Session) (data []byte, list []int) {
	t.Helper()
	for p, err := range s.Chunks(t.Context()) {
		if err != nil {
			t.Errorf("Recv() = %v", err)
			return data, list
		}
		data, list = append(data, p...), append(list, len(p))
	}
	return data, list
}

// A Writer splits, a session's Write does not, and io.Copy sends what it reads.
func TestPieces(t *testing.T) {
	want := pattern(5, 200_000)
	for _, tt := range []struct {
		name  string
		send  func(s *session.Session) (int64, error)
		sizes []int
		limit int // MaxPayloadBytes
	}{
		{name: "write", send: func(s *session.Session) (int64, error) { n, err := s.Write(want); return int64(n), err }, sizes: []int{200_000}},
		{name: "writer", send: func(s *session.Session) (int64, error) {
			n, err := s.Writer(context.Background()).Write(want)
			return int64(n), err
		}, sizes: []int{65536, 65536, 65536, 3392}},
		{name: "small payloads", send: func(s *session.Session) (int64, error) {
			n, err := s.Writer(context.Background()).Write(want)
			return int64(n), err
		}, sizes: []int{50_000, 50_000, 50_000, 50_000}, limit: 50_000},
		{name: "nothing", send: func(s *session.Session) (int64, error) {
			n, err := s.Writer(context.Background()).Write(nil)
			return int64(n), err
		}},
		{name: "copy", send: func(s *session.Session) (int64, error) {
			return io.Copy(s, struct{ io.Reader }{bytes.NewReader(want)})
		}, sizes: []int{65536, 65536, 65536, 3392}},
		{name: "end with data", send: func(s *session.Session) (int64, error) {
			return s.ReadFrom(iotest.DataErrReader(bytes.NewReader(want[:1000])))
		}, sizes: []int{1000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCouple(t, codec.V1, channel.Script{}, func(c *session.Config) { c.Channel.Limits.MaxPayloadBytes = tt.limit })
				served := make(chan *session.Session, 1)
				c.wo.invoke = func(s *session.Session) { served <- s }
				s := c.open("e")
				w := <-served
				total := 0
				for _, n := range tt.sizes {
					total += n
				}
				go func() {
					if n, err := tt.send(s); err != nil || n != int64(total) {
						t.Errorf("sent %d, %v, want %d", n, err, total)
					}
					_ = s.Close()
				}()
				data, list := sizes(t, w)
				if str("%v", list) != str("%v", tt.sizes) || !bytes.Equal(data, want[:total]) {
					t.Errorf("chunks of %v came, want %v", list, tt.sizes)
				}
				_ = w.Close()
			})
		})
	}
}

// Errors of either side end ReadFrom and Writer, and say how much was taken.
func TestPiecesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t, codec.V1, channel.Script{})
		c.wo.invoke = func(s *session.Session) { s.SetHandler(newReceiver()) }
		s := c.open("e")
		bad := errors.New("bad disk")
		n, err := s.ReadFrom(io.MultiReader(strings.NewReader("four"), iotest.ErrReader(bad)))
		if n != 4 || err != bad {
			t.Errorf("ReadFrom() = %d, %v, want 4 and the reader's error", n, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		w := s.Writer(ctx)
		if n, err := w.Write([]byte("four")); n != 4 || err != nil {
			t.Errorf("Write() = %d, %v", n, err)
		}
		cancel(bad)
		_ = s.Close()
		if n, err := w.Write(make([]byte, 1<<20)); n != 0 || err != session.ErrClosed {
			t.Errorf("Write() behind the choke = %d, %v, want ErrClosed", n, err)
		}
		if n, err := s.ReadFrom(rand.NewChaCha8([32]byte{})); n != 0 || err != session.ErrClosed {
			t.Errorf("ReadFrom() behind the choke = %d, %v, want ErrClosed", n, err)
		}
	})
}
