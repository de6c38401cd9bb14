package session

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/codec/compress"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// newAgreed is newStill with a session, number 2, on a channel where all chunks may go
// compressed.
func newAgreed(t testing.TB) (o *still, s *Session, onLoop func(f func())) {
	t.Helper()
	o, _, onLoop = newStill(t, codec.V1)
	onLoop(func() {
		o.t.cfg.Extensions.Compress = CompressAlways
		o.t.ext.mode = agreed
		o.t.ext.s2.agree(1<<20, 1<<20)
		o.t.confirm()
		events{o.t}.OnMessage(message(t, codec.V1, codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "e"}), nil)
		s = o.t.ids.get(2)
	})
	return o, s, onLoop
}

// document is n bytes of JSON.
func document(n int) []byte {
	var p []byte
	for i := 0; len(p) < n; i++ {
		p = fmt.Appendf(p, `{"id":%d,"user":"user%d","groups":["users","cloud"],"balance":%d.%02d},`, i*i*7919%99991, i%37, i*31%5003, i%100)
	}
	return p[:n]
}

// packedMessage is the decoded frame of a compressed chunk.
func packedMessage(t testing.TB, session uint64, p []byte) *codec.Message {
	t.Helper()
	var k compressor
	args := k.args(p, 1<<20)
	if args == nil {
		t.Fatal("the chunk does not shrink")
	}
	return message(t, codec.V1, codec.Frame{Kind: codec.KindCall, Session: session, Type: typeCompressed, Args: args})
}

// TestCompressionAllocs: a chunk that goes compressed costs no allocation at either end.
func TestCompressionAllocs(t *testing.T) {
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	for _, n := range []int{2 << 10, 64 << 10, 200 << 10} {
		o, s, onLoop := newAgreed(t)
		p := document(n)
		m := packedMessage(t, 2, p)
		onLoop(func() {
			if got := testing.AllocsPerRun(100, func() { events{o.t}.OnMessage(m, nil) }); got != 0 {
				t.Errorf("a compressed chunk of %d bytes makes %v allocations on its way in, want 0", n, got)
			}
			var f codec.Frame
			k := &o.t.ext.s2.here
			if got := testing.AllocsPerRun(100, func() {
				f = codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: p}
				if s.compressible(&f) {
					f, _ = s.compress(&f, k)
				}
				k.trim()
			}); got != 0 || f.Type != typeCompressed {
				t.Errorf("compressing %d bytes makes %v allocations, want 0 (type %d)", n, got, f.Type)
			}
		})
		ctx := context.Background()
		if got := testing.AllocsPerRun(200, func() {
			for o.t.ch.Stats().QueuedBytes > 0 { // who waits makes what it waits on, and a long batch no buffer is kept for
				runtime.Gosched()
			}
			if err := s.Send(ctx, p); err != nil {
				t.Fatal(err)
			}
		}); got != 0 {
			t.Errorf("Send of %d bytes, compressed, makes %v allocations, want 0", n, got)
		}
		if got := o.t.Stats(); got.Compressed < 200 || got.Decompressed < 100 {
			t.Errorf("Stats() = %+v, want all chunks compressed", got)
		}
	}
}

