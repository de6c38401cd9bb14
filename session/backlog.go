package session

import (
	"bytes"
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// Defaults of Overflow.
const (
	defaultBacklogBytes  = 256 << 10
	defaultBacklogChunks = 256
)

// backlog is a session's policy, and what waits under it: chunks in order, and the last
// frame behind them. While something waits, scheduled says that the loop will flush: it is
// doing so, was posted to, or the session is in line for room or credit.
type backlog struct {
	policy  atomic.Uint32
	held    atomic.Int64 // what waits, what is being sent included; changed under mu
	dropped atomic.Uint64
	cut     atomic.Pointer[Error] // that the policy gave the session up with

	flushing bool // owned by the loop

	mu        sync.Mutex // guards the following; no user code runs under it
	maxBytes  int
	maxChunks int
	chunks    [][]byte
	bytes     int
	last      *codec.Frame
	scheduled bool
	closed    bool          // nothing more is sent
	empty     chan struct{} // closed when nothing waits; made by who wants to know
}

func (b *backlog) set(o Overflow) {
	bound := func(n, def int) int {
		switch {
		case n < 0:
			return math.MaxInt
		case n == 0:
			return def
		}
		return n
	}
	b.mu.Lock()
	b.maxBytes, b.maxChunks = bound(o.MaxBytes, defaultBacklogBytes), bound(o.MaxChunks, defaultBacklogChunks)
	b.mu.Unlock()
	b.policy.Store(uint32(o.Policy))
}

// outcome is what the policy does for who sends.
func (b *backlog) outcome(onLoop bool) outcome {
	p := &policies[b.policy.Load()]
	if onLoop {
		return p.loop
	}
	return p.goroutine
}

// waits reports whether a chunk has to stand behind others of its session.
func (b *backlog) waits() bool { return b.held.Load() > 0 }

// keep queues a copy of p and drops for it the oldest that are too many. first says that a
// flush is to be called for.
func (b *backlog) keep(p []byte) (dropped int, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 1, false
	}
	size := len(p) + chunkCost
	var buf []byte // of one that is dropped
	for ; dropped < len(b.chunks) && (len(b.chunks)-dropped >= b.maxChunks || size > b.maxBytes-b.bytes); dropped++ {
		buf = b.chunks[dropped]
		b.bytes -= len(buf) + chunkCost
	}
	if cap(buf) > 2*size {
		buf = nil // a short one would hold on to the room of a long one
	}
	b.chunks = append(slices.Delete(b.chunks, 0, dropped), append(buf[:0], p...))
	b.bytes += size
	b.held.Add(int64(1 - dropped))
	first, b.scheduled = !b.scheduled, true
	return dropped, first
}

// next takes out what is to be sent next; it counts as held until placed or putBack. When
// there is nothing the flush is over.
func (b *backlog) next() (codec.Frame, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.chunks) > 0:
		p := b.chunks[0]
		b.chunks = slices.Delete(b.chunks, 0, 1)
		b.bytes -= len(p) + chunkCost
		return codec.Frame{Kind: codec.KindChunk, Payload: p}, true
	case b.last != nil:
		f := *b.last
		b.last = nil
		return f, true
	}
	b.scheduled, b.chunks = false, nil
	return codec.Frame{}, false
}

// placed is the end of what next gave.
func (b *backlog) placed() {
	b.mu.Lock()
	b.releaseLocked(1)
	b.mu.Unlock()
}

// putBack undoes next: the chunk found no room. It is the oldest, so it is the one that
// is dropped if others have filled the queue meanwhile.
func (b *backlog) putBack(p []byte) (dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := len(p) + chunkCost
	if n := len(b.chunks); b.closed || n > 0 && (n >= b.maxChunks || size > b.maxBytes-b.bytes) {
		b.releaseLocked(1)
		return 1
	}
	b.chunks = slices.Insert(b.chunks, 0, p)
	b.bytes += size
	return 0
}

// holdLast keeps the last frame back if chunks wait that belong before it.
func (b *backlog) holdLast(f codec.Frame) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held.Load() == 0 || b.last != nil {
		return false
	}
	f.Args = bytes.Clone(f.Args)
	b.last = &f
	b.held.Add(1)
	return true
}

// discard drops all that waits, for good, and returns how many chunks that were.
func (b *backlog) discard() (dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	dropped, n := len(b.chunks), len(b.chunks)
	if b.last != nil {
		n++
	}
	b.chunks, b.bytes, b.last, b.closed = nil, 0, nil, true
	b.releaseLocked(n)
	return dropped
}

func (b *backlog) releaseLocked(n int) {
	if b.held.Add(int64(-n)) == 0 && b.empty != nil {
		close(b.empty)
		b.empty = nil
	}
}

// await returns when nothing waits. Any goroutine but the loop.
func (b *backlog) await(ctx context.Context) error {
	for b.waits() {
		if ctx == channel.NoWait {
			return channel.ErrFull
		}
		b.mu.Lock()
		if b.held.Load() == 0 {
			b.mu.Unlock()
			return nil
		}
		if b.empty == nil {
			b.empty = make(chan struct{})
		}
		empty := b.empty
		b.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
