package worker_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// fanInSessions is over how many sessions the chunks of BenchmarkFanIn are dealt, of
// fanInSizes bytes in turn.
const fanInSessions = 100

var fanInSizes = [...]int{32, 128, 64, 96, 48, 112, 80, 33, 127, 65, 95, 80}

// source is a connection on which a peer invokes some sessions and then sends the same
// block of chunks so many times.
type source struct {
	net.Conn
	begin, block, rest []byte
	blocks             int
	gate               chan struct{} // closed when the blocks may come
}

func (c *source) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		switch {
		case c.begin != nil:
			c.rest, c.begin = c.begin, nil
		case c.blocks == 0:
			return 0, io.EOF
		default:
			<-c.gate
			c.rest = c.block
			c.blocks--
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *source) Write(p []byte) (int, error) { return len(p), nil }

// sink takes what comes on the loop.
type sink struct {
	n, sum int
	want   int
	done   chan struct{}
}

func (k *sink) OnChunk(_ *session.Session, p []byte) {
	k.n++
	k.sum += int(p[0])
	if k.n == k.want {
		close(k.done)
	}
}
func (k *sink) OnChoke(*session.Session)                 {}
func (k *sink) OnError(*session.Session, *session.Error) {}

// BenchmarkFanIn is what a small chunk costs between the read and its handler on the
// loop: no system calls, one copy of the transport.
func BenchmarkFanIn(b *testing.B) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		b.Run(d.String(), func(b *testing.B) {
			c := &source{gate: make(chan struct{})}
			c.Conn, _ = net.Pipe()
			first := 5
			for i := range fanInSessions {
				c.begin = append(c.begin, encode(d, codec.Frame{Kind: codec.KindInvoke, Session: uint64(first + i), Text: "sink"})...)
			}
			chunks := 0
			for ; chunks < 10*fanInSessions; chunks++ {
				c.block = append(c.block, encode(d, codec.Frame{
					Kind: codec.KindChunk, Session: uint64(first + chunks%fanInSessions), Payload: make([]byte, fanInSizes[chunks%len(fanInSizes)]),
				})...)
			}
			c.blocks = (b.N + chunks - 1) / chunks
			k := &sink{want: c.blocks * chunks, done: make(chan struct{})}
			w, err := worker.New(worker.Config{UUID: uuid, Dialect: d, Conn: c, Heartbeat: -1, Disown: -1, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			w.HandleFunc("sink", func(*worker.Session) session.Handler { return k })
			ended := make(chan error, 1)
			go func() { ended <- w.Run(context.Background()) }()
			b.ReportAllocs()
			b.ResetTimer()
			close(c.gate)
			<-k.done
			b.StopTimer()
			<-ended
		})
	}
}
