package compress

import (
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

var (
	errDictionary = errors.New("made with a dictionary")
	errNoLength   = errors.New("no declared length")
	errLength     = errors.New("decoded length is not the declared one")
)

// minWindowBytes is the smallest window of the Zstandard format. The library wants that much memory allowed even for
// a shorter content.
const minWindowBytes = 1 << 10

// Decoder decodes chunks within limits. It is not safe for concurrent use. It needs no Close.
type Decoder struct {
	limits Limits // immutable, withDefaults
	zstd   frameDecoder
}

// frameDecoder is the part of *zstd.Decoder that a Decoder calls.
type frameDecoder interface {
	DecodeAll(input, dst []byte) ([]byte, error)
}

// NewDecoder returns a decoder. It takes no memory beyond itself until a Zstandard chunk comes.
func NewDecoder(limits Limits) *Decoder {
	return &Decoder{limits: limits.withDefaults()}
}

// Append decodes src and appends the result to dst, growing it once if it lacks the room. It does not keep either, and
// they must not overlap. The bytes between len(dst) and cap(dst) may be overwritten even if it fails. Every error is
// an [*Error] and comes with dst as it was.
func (d *Decoder) Append(dst, src []byte, a Algorithm) ([]byte, error) {
	out, declared, reason, err := d.decode(dst, src, a)
	if reason != 0 {
		return dst, &Error{Algorithm: a, Reason: reason, EncodedBytes: len(src), DeclaredBytes: declared, Err: err}
	}
	return out, nil
}

// Len returns how long src says that it is when decoded, without decoding it, and whether [Decoder.Append] would refuse
// that length. Only decoding tells whether it is true.
func (d *Decoder) Len(src []byte, a Algorithm) (int, error) {
	declared, reason, err := declaredLen(src, a)
	if reason == 0 {
		reason = d.limits.check(declared, len(src))
	}
	if reason != 0 {
		return 0, &Error{Algorithm: a, Reason: reason, EncodedBytes: len(src), DeclaredBytes: declared, Err: err}
	}
	return int(declared), nil
}

// decode checks what src declares and appends that many bytes to dst, or returns the reason why not. A panic of the
// library is one too.
func (d *Decoder) decode(dst, src []byte, a Algorithm) (out []byte, declared uint64, reason Reason, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.zstd = nil // whatever state it is in
			reason, err = Corrupt, fmt.Errorf("library panicked: %v", p)
		}
	}()
	declared, reason, err = declaredLen(src, a)
	if reason == 0 {
		reason = d.limits.check(declared, len(src))
	}
	if reason == 0 {
		if out, err = d.appendExactly(int(declared), dst, src, a); err != nil {
			reason = Corrupt
		}
	}
	return out, declared, reason, err
}

// declaredLen returns the decoded length that src declares, or the reason why it cannot be decoded, perhaps with an
// error. It reads the header alone.
func declaredLen(src []byte, a Algorithm) (uint64, Reason, error) {
	switch a {
	case None:
		return uint64(len(src)), 0, nil
	case S2:
		n, err := s2.DecodedLen(src)
		if err != nil {
			return 0, Corrupt, err
		}
		return uint64(n), 0, nil
	case Zstd:
		var h zstd.Header
		if err := h.Decode(src); err != nil {
			return 0, Corrupt, err
		}
		if h.DictionaryID != 0 {
			return h.FrameContentSize, Corrupt, errDictionary
		}
		if !h.HasFCS {
			return 0, Corrupt, errNoLength
		}
		return h.FrameContentSize, 0, nil
	}
	return 0, UnknownAlgorithm, nil
}

// appendExactly appends n decoded bytes to dst, or fails. The library is given room for n bytes and no more.
func (d *Decoder) appendExactly(n int, dst, src []byte, a Algorithm) ([]byte, error) {
	grown := slices.Grow(dst, n)
	room := grown[len(dst) : len(dst)+n : len(dst)+n]
	var got []byte
	var err error
	switch a {
	case None:
		got = room[:copy(room, src)]
	case S2:
		got, err = s2.Decode(room, src)
	case Zstd:
		if err = d.startZstd(); err == nil {
			got, err = d.zstd.DecodeAll(src, room[:0])
		}
	}
	if err == nil && len(got) != n {
		err = errLength
	}
	return grown[:len(dst)+n], err
}

// startZstd makes the Zstandard decoder if there is none. It starts no goroutine, and writes no further than the
// capacity that it is given.
func (d *Decoder) startZstd() error {
	if d.zstd != nil {
		return nil
	}
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(uint64(max(d.limits.MaxOutputBytes, minWindowBytes))),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return err
	}
	d.zstd = z
	return nil
}
