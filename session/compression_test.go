package session_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/codec/compress"
	"github.com/sluice-rpc/sluice/session"
)

// always has a table offer nothing but compression, and compress for every peer.
func always(c *session.Config) {
	c.Extensions = session.Extensions{Offer: true, NoCredit: true, NoCancel: true, Compress: session.CompressAlways}
}

// records is n bytes of JSON, as services answer.
func records(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	names := []string{"alice", "bob", "carol", "dave", "erin"}
	var p []byte
	for len(p) < n {
		p = fmt.Appendf(p, `{"id":%d,"user":%q,"online":%v,"groups":["users","cloud"],"balance":%d.%02d},`,
			r.IntN(1e6), names[r.IntN(len(names))], r.IntN(2) == 0, r.IntN(1e5), r.IntN(100))
	}
	return p[:n]
}

// noise is n bytes that nothing shrinks.
func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	p := make([]byte, n)
	_, _ = r.Read(p)
	return p
}

// block is p compressed.
func block(t testing.TB, p []byte) []byte {
	t.Helper()
	out, ok := compress.NewEncoder(compress.Limits{MaxRatio: -1}).Append(nil, p, compress.S2)
	if !ok {
		t.Fatal("the block would not be smaller")
	}
	return out
}

// far is a connection that says that it leads to another machine.
type far struct{ net.Conn }

func (far) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 10053} }

