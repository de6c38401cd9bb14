package compress

import (
	"bytes"
	"testing"
)

// FuzzDecompress decodes anything under small limits: an *Error or at most that many bytes, and what was there before
// stays.
func FuzzDecompress(f *testing.F) {
	src := logLines(1 << 10)
	for _, a := range both {
		f.Add(uint8(a), encode(f, src, a))
	}
	f.Add(uint8(Zstd), zstdFrame(64<<10, 4))
	f.Add(uint8(Zstd), zstdFrame(128<<10, 1))
	f.Add(uint8(Zstd), appendRLE([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x40, 0xff, 0, 0}, 1))
	f.Add(uint8(S2), s2Block(5, 5))
	f.Add(uint8(S2), s2Block(1<<20, 1<<20))
	f.Add(uint8(None), []byte("plain"))
	f.Add(uint8(77), []byte("what"))
	limits := Limits{MaxOutputBytes: 256 << 10, MaxRatio: 50, FreeBytes: 4 << 10}
	dec := NewDecoder(limits)
	f.Fuzz(func(t *testing.T, a uint8, src []byte) {
		dst, before := []byte("dst"), bytes.Clone(src)
		got, err := dec.Append(dst, src, Algorithm(a))
		if !bytes.HasPrefix(got, dst) {
			t.Fatalf("Append() lost what dst held: %q", got[:min(len(got), 8)])
		}
		if !bytes.Equal(src, before) {
			t.Fatal("Append() changed src")
		}
		decoded := len(got) - len(dst)
		if err != nil {
			if reasonOf(err) == 0 || decoded != 0 {
				t.Fatalf("Append() = %d bytes, %v, want none and an *Error", decoded, err)
			}
			return
		}
		if reason := limits.check(uint64(decoded), len(src)); reason != 0 {
			t.Fatalf("Append() = %d bytes of %d, want an error: %v", decoded, len(src), reason)
		}
		// The same bytes with state of its own, to the byte.
		fresh, err := NewDecoder(limits).Append(nil, src, Algorithm(a))
		if err != nil || !bytes.Equal(fresh, got[len(dst):]) {
			t.Fatalf("Append() by a fresh decoder = %d bytes, %v, want the same %d", len(fresh), err, decoded)
		}
	})
}

// FuzzRoundTrip checks that what an encoder makes is shorter and read back by a decoder under the same limits.
func FuzzRoundTrip(f *testing.F) {
	f.Add(logLines(2<<10), uint8(1))
	f.Add(logLines(2<<10), uint8(40))
	f.Add(noise(1<<10), uint8(3))
	f.Add(make([]byte, 1<<10), uint8(200))
	limits := Limits{MaxOutputBytes: 1 << 20}
	enc, dec := NewEncoder(limits), NewDecoder(limits)
	f.Fuzz(func(t *testing.T, src []byte, times uint8) {
		src = bytes.Repeat(src, int(times))
		for _, a := range both {
			coded, ok := enc.Append([]byte("dst"), src, a)
			if string(coded[:3]) != "dst" || len(coded) >= len(src)+3 && ok || len(coded) != 3 && !ok {
				t.Fatalf("%v: Append(%d bytes) = %d bytes, %v", a, len(src), len(coded), ok)
			}
			if !ok {
				continue
			}
			if got, err := dec.Append(nil, coded[3:], a); err != nil || !bytes.Equal(got, src) {
				t.Fatalf("%v: %d bytes came back as %d bytes, %v", a, len(src), len(got), err)
			}
		}
	})
}