// A long chunk leaves no long buffer behind, and no more compressors are kept than are of
// use.
func TestCompressionKeepsLittle(t *testing.T) {
	o, s, onLoop := newAgreed(t)
	p := document(900 << 10)
	m := packedMessage(t, 2, p)
	onLoop(func() {
		events{o.t}.OnMessage(m, nil)
		if err := s.SendChunk(p); err != nil {
			t.Fatal(err)
		}
	})
	ctx := t.Context()
	for range 2 {
		if err := s.Send(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	c := &o.t.ext.s2
	var taken []*compressor
	for range 3 * maxIdle {
		taken = append(taken, c.take())
	}
	for _, k := range taken {
		c.put(k)
	}
	onLoop(func() {
		if got := o.t.Stats(); got.Compressed != 3 || got.Decompressed != 1 {
			t.Errorf("Stats() = %+v, want 3 chunks compressed and 1 decompressed", got)
		}
		if cap(c.plain) > maxKeptBytes || cap(c.here.buf) > maxKeptBytes || len(c.idle) != maxIdle {
			t.Errorf("%d and %d bytes and %d compressors are kept", cap(c.plain), cap(c.here.buf), len(c.idle))
		}
		for _, k := range c.idle {
			if cap(k.buf) > maxKeptBytes {
				t.Errorf("a compressor keeps %d bytes", cap(k.buf))
			}
		}
	})
}

// keeper keeps what it must not.
type keeper struct {
	still
	kept []byte
	good bool
}

func (h *keeper) OnChunk(_ *Session, p []byte) {
	h.good = bytes.Equal(p, document(4096))
	h.kept = p
}

// TestDecompressedIsBorrowed: under the checks the bytes are overwritten after the call.
func TestDecompressedIsBorrowed(t *testing.T) {
	o, s, onLoop := newAgreed(t)
	h := &keeper{}
	m := packedMessage(t, 2, document(4096))
	onLoop(func() {
		s.SetHandler(h)
		events{o.t}.OnMessage(m, nil)
		dead := bytes.Count(h.kept, []byte{invariants.PoisonByte}) == len(h.kept)
		if !h.good || dead != invariants.Enabled {
			t.Errorf("the chunk was right: %v, and is overwritten: %v, want that %v", h.good, dead, invariants.Enabled)
		}
	})
}

// takes is a Handler that keeps copies of chunks, and the error.
type takes struct {
	still
	got []byte
	n   int
	err *Error
}

func (h *takes) OnChunk(_ *Session, p []byte) { h.got, h.n = append(h.got[:0], p...), h.n+1 }
func (h *takes) OnError(_ *Session, e *Error) { h.err = e }

// FuzzDecompress sends arbitrary blocks: each is handed over as what it decodes to, or ends
// its session, and the second one the channel.
func FuzzDecompress(f *testing.F) {
	var k compressor
	f.Add(k.args(document(2000), 1<<20)[4:], []byte{})
	f.Add([]byte("\x20\x0cspam\x6e\x04\x00"), []byte{0})
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x10}, []byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		o, _, onLoop := newStill(t, codec.V1)
		onLoop(func() {
			o.t.ext.mode = agreed
			o.t.ext.s2.agree(1<<20, 1<<20)
			bad := 0
			for i, block := range [][]byte{first, second, first} {
				if o.t.ch.Err() != nil || bad > maxBadBlocks {
					return
				}
				h := &takes{}
				o.inv = func(s *Session) { s.SetHandler(h) }
				id := uint64(i + 2)
				events{o.t}.OnMessage(message(t, codec.V1, codec.Frame{Kind: codec.KindInvoke, Session: id, Text: "e"}), nil)
				packed := codec.Frame{Kind: codec.KindCall, Session: id, Type: typeCompressed, Args: codec.Args(block).Bytes()}
				events{o.t}.OnMessage(message(t, codec.V1, packed), nil)
				want, err := compress.NewDecoder(compress.Limits{MaxOutputBytes: 1 << 20}).Append(nil, block, compress.S2)
				switch {
				case err == nil && (h.n != 1 || !bytes.Equal(h.got, want) || h.err != nil):
					t.Fatalf("%d chunks, the last of %d bytes, %v, want one of %d", h.n, len(h.got), h.err, len(want))
				case err != nil && h.n != 0:
					t.Fatalf("a chunk of %d bytes of a block with %v", len(h.got), err)
				case err != nil && bad == 0 && (h.err == nil || h.err.Code != CodeBadCompression):
					t.Fatalf("the session ended with %v, want %d: %v", h.err, CodeBadCompression, err)
				}
				if err != nil {
					bad++
				}
			}
		})
		if ce := o.t.ch.Err(); ce != nil && ce.Code != channel.CodeBadCompression {
			t.Fatalf("the channel ended with %v", ce)
		}
	})
}

// BenchmarkCompression is one chunk of JSON through a compressor, and back to a Handler.
func BenchmarkCompression(b *testing.B) {
	for _, n := range []int{4 << 10, 64 << 10} {
		p := document(n)
		b.Run(fmt.Sprintf("compress/%dKiB", n>>10), func(b *testing.B) {
			_, s, _ := newAgreed(b)
			var k compressor
			var f codec.Frame
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				f = codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: p}
				f, _ = s.compress(&f, &k)
			}
			b.ReportMetric(float64(n)/float64(len(f.Args)), "ratio")
		})
		b.Run(fmt.Sprintf("decompress/%dKiB", n>>10), func(b *testing.B) {
			o, _, onLoop := newAgreed(b)
			m := packedMessage(b, 2, p)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			onLoop(func() {
				for b.Loop() {
					events{o.t}.OnMessage(m, nil)
				}
			})
		})
	}
}
