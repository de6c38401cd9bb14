package codec

import "math"

// The defaults of Limits.
const (
	DefaultMaxPayloadBytes = 16 << 20
	DefaultMaxElements     = 65536
	DefaultMaxDepth        = 32
	DefaultMaxHeaders      = 32
	DefaultMaxHeaderBytes  = 8 << 10

	// FrameMarginBytes is by how much a frame may by default be larger than the
	// largest payload.
	FrameMarginBytes = 64 << 10
)

// Limits bounds what a peer can make us read. In each field zero means the
// default and a negative number means no limit. Whoever accepts a negative one
// from configuration should say so once, aloud.
type Limits struct {
	// MaxPayloadBytes bounds one raw, str, bin or ext value. If zero, 16 MiB.
	MaxPayloadBytes int
	// MaxFrameBytes bounds a whole frame. If zero, MaxPayloadBytes plus 64 KiB.
	MaxFrameBytes int
	// MaxElements bounds the msgpack values in one frame: the frame's own
	// elements and everything nested in them, keys and values of maps counted
	// apiece. If zero, 65536. Never more than 2^32-1.
	MaxElements int
	// MaxDepth bounds the nesting of arrays and maps; the frame itself is 1. If
	// zero, 32, which is also the most that it can be, and what the C++ runtime
	// accepts.
	MaxDepth int
	// MaxHeaders bounds the headers of one frame. If zero, 32.
	MaxHeaders int
	// MaxHeaderBytes bounds the names and values of one frame's headers together,
	// after decoding. If zero, 8 KiB.
	MaxHeaderBytes int
}

// WithDefaults returns the limits that are in force: zero replaced by the default,
// negative by the largest possible number. All fields of the result are positive.
func (l Limits) WithDefaults() Limits {
	if l.MaxFrameBytes == 0 {
		l.MaxFrameBytes = frameLimit(l.MaxPayloadBytes)
	}
	maxElements := min(math.MaxInt, math.MaxUint32)
	return Limits{
		MaxPayloadBytes: effective(l.MaxPayloadBytes, DefaultMaxPayloadBytes, math.MaxInt),
		MaxFrameBytes:   effective(l.MaxFrameBytes, 0, math.MaxInt),
		MaxElements:     effective(l.MaxElements, DefaultMaxElements, maxElements),
		MaxDepth:        effective(l.MaxDepth, DefaultMaxDepth, DefaultMaxDepth),
		MaxHeaders:      effective(l.MaxHeaders, DefaultMaxHeaders, math.MaxInt),
		MaxHeaderBytes:  effective(l.MaxHeaderBytes, DefaultMaxHeaderBytes, math.MaxInt),
	}
}

// frameLimit returns the default MaxFrameBytes for a MaxPayloadBytes as given.
func frameLimit(payload int) int {
	switch {
	case payload == 0:
		return DefaultMaxPayloadBytes + FrameMarginBytes
	case payload < 0 || payload > math.MaxInt-FrameMarginBytes:
		return math.MaxInt
	}
	return payload + FrameMarginBytes
}

// effective returns the limit that a configured one stands for.
func effective(limit, byDefault, most int) int {
	switch {
	case limit == 0:
		return byDefault
	case limit < 0:
		return most
	}
	return min(limit, most)
}
