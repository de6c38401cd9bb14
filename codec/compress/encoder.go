package compress

import (
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// windowBytes is how far back Zstandard looks for a match. It bounds the state of a connection that once sent a long
// chunk: 64 KiB chunks take 0.4 MiB, longer ones under 1 MiB.
const windowBytes = 256 << 10

// MinInputBytes is the shortest chunk that is worth encoding: under it the time is spent for a few bytes.
const MinInputBytes = 256

// Encoder encodes chunks for a decoder with known limits. It is not safe for concurrent use. It needs no Close.
type Encoder struct {
	limits Limits // immutable, withDefaults
	zstd   frameEncoder
}

// frameEncoder is the part of *zstd.Encoder that an Encoder calls.
type frameEncoder interface {
	EncodeAll(src, dst []byte) []byte
}

// NewEncoder returns an encoder for peers that decode under these limits. It takes no memory beyond itself until a
// chunk is to be encoded as Zstandard.
func NewEncoder(peer Limits) *Encoder {
	return &Encoder{limits: peer.withDefaults()}
}

// Append appends the encoded form of src to dst and returns true. It returns false, and dst with its length unchanged
// but perhaps more capacity, when the chunk should be sent plain: it is shorter than [MinInputBytes], would not become
// shorter, or would be over the peer's limits; or the algorithm is [None] or unknown. It does not keep either slice,
// and they must not overlap.
func (e *Encoder) Append(dst, src []byte, a Algorithm) ([]byte, bool) {
	if len(src) < MinInputBytes || len(src) > e.limits.MaxOutputBytes {
		return dst, false
	}
	out := e.encode(dst, src, a)
	encoded := len(out) - len(dst)
	if encoded == 0 || encoded >= len(src) || e.limits.check(uint64(len(src)), encoded) != 0 {
		return out[:len(dst)], false
	}
	return out, true
}

// encode appends the encoded form of src to dst, or nothing if it cannot. A panic of the library is "cannot" too.
func (e *Encoder) encode(dst, src []byte, a Algorithm) (out []byte) {
	defer func() {
		if recover() != nil {
			e.zstd = nil // whatever state it is in
			out = dst
		}
	}()
	switch a {
	case S2:
		n := s2.MaxEncodedLen(len(src))
		if n < 0 {
			return dst
		}
		out = slices.Grow(dst, n)
		block := s2.Encode(out[len(dst):len(dst)+n], src)
		return out[:len(dst)+len(block)]
	case Zstd:
		if !e.startZstd() {
			return dst
		}
		return e.zstd.EncodeAll(src, dst)
	}
	return dst
}

// startZstd makes the Zstandard encoder if there is none. It starts no goroutine. A single segment always declares its
// length.
func (e *Encoder) startZstd() bool {
	if e.zstd == nil {
		z, err := zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithLowerEncoderMem(true),
			zstd.WithWindowSize(windowBytes),
			zstd.WithSingleSegment(true))
		if err != nil {
			return false
		}
		e.zstd = z
	}
	return true
}
