package compress

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/internal/invariants"
)

// both are the algorithms that shrink anything.
var both = []Algorithm{S2, Zstd}

// logLines returns n bytes that look like a log.
func logLines(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	levels := []string{"debug", "info", "warning", "error"}
	var b []byte
	for len(b) < n {
		b = fmt.Appendf(b, "2015-06-%02d %02d:%02d:%02d %s app/echo session %d: %d bytes in %d us\n", rnd.IntN(30)+1,
			rnd.IntN(24), rnd.IntN(60), rnd.IntN(60), levels[rnd.IntN(4)], rnd.IntN(2000), rnd.IntN(1<<16), rnd.IntN(900))
	}
	return b[:n]
}

// noise returns n bytes that nothing shrinks.
func noise(n int) []byte {
	rnd := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// encode fails the test if the encoder would send src plain.
func encode(t testing.TB, src []byte, a Algorithm) []byte {
	t.Helper()
	out, ok := NewEncoder(Limits{MaxRatio: -1}).Append(nil, src, a)
	if !ok {
		t.Fatalf("%v: Append(%d bytes) = plain, want it encoded", a, len(src))
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	for _, a := range both {
		enc, dec := NewEncoder(Limits{}), NewDecoder(Limits{})
		for _, n := range []int{MinInputBytes, 300, 1 << 10, 64 << 10, 128<<10 + 1, 1 << 20, 5 << 20, 16 << 20} {
			src := logLines(n)
			coded, ok := enc.Append([]byte("head "), src, a)
			if !ok || !bytes.HasPrefix(coded, []byte("head ")) || len(coded) >= len(src) {
				t.Fatalf("%v: Append(%d bytes) = %d bytes, %v, want fewer behind the head", a, n, len(coded), ok)
			}
			got, err := dec.Append([]byte("front "), coded[len("head "):], a)
			if err != nil || string(got[:6]) != "front " || !bytes.Equal(got[6:], src) {
				t.Fatalf("%v: Append(%d bytes of %d) = %d bytes, %v, want the source behind the front", a, len(coded), n, len(got), err)
			}
		}
	}
}

func TestNoneIsPlain(t *testing.T) {
	src := logLines(1 << 10)
	if got, ok := NewEncoder(Limits{}).Append(nil, src, None); ok || len(got) != 0 {
		t.Errorf("encoder: Append(None) = %d bytes, %v, want nothing, false", len(got), ok)
	}
	got, err := NewDecoder(Limits{}).Append([]byte("a"), src, None)
	if err != nil || !bytes.Equal(got, append([]byte("a"), src...)) {
		t.Errorf("decoder: Append(None) = %d bytes, %v, want a copy behind the a", len(got), err)
	}
	if _, err := NewDecoder(Limits{MaxOutputBytes: 10}).Append(nil, src, None); reasonOf(err) != TooLarge {
		t.Errorf("decoder: Append(None) over the limit = %v, want %v", err, TooLarge)
	}
}

func TestPlainIsBetter(t *testing.T) {
	for _, a := range both {
		for _, c := range []struct {
			name   string
			src    []byte
			limits Limits
		}{
			{"empty", nil, Limits{}},
			{"short", make([]byte, MinInputBytes-1), Limits{}},
			{"does not shrink", noise(4 << 10), Limits{}},
			{"over the peer's output", logLines(4 << 10), Limits{MaxOutputBytes: 4<<10 - 1}},
			{"over the peer's ratio", make([]byte, 1<<20), Limits{}},
			{"over a strict ratio", logLines(4 << 10), Limits{MaxRatio: 1, FreeBytes: -1}},
		} {
			dst := append(make([]byte, 0, 8), "kept"...)
			got, ok := NewEncoder(c.limits).Append(dst, c.src, a)
			if ok || string(got) != "kept" {
				t.Errorf("%v, %s: Append() = %q, %v, want dst and false", a, c.name, got, ok)
			}
		}
		zeros := make([]byte, defaultFreeBytes)
		if _, ok := NewEncoder(Limits{}).Append(nil, zeros, a); !ok {
			t.Errorf("%v: Append(zeros, within the free bytes) = plain, want it encoded", a)
		}
	}
	if _, ok := NewEncoder(Limits{}).Append(nil, logLines(4<<10), Algorithm(9)); ok {
		t.Errorf("Append(unknown algorithm) = encoded, want plain")
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		limits  Limits
		decoded uint64
		encoded int
		want    Reason
	}{
		{Limits{}, 16 << 20, 1 << 20, 0},
		{Limits{}, 16<<20 + 1, 1 << 20, TooLarge},
		{Limits{}, 64 << 10, 1, 0},
		{Limits{}, 64<<10 + 1, 1, Ratio},
		{Limits{}, 200_000, 1000, 0},
		{Limits{}, 200_001, 1000, Ratio},
		{Limits{}, 1 << 63, 1, TooLarge},
		{Limits{MaxOutputBytes: 100}, 101, 100, TooLarge},
		{Limits{MaxOutputBytes: -1}, 1 << 40, 1 << 33, 0},
		{Limits{MaxOutputBytes: -1}, 1 << 63, 1 << 33, TooLarge}, // more than a slice can hold
		{Limits{MaxRatio: 3}, 300_000, 100_000, 0},
		{Limits{MaxRatio: 3}, 300_001, 100_000, Ratio},
		{Limits{MaxRatio: -1}, 16 << 20, 1, 0},
		{Limits{FreeBytes: -1}, 200, 1, 0},
		{Limits{FreeBytes: -1}, 201, 1, Ratio},
		{Limits{FreeBytes: -1}, 0, 0, 0},
		{Limits{FreeBytes: 1 << 20}, 1 << 20, 1, 0},
	} {
		if got := c.limits.withDefaults().check(c.decoded, c.encoded); got != c.want {
			t.Errorf("%+v.check(%d, %d) = %v, want %v", c.limits, c.decoded, c.encoded, got, c.want)
		}
	}
}

// TestLen: the length alone is refused for the same reasons as the bytes, and costs no decoding.
func TestLen(t *testing.T) {
	for _, a := range both {
		dec := NewDecoder(Limits{MaxOutputBytes: 1 << 20})
		for _, n := range []int{MinInputBytes, 64 << 10, 1 << 20} {
			if got, err := dec.Len(encode(t, logLines(n), a), a); got != n || err != nil {
				t.Errorf("%v: Len() = %d, %v, want %d", a, got, err, n)
			}
		}
		if n, err := dec.Len(encode(t, logLines(1<<20+1), a), a); n != 0 || reasonOf(err) != TooLarge {
			t.Errorf("%v: Len() over the limit = %d, %v, want %v", a, n, err, TooLarge)
		}
		if n, err := dec.Len(encode(t, make([]byte, 1<<20), a), a); n != 0 || reasonOf(err) != Ratio {
			t.Errorf("%v: Len() of zeros = %d, %v, want %v", a, n, err, Ratio)
		}
		if n, err := dec.Len(nil, a); n != 0 || reasonOf(err) != Corrupt {
			t.Errorf("%v: Len(nothing) = %d, %v, want %v", a, n, err, Corrupt)
		}
	}
	if _, err := NewDecoder(Limits{}).Len([]byte("bytes"), 9); reasonOf(err) != UnknownAlgorithm {
		t.Errorf("Len(unknown algorithm) = %v, want %v", err, UnknownAlgorithm)
	}
}

func TestStrings(t *testing.T) {
	for want, v := range map[string]fmt.Stringer{
		"none": None, "s2": S2, "zstd": Zstd, "algorithm(3)": Algorithm(3),
		"corrupt": Corrupt, "too_large": TooLarge, "ratio": Ratio, "unknown_algorithm": UnknownAlgorithm,
		"reason(0)": Reason(0),
	} {
		if got := v.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

// TestStartsNothing holds the promise that neither needs a Close: a goroutine left would fail the bubble.
func TestStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := logLines(1 << 20)
		for _, a := range both {
			if _, err := NewDecoder(Limits{}).Append(nil, encode(t, src, a), a); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAllocations(t *testing.T) {
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	for _, a := range both {
		for _, n := range []int{1 << 10, 64 << 10, 300 << 10} {
			if allocs := allocsThereAndBack(t, a, n); allocs != 0 {
				t.Errorf("%v, %d bytes: there and back makes %v allocations, want 0", a, n, allocs)
			}
		}
	}
}

// allocsThereAndBack counts the allocations of encoding n bytes that shrink and n that do not, and of decoding.
func allocsThereAndBack(t *testing.T, a Algorithm, n int) float64 {
	enc, dec := NewEncoder(Limits{}), NewDecoder(Limits{})
	text, random := logLines(n), noise(n)
	var coded, plain []byte
	return testing.AllocsPerRun(20, func() {
		coded, _ = enc.Append(coded[:0], random, a)
		coded, _ = enc.Append(coded[:0], text, a)
		var err error
		if plain, err = dec.Append(plain[:0], coded, a); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, a := range both {
		for _, n := range []int{1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%v/%dKiB", a, n>>10), func(b *testing.B) {
				enc, src := NewEncoder(Limits{}), logLines(n)
				dst, _ := enc.Append(nil, src, a)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					dst, _ = enc.Append(dst[:0], src, a)
				}
				b.ReportMetric(float64(n)/float64(len(dst)), "ratio")
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, a := range both {
		for _, n := range []int{1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%v/%dKiB", a, n>>10), func(b *testing.B) {
				dec, src := NewDecoder(Limits{}), encode(b, logLines(n), a)
				var dst []byte
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					dst, _ = dec.Append(dst[:0], src, a)
				}
			})
		}
	}
}
