package session

import (
	"context"
	"io"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/internal/invariants"
)

const (
	keepBatch = 256 << 10 // larger batches are dropped when they were read
	chunkCost = 16        // bytes that a chunk counts for beside its own
)

// batch is a run of chunks in one buffer.
type batch struct {
	data  []byte
	ends  []int
	slots []*Slot // of each, if their session is mixed
	at    int     // the next one to be read
}

func (b *batch) add(p []byte, slot *Slot) {
	b.data = append(b.data, p...)
	b.ends = append(b.ends, len(b.data))
	if slot != nil {
		b.slots = append(b.slots, slot)
	}
}

// next returns the next chunk, which is dead at the next call. When there is none left
// the buffer is ready for reuse.
func (b *batch) next() ([]byte, bool) {
	from := 0
	if b.at > 0 {
		from = b.ends[b.at-1]
	}
	if invariants.Enabled && b.at > 0 {
		before := 0
		if b.at > 1 {
			before = b.ends[b.at-2]
		}
		invariants.Poison(b.data[before:from])
	}
	if b.at == len(b.ends) {
		b.data, b.ends, b.slots, b.at = b.data[:0], b.ends[:0], b.slots[:0], 0
		if cap(b.data) > keepBatch {
			b.data = nil
		}
		return nil, false
	}
	to := b.ends[b.at]
	b.at++
	return b.data[from:to:to], true
}

// inbox hands chunks from the loop to one reading goroutine. The loop fills one batch
// while the reader empties the other: one short lock a batch, not one a chunk.
type inbox struct {
	drain batch        // owned by the reader
	left  atomic.Int64 // bytes that wait in both batches, chunkCost for each chunk included
	full  atomic.Bool  // the loop stops reading until left has fallen

	mu    sync.Mutex // guards the following; no user code runs under it
	fill  batch
	ended error         // what the reader gets behind the last chunk
	wait  chan struct{} // one slot; made by the first reader that waits
}

// put adds a copy of p and reports whether the inbox is then full. On the loop.
func (in *inbox) put(p []byte, slot *Slot, limit int) (full bool) {
	in.mu.Lock()
	in.fill.add(p, slot)
	in.signalLocked()
	in.mu.Unlock()
	if in.left.Add(int64(len(p)+chunkCost)) < int64(limit) {
		return false
	}
	in.full.Store(true)
	if in.left.Load() <= roomAt(limit) { // the reader was faster, and may not have seen full
		in.full.Store(false)
		return false
	}
	return true
}

// roomAt is where a full inbox is no longer full: a quarter below its limit. The peer
// sees progress that often, and not only when the whole inbox has been read.
func roomAt(limit int) int64 { return int64(limit - limit/4) }

// took accounts for a chunk that was taken and reports whether reading can go on.
func (in *inbox) took(p []byte, limit int) (resume bool) {
	return in.left.Add(-int64(len(p)+chunkCost)) <= roomAt(limit) && in.full.Load() && in.full.CompareAndSwap(true, false)
}

// end has the reader get err behind the last chunk; only the first err counts.
func (in *inbox) end(err error) {
	in.mu.Lock()
	if in.ended == nil {
		in.ended = err
	}
	in.signalLocked()
	in.mu.Unlock()
}

// close drops what the reader has not begun with, and ends the inbox.
func (in *inbox) close() {
	in.mu.Lock()
	in.left.Add(-int64(len(in.fill.data) + chunkCost*len(in.fill.ends)))
	in.fill = batch{}
	if in.ended == nil {
		in.ended = io.EOF
	}
	in.signalLocked()
	in.mu.Unlock()
}

func (in *inbox) signalLocked() {
	if in.wait == nil {
		return
	}
	select {
	case in.wait <- struct{}{}:
	default:
	}
}

// take returns the next chunk, lent until the next take; or a channel to wait on; or
// what ended the inbox.
func (in *inbox) take() (p []byte, wait chan struct{}, err error) {
	if p, ok := in.drain.next(); ok {
		return p, nil, nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case len(in.fill.ends) > 0:
		in.fill, in.drain = in.drain, in.fill
		p, _ = in.drain.next()
		return p, nil, nil
	case in.ended != nil:
		return nil, nil, in.ended
	case in.wait == nil:
		in.wait = make(chan struct{}, 1)
	}
	return nil, in.wait, nil
}

// slot returns the place in the graph of what take last returned, for a mixed session.
func (in *inbox) slot() *Slot { return in.drain.slots[in.drain.at-1] }

// RecvMessage is Recv for a session whose peer may send more than one kind of message: it
// also returns which one it is. For the stock graphs, where Recv says it all, slot is nil.
func (s *Session) RecvMessage(ctx context.Context) (slot *Slot, p []byte, err error) {
	p, err = s.Recv(ctx)
	if err == nil && s.mixed {
		slot = s.in.slot()
	}
	return slot, p, err
}

// Recv waits for the next chunk of the peer. The chunk is lent: dead at the next Recv.
// The error is io.EOF after the peer's choke, an *Error if the peer failed the session
// or it was cut here, or the cause of ctx; a chunk that is there beats a ctx that is
// done. For a primitive call the chunk is the whole argument array of the value. Any
// goroutine but the loop, one at a time.
func (s *Session) Recv(ctx context.Context) ([]byte, error) {
	for over := false; ; {
		p, wait, err := s.in.take()
		switch {
		case err != nil:
			return nil, err
		case wait == nil:
			s.took(p)
			return p, nil
		case over:
			return nil, context.Cause(ctx)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			over = true // after one last look
		}
	}
}

// took accounts for a chunk that the reader has got.
func (s *Session) took(p []byte) {
	s.read(len(p))
	if s.in.took(p, s.t.cfg.InboxBytes) {
		s.t.ch.Post(s.unpark)
	}
}

// TryRecv is Recv without waiting: ok says that there was a chunk. Without one err is nil
// while more may come, and else what Recv would return: io.EOF, or why the session was
// cut. Ownership as for Recv. Any goroutine, one at a time with Recv.
func (s *Session) TryRecv() (p []byte, ok bool, err error) {
	p, wait, err := s.in.take()
	if err != nil || wait != nil {
		return nil, false, err
	}
	s.took(p)
	return p, true, nil
}

// TryRecvMessage is TryRecv with the slot of RecvMessage.
func (s *Session) TryRecvMessage() (slot *Slot, p []byte, ok bool, err error) {
	if p, ok, err = s.TryRecv(); ok && s.mixed {
		slot = s.in.slot()
	}
	return slot, p, ok, err
}

// Chunks ranges over the chunks of the peer until its choke. An error ends the range
// and comes with a nil chunk. Ownership and goroutines as for Recv.
func (s *Session) Chunks(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			p, err := s.Recv(ctx)
			if err == io.EOF {
				return
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// Reader returns an io.Reader over the peer's chunks, for one goroutine. Chunk borders
// are not kept.
func (s *Session) Reader(ctx context.Context) io.Reader { return &reader{s: s, ctx: ctx} }

type reader struct {
	s    *Session
	ctx  context.Context
	rest []byte // lent by Recv
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && len(p) > 0 {
		var err error
		if r.rest, err = r.s.Recv(r.ctx); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