// Who compresses: the sender, if the peer takes it and the way is worth it. Both ends send
// one chunk.
func TestCompressionAgreement(t *testing.T) {
	ext := func(e session.Extensions) session.Extensions { return e }
	always := session.Extensions{Compress: session.CompressAlways}
	none := session.Extensions{NoCompression: true, Compress: session.CompressAlways}
	for _, tt := range []struct {
		name           string
		far, offer     bool
		engine, worker session.Extensions
		want           string // who compressed
	}{
		{"offered, other machine", true, true, ext(session.Extensions{}), ext(session.Extensions{}), "engine worker"},
		{"offered, local pair", false, true, ext(session.Extensions{}), ext(session.Extensions{}), ""},
		{"not offered", true, false, always, always, ""},
		{"asked for, local pair", false, true, always, always, "engine worker"},
		{"asked for by the engine", false, true, always, session.Extensions{}, "engine"},
		{"asked for by the worker", false, true, session.Extensions{}, always, "worker"},
		{"refused by the engine", true, true, none, always, ""},
		{"refused by the worker", true, true, always, none, ""},
		{"alone", true, true, session.Extensions{NoCredit: true, NoCancel: true}, session.Extensions{}, "engine worker"},
		{"longer than the worker takes", true, true, session.Extensions{}, session.Extensions{MaxCompressed: 2047}, ""},
		{"as long as the worker takes", true, true, session.Extensions{}, session.Extensions{MaxCompressed: 2048}, "engine worker"},
		{"shorter than the engine tries", true, true, session.Extensions{MinCompress: 2049}, session.Extensions{}, "worker"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var a, b net.Conn = channel.Pair(channel.Script{})
				if tt.far {
					a, b = far{a}, far{b}
				}
				c := joinTables(t, codec.V1, a, b, func(cfg *session.Config) {
					cfg.Extensions = tt.worker
					if cfg.Role == session.Engine {
						cfg.Extensions = tt.engine
					}
					cfg.Extensions.Offer = tt.offer
				})
				defer closeNow(c.engine)
				defer closeNow(c.worker)
				c.wo.invoke = echoes["goroutine"]
				synctest.Wait()
				if err := ask(t.Context(), c, records(1, 2048)); err != nil {
					t.Fatal(err)
				}
				var who []string
				for name, pair := range map[string][2]*session.Table{"engine": {c.engine, c.worker}, "worker": {c.worker, c.engine}} {
					sent, got := pair[0].Stats(), pair[1].Stats()
					if sent.Compressed != got.Decompressed || sent.Compressed > 0 != (sent.Saved > 256) {
						t.Errorf("the %s sent %d compressed chunks and saved %d bytes, the other got %d", name, sent.Compressed, sent.Saved, got.Decompressed)
					}
					if sent.Compressed > 0 {
						who = append(who, name)
					}
				}
				if len(who) == 2 {
					who = []string{"engine", "worker"}
				}
				if got := strings.Join(who, " "); got != tt.want {
					t.Errorf("compressed by %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// newCompressing returns an engine's rig that has agreed, with a session that it opened.
func newCompressing(t *testing.T, terms string, opts ...option) (r *rig, s *session.Session) {
	t.Helper()
	r = newQuietRig(t, channel.Script{}, codec.V1, session.Engine, append([]option{always, quiet}, opts...)...)
	r.send(offering(codec.Frame{Kind: codec.KindHandshake, Text: "u"}, terms))
	if m := r.nextMessage(time.Second); m == nil || m.Session != 0 || m.Type != 0 {
		t.Fatalf("answer %v, want terms", m)
	}
	r.told("handshake u")
	return r, r.open(t)
}

func (r *rig) open(t *testing.T) (s *session.Session) {
	t.Helper()
	r.loop(func() {
		var err error
		if s, err = r.Open("e", nil, tracer{&r.owner.trace}); err != nil {
			t.Fatal(err)
		}
	})
	r.want(fmt.Sprintf("invoke %d e", s.ID()), "our open")
	return s
}

// packed is the frame of a compressed chunk.
func (r *rig) packed(id uint64, block any) string { return r.typed(id, 64, block) }

// What goes over the wire, byte for byte: nothing compressed before the peer knows our
// terms, the place in the order, and what goes plain.
func TestCompressionWire(t *testing.T) {
	for _, face := range []string{"loop", "goroutine"} {
		synctest.Test(t, func(t *testing.T) {
			r, s := newCompressing(t, "1 s2=70000")
			send := func(p []byte) {
				if face == "goroutine" {
					if err := s.Send(t.Context(), p); err != nil {
						t.Error(err)
					}
					return
				}
				r.loop(func() {
					if err := s.SendChunk(p); err != nil {
						t.Error(err)
					}
				})
			}
			send(records(1, 4096))
			r.want("chunk 2 <4096 bytes>", "a chunk before the peer has confirmed")
			r.send(r.typed(0, 0, "1 s2=70000"))
			for _, tt := range []struct {
				name  string
				p     []byte
				plain bool
			}{
				{"text", records(2, 4096), false},
				{"one value byte of length", bytes.Repeat([]byte("spam"), 256), false},
				{"two of them", append(noise(1, 50_000), make([]byte, 20_000)...), false},
				{"short", records(3, 1023), true},
				{"noise", noise(2, 4096), true},
				{"a seventh smaller", append(noise(3, 7000), make([]byte, 1100)...), false},
				{"a tenth smaller", append(noise(4, 9000), make([]byte, 1000)...), true},
				{"longer than the peer takes", records(4, 70_001), true},
			} {
				send(tt.p)
				m := r.nextMessage(time.Second)
				if m == nil || m.Session != s.ID() {
					t.Fatalf("%s: frame %v, want the chunk", tt.name, m)
				}
				if tt.plain {
					if m.Type != 0 || !bytes.Equal(m.Payload, tt.p) {
						t.Errorf("%s: type %d with %d bytes, want it plain", tt.name, m.Type, len(m.Payload))
					}
					continue
				}
				got, err := compress.NewDecoder(compress.Limits{}).Append(nil, m.Payload, compress.S2)
				if err != nil || m.Type != 64 || !bytes.Equal(got, tt.p) {
					t.Errorf("%s: type %d with %d bytes, %v, want it compressed", tt.name, m.Type, len(m.Payload), err)
				}
				want := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindCall, Session: s.ID(), Type: 64, Args: codec.Args(m.Payload).Bytes()})
				if args := codec.Args(m.Payload).Bytes(); !bytes.Equal(m.Args, args) {
					t.Errorf("%s: arguments %x…, want those of %x…", tt.name, m.Args[:8], want[:12])
				}
			}
			send(records(5, 2000))
			r.loop(func() { _ = s.SendChoke() })
			r.want("type 64 on 2", "a chunk in its place")
			r.want("choke 2", "the end behind it")
			if got := r.Stats().Compressed; got != 5 {
				t.Errorf("Stats().Compressed = %d, want 5", got)
			}
		})
	}
}

// A block of more than 64 KiB has a head of its own; the limit of payloads still holds.
func TestCompressionOfLongChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t, codec.V1, channel.Script{}, always, func(cfg *session.Config) {
			cfg.Channel.Limits.MaxPayloadBytes, cfg.Extensions.MaxCompressed = 512<<10, -1
		})
		c.wo.invoke = echoes["goroutine"]
		synctest.Wait()
		if err := ask(t.Context(), c, append(noise(1, 200_000), records(1, 300_000)...)); err != nil {
			t.Fatal(err)
		}
		if e, w := c.engine.Stats(), c.worker.Stats(); e.Compressed != 1 || w.Compressed != 1 {
			t.Errorf("compressed chunks: engine %d, worker %d, want 1 each", e.Compressed, w.Compressed)
		}
		s := c.open("echo")
		if err := s.Send(t.Context(), records(1, 512<<10+1)); !errors.Is(err, channel.ErrTooLarge) {
			t.Errorf("Send() of what would fit compressed = %v, want %v", err, channel.ErrTooLarge)
		}
	})
}

