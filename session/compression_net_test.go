package session_test

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Over sockets of this machine nothing is compressed, unless it was asked for.
func TestCompressionOverSockets(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, compress := range []session.Compress{session.CompressRemote, session.CompressAlways} {
			t.Run(fmt.Sprintf("%s-%d", network, compress), func(t *testing.T) {
				c := netCouple(t, network, codec.V1, echoes["goroutine"], func(cfg *session.Config) {
					cfg.Extensions = session.Extensions{Offer: true, Compress: compress}
				})
				for range 20 { // the first ones may come before the terms
					if err := ask(t.Context(), c, records(1, 100_000)); err != nil {
						t.Fatal(err)
					}
				}
				want := compress == session.CompressAlways
				if got := c.engine.Stats().Compressed + c.worker.Stats().Compressed; got > 0 != want {
					t.Errorf("%d chunks were compressed, want any: %v", got, want)
				}
			})
		}
	}
}

// BenchmarkCompressedStream sends 64 KiB chunks of JSON one way, from a goroutine to a
// Handler, over a pipe in memory and over loopback: what compression costs in time of the
// processors for each MB, and what it saves on the way.
func BenchmarkCompressedStream(b *testing.B) {
	for _, over := range []string{"pair", "tcp"} {
		for _, on := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/s2=%v", over, on), func(b *testing.B) {
				var from, to net.Conn = channel.Pair(channel.Script{AtoB: channel.Path{CapacityBytes: 1 << 20}})
				if over == "tcp" {
					from, to = sockets(b, "tcp")
				}
				sent := &counting{Conn: from}
				streamChunks(b, sent, to, on)
				b.ReportMetric(float64(sent.n.Load())/float64(b.N), "wire-B/op")
			})
		}
	}
}

// counting counts what is written.
type counting struct {
	net.Conn
	n atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.Conn.Write(p)
}

func streamChunks(b *testing.B, from, to net.Conn, on bool) {
	const size = 64 << 10
	c := joinTables(b, codec.V1, from, to, func(cfg *session.Config) {
		cfg.Extensions = session.Extensions{Offer: true, NoCompression: !on, Compress: session.CompressAlways}
	})
	defer closeNow(c.engine)
	defer closeNow(c.worker)
	h := newReceiver()
	c.wo.invoke = func(s *session.Session) { s.SetHandler(forgets{h}) }
	for agreed := false; !agreed; {
		onLoop(b, c.engine, func() { agreed = session.Confirmed(c.engine) })
	}
	s := c.open("sink")
	var chunks [16][]byte
	for i := range chunks {
		chunks[i] = records(uint64(i), size)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	for i := range b.N {
		if err := s.Send(b.Context(), chunks[i%len(chunks)]); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	<-h.done
	b.StopTimer()
	if used := cpuTime() - before; used > 0 {
		b.ReportMetric(float64(used.Microseconds())/(float64(b.N)*size/1e6), "cpu-µs/MB")
	}
}

// forgets is a receiver that keeps nothing.
type forgets struct{ *receiver }

func (forgets) OnChunk(*session.Session, []byte) {}
