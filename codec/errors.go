package codec

import "strconv"

// Code says why a stream of frames cannot go on.
type Code uint8

// The reasons. Their String forms are stable: logs and counters are named by them.
const (
	CodeBadFrame     Code = iota + 1 // not an array, fewer than 3 elements, or arguments that are no array
	CodeTooManyItems                 // more values than MaxElements
	CodeTooLarge                     // more bytes than MaxPayloadBytes or MaxFrameBytes
	CodeTooDeep                      // nested deeper than MaxDepth
	CodeBadMsgpack                   // the reserved byte 0xc1
	CodeBadSession                   // session that is no integer of 0..2^64-1
	CodeBadType                      // message type that is no integer of 0..2^32-1
	CodeBadHeader                    // headers that are no array, or cannot be decoded
)

var codeNames = [...]string{
	CodeBadFrame:     "bad_frame",
	CodeTooManyItems: "too_many_items",
	CodeTooLarge:     "too_large",
	CodeTooDeep:      "too_deep",
	CodeBadMsgpack:   "bad_msgpack",
	CodeBadSession:   "bad_session",
	CodeBadType:      "bad_type",
	CodeBadHeader:    "bad_header",
}

// String returns the name of the reason, for example "bad_frame".
func (c Code) String() string {
	if c == 0 || int(c) >= len(codeNames) {
		return "Code(" + strconv.Itoa(int(c)) + ")"
	}
	return codeNames[c]
}

// FrameError ends a stream of frames: what follows cannot be understood.
type FrameError struct {
	// Offset is where the offending value begins. From a Scanner it counts from
	// the first byte of the stream; from a HeaderDecoder it counts from the first
	// byte of the header array.
	Offset int64
	// Code is the reason.
	Code Code
	// Detail says in words what was found. It quotes no bytes of the peer.
	Detail string
}

// Error returns for example
// "bad_frame at byte 17: array of 2 elements, want 3 or more".
func (e *FrameError) Error() string {
	return e.Code.String() + " at byte " + strconv.FormatInt(e.Offset, 10) + ": " + e.Detail
}

// ReadError says why a Reader could not read a value.
type ReadError struct {
	// Offset is where the value begins, counted from the first byte that the
	// Reader was given.
	Offset int
	// Detail says in words what was found, and what was wanted.
	Detail string
}

// Error returns for example "value at byte 5: map, want integer".
func (e *ReadError) Error() string {
	return "value at byte " + strconv.Itoa(e.Offset) + ": " + e.Detail
}
