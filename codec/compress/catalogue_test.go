package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/sluice-rpc/sluice/internal/invariants"
)

// TestCatalogue is the faults of the reliability catalogue that end here.
func TestCatalogue(t *testing.T) {
	t.Run("F12", testBombs)
	t.Run("F13", testDamage)
}

// reasonOf returns the reason of an *Error, or 0.
func reasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return 0
}

// zstdFrame returns a single-segment frame of RLE blocks, each of 128 KiB of zeros in 4 bytes, that declares what it
// is told to.
func zstdFrame(declared uint64, blocks int) []byte {
	// Frame_Header_Descriptor: Frame_Content_Size of 8 bytes, Single_Segment.
	b := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, declared)
	return appendRLE(b, blocks)
}

func appendRLE(b []byte, blocks int) []byte {
	for i := range blocks {
		header := uint32(128<<10)<<3 | 1<<1 // Block_Size, RLE_Block
		if i == blocks-1 {
			header |= 1 // Last_Block
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return b
}

// s2Block returns a block that declares a length and holds one zero, repeated to another length: 5 bytes, or from
// 65545 to some multiple of 16 MiB.
func s2Block(declared uint64, actual int) []byte {
	b := binary.AppendUvarint(nil, declared)
	b = append(b, 0, 0)    // a literal of one byte, 0
	b = append(b, 0x01, 1) // a copy of 4 bytes from 1 byte before
	for actual -= 1 + 4; actual > 0; actual -= 1 << 24 {
		n := min(actual, 1<<24) - 65540 // a repeat: tag copy1 with offset 0 and length code 7
		b = append(b, 7<<2|1, 0, byte(n), byte(n>>8), byte(n>>16))
	}
	return b
}

func testBombs(t *testing.T) {
	const gib = 1 << 30
	honest := encode(t, logLines(1<<10), Zstd)
	for _, c := range []struct {
		name string
		a    Algorithm
		src  []byte
		want Reason
	}{
		{"zstd 1 GiB", Zstd, zstdFrame(gib, gib>>17), TooLarge},
		{"zstd 8 MiB in 273 bytes", Zstd, zstdFrame(8<<20, 64), Ratio},
		{"zstd declares 2^64-1", Zstd, zstdFrame(1<<64-1, 1), TooLarge},
		{"zstd declares 2^63", Zstd, zstdFrame(1<<63, 1), TooLarge},
		{"zstd declares less than 1 GiB", Zstd, zstdFrame(64<<10, gib>>17), Corrupt},
		{"zstd declares nothing", Zstd, appendRLE([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x70}, gib>>17), Corrupt},
		{"zstd with a window of 3.75 TiB", Zstd, appendRLE([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x40, 0xff, 0, 0}, 1), Corrupt},
		{"zstd with a second frame", Zstd, append(honest, zstdFrame(gib, gib>>17)...), Corrupt},
		{"zstd behind a skippable frame", Zstd, append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, zstdFrame(gib, gib>>17)...), Corrupt},
		{"s2 1 GiB", S2, s2Block(gib, gib), TooLarge},
		{"s2 8 MiB in 14 bytes", S2, s2Block(8<<20, 8<<20), Ratio},
		{"s2 declares 2^32-1", S2, s2Block(1<<32-1, 10), TooLarge},
		{"s2 declares 2^32", S2, s2Block(1<<32, 10), Corrupt},
		{"s2 declares less than 1 GiB", S2, s2Block(64<<10, gib), Corrupt},
		{"s2 declares more than it has", S2, s2Block(64<<10, 5), Corrupt},
	} {
		dec := NewDecoder(Limits{})
		if _, err := dec.Append(nil, encode(t, logLines(1<<10), c.a), c.a); err != nil {
			t.Fatalf("%s: a good chunk before: %v", c.name, err)
		}
		var got []byte
		var err error
		allocated := allocatedBytes(func() { got, err = dec.Append(nil, c.src, c.a) })
		if reasonOf(err) != c.want || len(got) != 0 {
			t.Errorf("%s: Append() = %d bytes, %v, want %v", c.name, len(got), err, c.want)
		}
		if allocated > 2*defaultFreeBytes {
			t.Errorf("%s: refusing %d bytes allocated %d bytes, want at most %d", c.name, len(c.src), allocated, 2*defaultFreeBytes)
		}
	}
	t.Run("nested", testNestedBombs)
	t.Run("budget", testBudget)
}

// testNestedBombs wraps a bomb until it is small, and checks that one call takes off one layer.
func testNestedBombs(t *testing.T) {
	const gib = 1 << 30
	for _, outer := range both {
		for _, inner := range []struct {
			a    Algorithm
			bomb []byte
			want Reason
		}{
			{Zstd, zstdFrame(gib, gib>>17), TooLarge},
			{S2, s2Block(8<<20, 8<<20), Ratio},
		} {
			wrapped := encode(t, append(inner.bomb, make([]byte, 4<<10)...), outer)
			dec := NewDecoder(Limits{})
			layer, err := dec.Append(nil, wrapped, outer)
			if err != nil || len(layer) != len(inner.bomb)+4<<10 {
				t.Fatalf("%v in %v: Append() = %d bytes, %v, want the bomb as it was", inner.a, outer, len(layer), err)
			}
			allocated := allocatedBytes(func() { _, err = dec.Append(nil, layer, inner.a) })
			if reasonOf(err) != inner.want || allocated > 2*defaultFreeBytes {
				t.Errorf("%v in %v: the second Append() = %v with %d bytes allocated, want %v", inner.a, outer, err, allocated, inner.want)
			}
		}
	}
}

// testBudget decodes the most that limits allow and checks that it takes no more than that.
func testBudget(t *testing.T) {
	const limit = 4 << 20
	limits := Limits{MaxOutputBytes: limit, MaxRatio: -1}
	for a, src := range map[Algorithm][]byte{Zstd: zstdFrame(limit, limit>>17), S2: s2Block(limit, limit)} {
		dec := NewDecoder(limits)
		var got []byte
		var err error
		allocated := allocatedBytes(func() { got, err = dec.Append(nil, src, a) })
		if err != nil || len(got) != limit {
			t.Errorf("%v: Append() = %d bytes, %v, want %d", a, len(got), err, limit)
		}
		if allocated > limit+limit/4 {
			t.Errorf("%v: decoding to %d bytes allocated %d", a, limit, allocated)
		}
	}
}

// allocatedBytes returns what f allocates, garbage or not. Under the race detector, which allocates twice for what
// grows, it returns 0.
func allocatedBytes(f func()) uint64 {
	if invariants.Race {
		f()
		return 0
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func testDamage(t *testing.T) {
	for _, a := range both {
		t.Run(a.String(), func(t *testing.T) { testDamaged(t, a) })
	}
	t.Run("unknown algorithm", func(t *testing.T) {
		for a := 3; a < 256; a++ {
			_, err := NewDecoder(Limits{}).Append(nil, []byte("bytes"), Algorithm(a))
			if reasonOf(err) != UnknownAlgorithm {
				t.Errorf("Append(%v) = %v, want %v", Algorithm(a), err, UnknownAlgorithm)
			}
		}
	})
	t.Run("wrong algorithm", func(t *testing.T) {
		src := logLines(4 << 10)
		for _, pair := range [][2]Algorithm{{S2, Zstd}, {Zstd, S2}} {
			if _, err := NewDecoder(Limits{}).Append(nil, encode(t, src, pair[0]), pair[1]); reasonOf(err) != Corrupt {
				t.Errorf("Append(%v as %v) = %v, want %v", pair[0], pair[1], err, Corrupt)
			}
		}
	})
	t.Run("wrong dictionary", testDictionary)
	t.Run("library panic", testPanic)
}

// testDamaged cuts an encoded chunk everywhere, adds to it, and turns every bit of it.
func testDamaged(t *testing.T, a Algorithm) {
	src := logLines(2 << 10)
	good := encode(t, src, a)
	dec := NewDecoder(Limits{})
	for n := range good {
		if got, err := dec.Append([]byte("dst"), good[:n], a); reasonOf(err) != Corrupt || string(got) != "dst" {
			t.Errorf("Append(%d of %d bytes) = %d bytes, %v, want dst and %v", n, len(good), len(got), err, Corrupt)
		}
	}
	if _, err := dec.Append(nil, append(good[:len(good):len(good)], 0), a); reasonOf(err) != Corrupt {
		t.Errorf("Append(with a byte more) = %v, want %v", err, Corrupt)
	}
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		got, err := dec.Append(nil, bad, a)
		if err != nil && reasonOf(err) == 0 {
			t.Fatalf("Append(bit %d turned) = %T %v, want an *Error", bit, err, err)
		}
		// Zstandard has a checksum; a turned bit may also be one that means nothing. S2 has none.
		if a == Zstd && err == nil && !bytes.Equal(got, src) {
			t.Errorf("Append(bit %d turned) = other bytes, want an error", bit)
		}
	}
	if got, err := dec.Append(nil, good, a); err != nil || !bytes.Equal(got, src) {
		t.Errorf("Append() after the bad ones = %d bytes, %v, want the source", len(got), err)
	}
}

func testDictionary(t *testing.T) {
	src := logLines(4 << 10)
	withID, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(7, logLines(8<<10)), zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	defer withID.Close()
	if _, err := NewDecoder(Limits{}).Append(nil, withID.EncodeAll(src, nil), Zstd); reasonOf(err) != Corrupt || !errors.Is(err, errDictionary) {
		t.Errorf("zstd: Append(with dictionary 7) = %v, want %v: %v", err, Corrupt, errDictionary)
	}
	// An S2 block does not name its dictionary: copies from it reach before the start.
	dict := s2.MakeDict(src, nil)
	if dict == nil {
		t.Fatal("MakeDict() = nil")
	}
	block := dict.Encode(nil, src)
	if _, err := NewDecoder(Limits{}).Append(nil, block, S2); reasonOf(err) != Corrupt {
		t.Errorf("s2: Append(with a dictionary) = %v, want %v", err, Corrupt)
	}
}

// brokenLibrary panics as a library with a bug would.
type brokenLibrary struct{}

func (brokenLibrary) DecodeAll(_, dst []byte) ([]byte, error) { return dst[:cap(dst)+1], nil }
func (brokenLibrary) EncodeAll(_, _ []byte) []byte            { panic("internal error") }

func testPanic(t *testing.T) {
	src := logLines(4 << 10)
	good := encode(t, src, Zstd)
	dec := NewDecoder(Limits{})
	dec.zstd = brokenLibrary{}
	if got, err := dec.Append([]byte("dst"), good, Zstd); reasonOf(err) != Corrupt || string(got) != "dst" {
		t.Errorf("decoder: Append() = %q, %v, want dst and %v", got, err, Corrupt)
	}
	if got, err := dec.Append(nil, good, Zstd); err != nil || !bytes.Equal(got, src) {
		t.Errorf("decoder: Append() after a panic = %d bytes, %v, want the source", len(got), err)
	}
	enc := NewEncoder(Limits{})
	enc.zstd = brokenLibrary{}
	if got, ok := enc.Append([]byte("dst"), src, Zstd); ok || string(got) != "dst" {
		t.Errorf("encoder: Append() = %q, %v, want dst and plain", got, ok)
	}
	if got, ok := enc.Append(nil, src, Zstd); !ok || !bytes.Equal(got, good) {
		t.Errorf("encoder: Append() after a panic = %d bytes, %v, want %d", len(got), ok, len(good))
	}
}
