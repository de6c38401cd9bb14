package channel

import (
	"math/bits"
	"sync"

	"github.com/valyala/bytebufferpool"
)

const (
	keepBuffer  = 2 << 20  // larger output buffers are dropped, not pooled: a full output fits
	spareBuffer = 64 << 10 // larger ones are not kept by the loop
	maxSpare    = 2        // buffers that a loop keeps: one that is filled, one that is written
)

// buffers are a loop's output buffers. In its turns a loop needs one or two at a time;
// those it keeps while they are small: the pool that all share drops what is larger than
// most of what was written, and these grow by powers of two.
type buffers struct {
	mu    sync.Mutex // guards spare
	spare []*bytebufferpool.ByteBuffer
}

// get returns an empty buffer. Any goroutine.
func (p *buffers) get() *bytebufferpool.ByteBuffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.spare); n > 0 {
		b := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return b
	}
	return bytebufferpool.Get()
}

// put takes a buffer back that nobody uses any more; nil is none. Any goroutine.
func (p *buffers) put(b *bytebufferpool.ByteBuffer) {
	if b == nil || cap(b.B) > keepBuffer {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spare) < maxSpare && cap(b.B) <= spareBuffer {
		b.Reset()
		p.spare = append(p.spare, b)
		return
	}
	bytebufferpool.Put(b)
}

// room makes b large enough for n more bytes, by powers of two. Larger buffers than are
// kept grow as append has it.
func room(b []byte, n int) []byte {
	need := len(b) + n
	if need <= cap(b) || need > keepBuffer {
		return b
	}
	return append(make([]byte, 0, 1<<bits.Len(uint(need-1))), b...)
}
