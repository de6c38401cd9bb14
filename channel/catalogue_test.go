package channel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// TestCatalogue has the rows of the catalogue of faults that show on a channel, by
// their ids. Those of the codec alone and those of sessions are with them.
func TestCatalogue(t *testing.T) {
	for _, tt := range []struct {
		id, what string
		test     func(t *testing.T)
	}{
		{"A1", "nothing comes, or no whole frame", firstFrame},
		{"A2", "one byte a second", slowFrame},
		{"A3", "every prefix of a conversation, then the end or a reset", anyPrefix},
		{"A4", "cut at every byte", anySplit},
		{"A5", "16 MiB of small items in small pieces", manyItems},
		{"A6", "the first byte is no array's", notArray},
		{"A7", "an array of fewer than three", shortArray},
		{"A9", "an array that declares 2^32-1 items", hugeArray},
		{"A10", "a size of 4 GiB", hugeSize},
		{"A11", "the largest payload, and one more byte", largestPayload},
		{"A12", "arrays that declare much, nested", hugeNested},
		{"A13", "nested without end", tooDeep},
		{"A14", "the reserved byte in the arguments", func(t *testing.T) {
			refuses(t, codec.V0, []byte{0x93, 4, 1, 0x91, 0xc1}, CodeBadFrame, "")
		}},
		{"A15", "extensions, whole and cut", extensions},
		{"A16", "keys that are no strings", func(t *testing.T) {
			passes(t, []byte{0x91, 0x83, 0x91, 1, 2, 0x81, 1, 2, 3, 0xca, 0, 0, 0, 0, 4})
		}},
		{"A17", "a key twice", func(t *testing.T) { passes(t, []byte{0x91, 0x82, 0xa1, 'k', 1, 0xa1, 'k', 2}) }},
		{"A18", "the session in every form", sessionForms},
		{"A19", "a session below zero, and the largest", sessionRange},
		{"A20", "a type that is none", typeRange},
		{"A21", "bytes as raw, str and bin", stringForms},
		{"A24", "integers that are longer than need be", longIntegers},
		{"A25", "floats that are no numbers", func(t *testing.T) {
			passes(t, []byte{0x92, 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0, 0xca, 0x7f, 0x80, 0, 0})
		}},
		{"A26", "frames around the size of every buffer", bufferSizes},
		{"A27", "a good frame and a bad one in one read", func(t *testing.T) {
			refuses(t, codec.V1, []byte{0x94, 1, 0, 0xc1}, CodeBadFrame, "")
		}},
		{"A28", "thousands of tiny frames, and endless posts", inTurn("frames", manyTinyFrames, "posts", busyNeighbour)},
		{"A29", "random bytes", randomBytes},
		{"A30", "every message of ours", everyMessage},
		{"B29", "many open sessions at once", numbersGrow},
		{"C1", "a peer that stops reading", stall},
		{"C2", "a peer that reads one byte a second", inTurn("virtual", progress, "sockets", trickle)},
		{"C3", "slow peers among many", slowAmongMany},
		{"C4", "a sender gives up while it waits", inTurn("virtual", sendGivenUp, "sockets", sendGivenUpLive)},
		{"C5", "a write fails in the middle of a burst", inTurn("virtual", writeFails, "sockets", resetLive)},
		{"C6", "the descriptor is used again", reusedDescriptor},
		{"C7", "the caller changes what it sent", copied},
		{"C8", "a handler keeps what it was lent", keptBytes},
		{"C9", "a buffer is given back twice", bufferTwice},
		{"C10", "a large buffer is given back", bufferLarge},
		{"C11", "more than the peer may take", tooLarge},
		{"C12", "close with much pending", inTurn("delivered", closeDrains, "reported", closeReports)},
		{"C16", "a frame of very many small items", smallItems},
		{"C17", "nothing, and far too much", emptyAndHuge},
		{"D14", "writes of one byte", func(t *testing.T) {
			overVirtual(t, func(t *testing.T, m medium) { everyMessageOver(t, m.scripted(t, "a<>b capacity=1")) })
		}},
		{"D24", "the peer ends its direction", peerEnds},
		{"E12", "durations that do not fit", durations},
	} {
		t.Run(tt.id, func(t *testing.T) {
			t.Log(tt.what)
			tt.test(t)
		})
	}
}

// inTurn is the test of a fault that shows in two ways.
func inTurn(one string, f func(*testing.T), other string, g func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) {
		t.Run(one, f)
		t.Run(other, g)
	}
}