// What a table makes of compressed chunks.
func TestDecompression(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newCompressing(t, "1 s2=65536")
		text := records(1, 4096)
		r.send("chunk 2 a", r.packed(2, block(t, text)), "chunk 2 b", r.packed(2, block(t, bytes.Repeat([]byte("ab"), 200))), r.packed(2, "\x00"), "choke 2")
		r.told("2 chunk a", "2 chunk <4096 bytes>", "2 chunk b", "2 chunk <400 bytes>", "2 chunk ", "2 choke")
		if got := r.Stats().Decompressed; got != 3 {
			t.Errorf("Stats().Decompressed = %d, want 3", got)
		}
		r.send(r.packed(2, block(t, text)))
		if got := r.Stats().Repeated; got != 1 {
			t.Errorf("Stats().Repeated = %d behind the end, want 1", got)
		}
		r.loop(func() { _ = s.SendChoke() })
		r.want("choke 2", "our end")
		r.send(r.packed(2, block(t, text)), r.packed(2, "no block"), r.packed(9, "no block"))
		if got := r.Stats(); got.Late != 2 || got.Unknown != 1 || got.Decompressed != 3 {
			t.Errorf("Stats() = %+v, want 2 late and 1 unknown", got)
		}
		ignored := r.open(t)
		r.loop(ignored.Ignore)
		r.send(r.packed(3, "no block"), r.packed(3, block(t, text)))
		r.wantAlive("blocks that nobody reads")
		r.wantIdle("blocks that nobody reads")
	})
}

// Without agreement type 64 is a message like any other: of no stream, but of whoever has
// it.
func TestCompressionNotAgreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Worker, always)
		r.send("invoke 2 e", r.packed(2, block(t, records(1, 4096))))
		r.told("invoke 2 e", "2 error local 204")
		r.wantError(2, 42, session.CodeUnknownType, "a message of unknown type")
		w, s := newCompressing(t, "1 credit=10/10", func(c *session.Config) { c.Extensions.NoCredit = false })
		w.send(w.packed(s.ID(), block(t, records(1, 4096))))
		w.told("2 error local 204")
	})
	synctest.Test(t, func(t *testing.T) {
		own := session.NewGraph(session.Slot{Type: 0, Name: "write", Kind: session.Chunk, Next: session.Same},
			session.Slot{Type: 64, Name: "own", Kind: session.Chunk, Next: session.Same})
		c := newQuietRig(t, channel.Script{}, codec.V1, session.Client, always)
		offer := c.Offer()
		var s *session.Session
		c.loop(func() {
			_, err := c.Call(&session.Call{Type: codec.V1Ping, Headers: offer, Rx: session.Primitive}, tracer{&c.owner.trace})
			s, _ = c.Call(&session.Call{Type: 1, Tx: session.Streaming, Rx: own}, tracer{&c.owner.trace})
			if err != nil || s == nil {
				t.Fatal(err)
			}
		})
		c.send(c.typed(0, 0, "1 s2=65536"), c.typed(s.ID(), 64, "as it is"), "chunk 2 plain")
		c.told("2 chunk as it is", "2 chunk plain")
	})
}

