package codec

import (
	"encoding/binary"
	"math"
	"time"
)

// timeoutName is the header with which a client bounds the time that an app may
// take for a request, waiting in the queue included: milliseconds.
var timeoutName = []byte("request_timeout")

// TimeoutOf returns the time that the request_timeout header in h allows, or false
// if there is none, or it is not 8 bytes. What is too long for a Duration (292
// years) is the longest one.
func TimeoutOf(h []Header) (time.Duration, bool) {
	ms, ok := number(h, timeoutName)
	if !ok {
		return 0, false
	}
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		return math.MaxInt64, true
	}
	return time.Duration(ms) * time.Millisecond, true
}

// TimeoutHeader returns the request_timeout header for d, rounded up to whole
// milliseconds; a negative d counts as 0. Its value is in scratch, which must stay
// as it is until the header is encoded; its name is shared and must not be changed.
func TimeoutHeader(d time.Duration, scratch *[8]byte) Header {
	ms := uint64(max(d, 0)) / uint64(time.Millisecond)
	if d > 0 && d%time.Millisecond != 0 {
		ms++
	}
	binary.LittleEndian.PutUint64(scratch[:], ms)
	return Header{Name: timeoutName, Value: scratch[:]}
}