// only feeds one v0 frame to a channel and returns the message, which lies in p.
func only(t *testing.T, p []byte) (got codec.Message) {
	t.Helper()
	f, s := newFake(t, Config{}, nil)
	s.onMessage = func(m *codec.Message, _ []codec.Header) { got = m.Clone() }
	f.feed(p)
	if n := s.messages.Load(); n != 1 || f.broken != nil {
		t.Fatalf("% x: %d messages, ended with %v", p, n, f.broken)
	}
	return got
}

// passes checks that arguments come as they are.
func passes(t *testing.T, args []byte) {
	t.Helper()
	if m := only(t, slices.Concat([]byte{0x93, 4, 5}, args)); !bytes.Equal(m.Args, args) {
		t.Errorf("arguments % x came as % x", args, m.Args)
	}
}

// truncated checks that the peer's end behind p is one within a frame.
func truncated(t *testing.T, p []byte) {
	t.Helper()
	f, _ := newFake(t, Config{}, nil)
	f.feed(p)
	f.inputEnded(io.EOF)
	f.turn()
	if err := f.Err(); err == nil || err.Code != CodeTruncated {
		t.Errorf("% x and the end: %v, want truncated", p, err)
	}
}

// notArray (A6): a peer that speaks something else is told so where it can be told.
func notArray(t *testing.T) {
	refuses(t, codec.V0, []byte{0xc1}, CodeBadFrame, "")
	refuses(t, codec.V0, []byte("GET / HTTP/1.1\r\n"), CodeBadFrame, "looks like HTTP")
	refuses(t, codec.V1, []byte{0x16, 3, 1, 2, 0, 1}, CodeBadFrame, "looks like a TLS")
}

// shortArray (A7): a frame has three items, and its arguments are an array.
func shortArray(t *testing.T) {
	for _, p := range [][]byte{{0x90}, {0x91, 1}, {0x92, 1, 2}} {
		refuses(t, codec.V0, p, CodeBadFrame, "want 3")
	}
	refuses(t, codec.V0, []byte{0x93, 1, 2, 3}, CodeBadFrame, "arguments")
}

// hugeArray (A9): what is declared is refused before it comes.
func hugeArray(t *testing.T) {
	refuses(t, codec.V0, []byte{0xdd, 0xff, 0xff, 0xff, 0xff}, CodeTooManyItems, "")
	refuses(t, codec.V0, []byte{0x93, 4, 1, 0xdd, 0xff, 0xff, 0xff, 0xff}, CodeTooManyItems, "")
}

// hugeSize (A10): what is declared is refused before it comes.
func hugeSize(t *testing.T) {
	for _, head := range []byte{0xdb, 0xc6, 0xc9, 0xdf} {
		refuses(t, codec.V0, []byte{0x93, 4, 1, 0x91, head, 0xff, 0xff, 0xff, 0xff, 0}, CodeTooLarge, "")
	}
}

// hugeNested (A12): what is declared within arrays counts too.
func hugeNested(t *testing.T) {
	refuses(t, codec.V0, append([]byte{0x93, 4, 1}, bytes.Repeat([]byte{0xdc, 0xff, 0xff}, 100)...), CodeTooManyItems, "")
	refuses(t, codec.V0, append([]byte{0x93, 4, 1}, bytes.Repeat([]byte{0xdc, 0, 1}, 100)...), CodeBadFrame, "deeper")
}

// tooDeep (A13): arrays and maps may be nested only so deep.
func tooDeep(t *testing.T) {
	refuses(t, codec.V0, append([]byte{0x93, 4, 1}, bytes.Repeat([]byte{0x91}, 1000)...), CodeBadFrame, "deeper")
	refuses(t, codec.V0, append([]byte{0x93, 4, 1, 0x91}, bytes.Repeat([]byte{0x81, 0xa0}, 1000)...), CodeBadFrame, "deeper")
}

// extensions (A15): extensions are values like others.
func extensions(t *testing.T) {
	passes(t, []byte{0x92, 0xd4, 0xff, 7, 0xc7, 3, 0x80, 1, 2, 3})
	truncated(t, []byte{0x93, 4, 1, 0x91, 0xd8, 0xff, 1, 2})
}

// sessionForms (A18): a session may have any form of integer, and no other.
func sessionForms(t *testing.T) {
	for _, p := range [][]byte{{5}, {0xcc, 5}, {0xd0, 5}, {0xd3, 0, 0, 0, 0, 0, 0, 0, 5}, {0xcf, 0, 0, 0, 0, 0, 0, 0, 5}} {
		if m := only(t, slices.Concat([]byte{0x93, 4}, p, []byte{0x90})); m.Session != 5 {
			t.Errorf("% x is session %d, want 5", p, m.Session)
		}
	}
	refuses(t, codec.V0, []byte{0x93, 4, 0xcb, 0x40, 0x14, 0, 0, 0, 0, 0, 0, 0x90}, CodeBadSession, "")
}