// Rows F12 and F13 on a session: a block that cannot be decompressed ends that session,
// the second one the channel.
func TestBadBlocks(t *testing.T) {
	good := block(t, records(1, 4096))
	bomb := func(declared uint64) []byte { return append(binary.AppendUvarint(nil, declared), 0, 0, 0x01, 1) }
	for _, tt := range []struct {
		name  string
		block any
		code  int64
	}{
		{"empty", "", session.CodeBadCompression},
		{"noise", noise(1, 1000), session.CodeBadCompression},
		{"cut short", good[:len(good)-1], session.CodeBadCompression},
		{"a byte more", append(bytes.Clone(good), 0), session.CodeBadCompression},
		{"declares more than it has", bomb(4096), session.CodeBadCompression},
		{"declares 4 GiB", bomb(1<<32 - 1), session.CodeBadCompression},
		{"declares 2^63", bomb(1 << 63), session.CodeBadCompression},
		{"longer than we take", block(t, records(1, 1<<20+1)), session.CodeBadCompression},
		{"a bomb", block(t, make([]byte, 1<<20)), session.CodeBadCompression},
		{"no string", 7, session.CodeMalformed},
		{"nil", nil, session.CodeMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newCompressing(t, "1 s2=1048576")
				other := r.open(t)
				r.send(r.packed(2, tt.block), r.packed(2, good))
				r.wantError(2, 42, tt.code, "a bad block")
				r.told(fmt.Sprintf("2 error local %d", tt.code))
				r.send(r.packed(other.ID(), good))
				r.told("3 chunk <4096 bytes>")
				if tt.code == session.CodeMalformed {
					return
				}
				r.send(r.packed(other.ID(), tt.block))
				if err := r.wantClosed(channel.CodeBadCompression); !err.Remote || err.Err == nil {
					t.Errorf("the channel closed with %v, want the peer and the reason named", err)
				}
			})
		})
	}
}

// Whatever is sent arrives, in order and whole, over both faces, and both sides count the
// same credit: that of the data.
func TestCompressionRoundTrip(t *testing.T) {
	const perSession, perChannel = 100_000, 250_000
	slow := channel.Path{Latency: ms, SliceBytes: []int{1, 5000, 300, 0}}
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := creditCouple(t, channel.Script{AtoB: slow, BtoA: slow}, perSession, perChannel, func(cfg *session.Config) {
					cfg.Extensions.NoCompression, cfg.Extensions.Compress = false, session.CompressAlways
				})
				c.wo.invoke = echo
				done := make(chan error)
				for i := range uint64(6) {
					go func() { done <- sendAllKinds(t.Context(), c, i) }()
				}
				for range 6 {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				c.wantEmpty()
				for side, pair := range map[string][2]*session.Table{"engine": {c.engine, c.worker}, "worker": {c.worker, c.engine}} {
					var left, received int64
					onLoop(t, pair[0], func() { left, _, _ = session.Accounts(pair[0]) })
					onLoop(t, pair[1], func() { _, received, _ = session.Accounts(pair[1]) })
					if left != perChannel-received {
						t.Errorf("the %s has %d bytes of credit left, the other side thinks %d", side, left, perChannel-received)
					}
					if got := pair[0].Stats(); got.Compressed < 20 || got.Grants == 0 {
						t.Errorf("the %s has compressed %d chunks and given %d grants, want many", side, got.Compressed, got.Grants)
					}
				}
			})
		})
	}
}

// sendAllKinds sends chunks of all kinds on one session and reads their echo.
func sendAllKinds(ctx context.Context, c *couple, seed uint64) error {
	s, err := c.engine.OpenOffLoop(ctx, "echo", nil, nil)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range 30 {
		p := records(seed, 1+r.IntN(30_000))
		switch {
		case i%3 == 1:
			p = noise(seed, 1+r.IntN(5_000))
		case i%7 == 0:
			p = bytes.Repeat([]byte{byte(i)}, 1+r.IntN(60_000))
		}
		if err := s.Send(ctx, p); err != nil {
			return err
		}
		for len(p) > 0 {
			got, err := s.Recv(ctx)
			if err != nil || !bytes.HasPrefix(p, got) {
				return fmt.Errorf("chunk %d of %d: Recv() = %d bytes, %v, want the next of %d", i, seed, len(got), err, len(p))
			}
			p = p[len(got):]
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if _, err := s.Recv(ctx); err != io.EOF {
		return fmt.Errorf("Recv() = %w, want EOF", err)
	}
	return nil
}
