package codec

import (
	"bytes"
	"testing"
)

var data64 = bytes.Repeat([]byte("abcdefgh"), 8)

// chunks64 is a buffer of about 64 KiB: 910 frames with 64 bytes of data each.
func chunks64(d Dialect, tail string) (buf []byte) {
	f := Frame{Kind: KindChunk, Session: 300, Payload: data64}
	for range 910 {
		buf = AppendFrame(buf, d, &f)
		if tail != "" {
			buf = append(buf[:len(buf)-1], tail...)
		}
	}
	return buf
}

func benchmarkScan(b *testing.B, s *Scanner, buf []byte) {
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	var m Message
	frames := 0
	for b.Loop() {
		for rest := buf; len(rest) > 0; frames++ {
			n, err := s.Next(rest, &m)
			if n == 0 || len(m.Payload) != 64 {
				b.Fatalf("Next() = %d, %v, payload of %d", n, err, len(m.Payload))
			}
			rest = rest[n:]
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(frames), "ns/frame")
}

// BenchmarkScanChunk64 is the hot path of receiving: from our own peers, from the
// C++ runtime ("zerotrace"), and without the code for just that shape ("general").
func BenchmarkScanChunk64(b *testing.B) {
	for _, c := range []struct {
		name string
		d    Dialect
		tail string
	}{{"v0", V0, ""}, {"v1", V1, ""}, {"v1/zerotrace", V1, noTrace}} {
		buf := chunks64(c.d, c.tail)
		b.Run(c.name, func(b *testing.B) { benchmarkScan(b, NewScanner(c.d, Limits{}), buf) })
		b.Run(c.name+"/general", func(b *testing.B) {
			s := NewScanner(c.d, Limits{})
			s.plainLimit, s.plainMax = 0, 0
			benchmarkScan(b, s, buf)
		})
	}
}

// BenchmarkAppendChunk64 is the hot path of sending.
func BenchmarkAppendChunk64(b *testing.B) {
	for _, d := range []Dialect{V0, V1} {
		b.Run(d.String(), func(b *testing.B) {
			f := Frame{Kind: KindChunk, Session: 300, Payload: data64}
			dst := make([]byte, 0, f.MaxSize())
			b.ReportAllocs()
			for b.Loop() {
				dst = AppendFrame(dst[:0], d, &f)
			}
		})
	}
}

// BenchmarkScan16MiBElements scans one frame of 16 Mi values of one byte, whole and
// as it arrives: linear means that the two differ little.
func BenchmarkScan16MiBElements(b *testing.B) {
	frame := manyElements(16 << 20)
	var m Message
	b.Run("whole", func(b *testing.B) {
		b.SetBytes(int64(len(frame)))
		for b.Loop() {
			if n, err := NewScanner(V1, Limits{MaxElements: -1}).Next(frame, &m); n == 0 {
				b.Fatal(err)
			}
		}
	})
	b.Run("pieces", func(b *testing.B) {
		b.SetBytes(int64(len(frame)))
		for b.Loop() {
			if n, err := inPieces(NewScanner(V1, Limits{MaxElements: -1}), frame, &m); n != len(frame) {
				b.Fatal(n, err)
			}
		}
	})
}

// BenchmarkScanPayload16MiB copies a frame of 16 MiB packet by packet, and scans it
// on the way ("pieces"), or does not.
func BenchmarkScanPayload16MiB(b *testing.B) {
	frame := AppendFrame(nil, V1, &Frame{Kind: KindChunk, Session: 2, Payload: make([]byte, 16<<20)})
	buf := make([]byte, len(frame))
	b.Run("memcpy", func(b *testing.B) {
		b.SetBytes(int64(len(frame)))
		for b.Loop() {
			copy(buf, frame)
		}
	})
	b.Run("pieces", func(b *testing.B) {
		b.SetBytes(int64(len(frame)))
		for b.Loop() {
			if n, err := arrive(buf, frame, NewScanner(V1, Limits{})); n != len(frame) {
				b.Fatal(n, err)
			}
		}
	})
}

// BenchmarkHeaders decodes the headers of one frame, as they are most often.
func BenchmarkHeaders(b *testing.B) {
	var scratch [24]byte
	for _, c := range []struct {
		name string
		raw  []byte
	}{
		{"zerotrace", []byte(noTrace)},
		{"names", AppendFrameTail(nil, V1, Trace{1, 2, 3}.AppendHeaders(nil, &scratch))},
		{"stored", []byte("\x93\x93\xc3\x50\xa812345678\x93\xc3\x51\xa812345678\x93\xc3\x52\xa812345678")},
	} {
		b.Run(c.name, func(b *testing.B) {
			var d HeaderDecoder
			h := make([]Header, 0, 8)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if h, err = d.Decode(c.raw, h[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReader reads the arguments of a call.
func BenchmarkReader(b *testing.B) {
	args := Args(3, "app/echo", "a line of the log", list{list{"key", "value"}, list{"n", 7}}).Bytes()
	b.Run("typed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := NewReader(args)
			n := r.Int() + len(r.Bytes()) + len(r.Bytes())
			for range r.ArrayLen() {
				n += r.ArrayLen() + len(r.Bytes())
				r.Skip()
			}
			if r.Err() != nil || n == 0 {
				b.Fatal(r.Err())
			}
		}
	})
	b.Run("skip", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := NewValueReader(args)
			if r.Skip(); r.Err() != nil {
				b.Fatal(r.Err())
			}
		}
	})
}

// BenchmarkArgs encodes the arguments of a call.
func BenchmarkArgs(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if a := Args("collection", "key", data64); a.Err() != nil {
			b.Fatal(a.Err())
		}
	}
}