// sessionRange (A19): a session is what fits into 64 bits without a sign.
func sessionRange(t *testing.T) {
	refuses(t, codec.V0, []byte{0x93, 4, 0xff, 0x90}, CodeBadSession, "")
	if m := only(t, []byte{0x93, 4, 0xcf, 255, 255, 255, 255, 255, 255, 255, 255, 0x90}); m.Session != 1<<64-1 {
		t.Errorf("session %d, want 2^64-1", m.Session)
	}
}

// typeRange (A20): a type is what fits into 32 bits without a sign.
func typeRange(t *testing.T) {
	for _, typ := range [][]byte{{0xff}, {0xcf, 0, 0, 0, 1, 0, 0, 0, 0}, {0xa1, 'x'}} {
		refuses(t, codec.V0, slices.Concat([]byte{0x93}, typ, []byte{4, 0x90}), CodeBadType, "")
	}
}

// stringForms (A21): a payload may have any form of string.
func stringForms(t *testing.T) {
	for _, p := range [][]byte{{0xa1, 'x'}, {0xd9, 1, 'x'}, {0xda, 0, 1, 'x'}, {0xdb, 0, 0, 0, 1, 'x'}, {0xc4, 1, 'x'}, {0xc5, 0, 1, 'x'}, {0xc6, 0, 0, 0, 1, 'x'}} {
		if m := only(t, append([]byte{0x93, 4, 5, 0x91}, p...)); string(m.Payload) != "x" {
			t.Errorf("% x is payload %q, want x", p, m.Payload)
		}
	}
}

// longIntegers (A24): integers need not have their shortest form.
func longIntegers(t *testing.T) {
	if m := only(t, []byte{0x93, 0xcd, 0, 4, 0xce, 0, 0, 0, 5, 0x91, 0xcf, 0, 0, 0, 0, 0, 0, 0, 5}); m.Session != 5 || m.Type != 4 {
		t.Errorf("session %d, type %d, want 5 and 4", m.Session, m.Type)
	}
}

// peerEnds (D24): a peer that ends its direction ends the channel, behind what it has sent.
func peerEnds(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		w.put(w.frames(chunk(1, 0, 8)))
		if err := w.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		s.wantOver(CodeEOF)
		if n := s.messages.Load(); n != 1 {
			t.Errorf("%d messages, want 1", n)
		}
		s.end()
	})
}

// anyPrefix (A3) ends a conversation at each of its bytes.
func anyPrefix(t *testing.T) {
	var p []byte
	ends := map[int]int{0: 0} // of frames, and how many there were
	for i, f := range conversation() {
		p = codec.AppendFrame(p, codec.V1, f)
		ends[len(p)] = i + 1
	}
	overVirtual(t, func(t *testing.T, m medium) {
		frames := 0
		for at := range len(p) + 1 {
			if n, ok := ends[at]; ok {
				frames = n
			}
			for _, kind := range []CutKind{CutFIN, CutRST} {
				m := m.scripted(t, fmt.Sprintf("b>a cut=%d:%v", at, kind))
				s := newSide(t, m, Config{Dialect: codec.V1})
				x, y := m.join(t)
				s.open(x)
				w := newWire(t, y, codec.V1)
				_, _ = w.Write(p)
				want := CodeTruncated
				switch _, whole := ends[at]; {
				case kind == CutRST:
					want = CodeReset
				case whole:
					want = CodeEOF
				}
				s.wantOver(want)
				if got := int(s.messages.Load()); got != frames {
					t.Errorf("cut at byte %d: %d messages, want %d", at, got, frames)
				}
				s.end()
				_ = w.Close()
			}
		}
	})
}

// manyItems (A5): with the limit raised the work is linear, which shows in what is
// allocated; with the limit as it is the frame is refused there.
func manyItems(t *testing.T) {
	const size = 16 << 20
	p := append([]byte{0x93, 4, 1, 0xdd, size >> 24, size >> 16 & 0xff, size >> 8 & 0xff, size & 0xff}, make([]byte, size)...)
	for _, raised := range []bool{true, false} {
		var l codec.Limits
		if raised {
			l.MaxElements = -1
		}
		f, s := newFake(t, Config{Limits: l}, nil)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for piece := range slices.Chunk(p, 1448) {
			f.feed(piece)
		}
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; raised && (s.messages.Load() != 1 || made > 5*size) {
			t.Errorf("%d messages, ended with %v, %d bytes were allocated for %d", s.messages.Load(), f.broken, made, size)
		}
		if !raised && (f.Err() == nil || f.Err().Code != CodeTooManyItems || s.messages.Load() != 0) {
			t.Errorf("%v, want too_many_items", f.Err())
		}
		f.stopTimers()
	}
}

// largestPayload (A11): 16 MiB both ways, and not a byte more.
func largestPayload(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		a, b := newSide(t, m, Config{}), newSide(t, m, Config{})
		got := make(chan int, 1)
		b.onMessage = func(m *codec.Message, _ []codec.Header) { got <- len(m.Payload) }
		m.connect(t, a, b)
		if err := a.SendOffLoop(t.Context(), chunk(1, 0, 16<<20)); err != nil {
			t.Fatal(err)
		}
		if n := await(t, "the payload", got); n != 16<<20 {
			t.Errorf("%d bytes came, want 16 MiB", n)
		}
		if err := a.SendOffLoop(t.Context(), chunk(1, 0, 16<<20+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("SendOffLoop() = %v, want ErrTooLarge", err)
		}
		b.do(func() {
			if n := cap(b.in.held); n > scratchBytes {
				t.Errorf("a buffer of %d bytes is kept", n)
			}
		})
		a.end()
		b.end()

		s, w := m.faced(t, Config{})
		w.put([]byte{0x93, 4, 1, 0x91, 0xdb, 1, 0, 0, 1}) // declared is enough
		s.wantOver(CodeTooLarge)
		s.end()
	})
}

// bufferSizes (A26): frames that just fit, and just do not, alone and behind others.
func bufferSizes(t *testing.T) {
	overhead := len(codec.AppendFrame(nil, codec.V0, chunk(1, 0, 70_000))) - 70_000
	over(t, func(t *testing.T, m medium) {
		s := newSide(t, m, Config{})
		came := s.inOrder()
		w := m.face(t, s)
		n := 0
		for _, size := range []int{4 << 10, tenantBytes, readBytes, scratchBytes, 2 * scratchBytes, 1 << 20} {
			for diff := -2; diff <= 2; diff++ {
				for _, before := range []int{0, 2} {
					var p []byte
					for range before {
						p = append(p, w.frames(chunk(1, n, 10))...)
						n++
					}
					w.put(append(p, w.frames(chunk(1, n, size-overhead+diff))...))
					n++
				}
			}
		}
		eventually(t, "all frames", func() bool { return came() == int64(n) })
		s.end()
	})
}

// randomBytes (A29), beside what the codec's fuzz targets do: whatever comes, and however
// it is cut, the channel ends in order or goes on.
func randomBytes(t *testing.T) {
	var seed []byte
	for _, f := range conversation() {
		seed = codec.AppendFrame(seed, codec.V1, f)
	}
	rounds := uint64(20_000)
	if invariants.Race {
		rounds /= 10
	}
	for n := range rounds {
		r := rand.New(rand.NewPCG(n, 0))
		p := slices.Clone(seed)
		for range 1 + r.IntN(4) {
			p[r.IntN(len(p))] = byte(r.Uint32())
		}
		f, s := newFake(t, Config{Dialect: codec.Dialect(n % 2)}, nil)
		for piece := range slices.Chunk(p, 1+r.IntN(len(p))) {
			f.feed(piece)
			if f.gone {
				break
			}
		}
		if !f.gone {
			f.inputEnded(io.EOF)
			f.turn()
		}
		if s.closes.Load() != 1 || f.Err().Offset > int64(len(p)) {
			t.Fatalf("seed %d: %d OnClose, %v", n, s.closes.Load(), f.Err())
		}
	}
}

// everyMessage (A30): what we send is what the peer gets, in both dialects.
func everyMessage(t *testing.T) { over(t, everyMessageOver) }

func everyMessageOver(t *testing.T, m medium) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		var want []string
		for _, f := range conversation() {
			var own codec.Message
			p := codec.AppendFrame(nil, d, f)
			if n, err := codec.NewScanner(d, codec.Limits{}).Next(p, &own); n != len(p) || err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("%d %d %x %d", own.Session, own.Type, own.Args, len(own.Headers)))
		}
		a, b := newSide(t, m, Config{Dialect: d}), newSide(t, m, Config{Dialect: d})
		var got tally[string]
		b.onMessage = func(m *codec.Message, _ []codec.Header) {
			got.add(fmt.Sprintf("%d %d %x %d", m.Session, m.Type, m.Args, len(m.Headers)))
		}
		m.connect(t, a, b)
		for i, f := range conversation() {
			var err error
			if i%2 == 0 {
				err = a.SendOffLoop(t.Context(), f)
			} else {
				a.do(func() { err = a.Send(f) })
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(context.Background()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		b.wantOver(CodeEOF)
		if !slices.Equal(got.all(), want) {
			t.Errorf("%v: %q came, want %q", d, got.all(), want)
		}
		b.end()
	}
}
