package channel

import (
	"cmp"
	"slices"
	"time"
)

// pairLane is one direction of a link: a path of the script and the bytes on it.
// Guarded by the link.
type pairLane struct {
	capacity int // negative: no limit
	latency  time.Duration
	slices   []int
	stalls   []Stall // those that are not over, by offset
	cut      Cut

	ring      pairRing // written and not read; the first ready bytes are due
	ready     int
	flight    []pairFlight // the other bytes, by time
	delivered int64
	sliced    int // reads so far

	short    bool          // the writer met a full lane
	stalled  bool          // stalls[0] is on
	stallEnd time.Duration // of stalls[0]

	fin, leaves bool // the writer ended; closed its end altogether
	finAt       time.Duration
	leavesAt    time.Duration
	ended, left bool // the same, as the other end knows
}

// pairFlight is bytes of one write that become readable together.
type pairFlight struct {
	n  int
	at time.Duration
}

func (l *pairLane) init(p Path) {
	l.capacity = p.CapacityBytes
	if l.capacity == 0 {
		l.capacity = defaultPairCapacity
	}
	l.latency = max(p.Latency, 0)
	l.slices = slices.Clone(p.SliceBytes)
	l.stalls = slices.Clone(p.Stalls)
	slices.SortStableFunc(l.stalls, func(a, b Stall) int { return cmp.Compare(a.At, b.At) })
	l.cut = p.Cut
}

// write takes what there is room for.
func (l *pairLane) write(p []byte, now time.Duration) int {
	if l.capacity >= 0 {
		p = p[:min(len(p), l.capacity-l.ring.n)]
	}
	switch n := len(p); {
	case n == 0:
	case l.latency == 0:
		l.ready += n
	default:
		l.flight = append(l.flight, pairFlight{n, later(now, l.latency)})
	}
	l.ring.write(p, l.capacity)
	return len(p)
}

// read hands out at most one slice of what is readable.
func (l *pairLane) read(p []byte) int {
	n := min(len(p), l.readable())
	if n > 0 && len(l.slices) > 0 {
		if s := l.slices[l.sliced%len(l.slices)]; s > 0 {
			n = min(n, s)
		}
		l.sliced++
	}
	l.ring.read(p[:n])
	l.ready -= n
	l.delivered += int64(n)
	if l.ring.n == 0 && len(l.ring.buf) > max(l.capacity, defaultPairCapacity) {
		l.ring = pairRing{} // a lane without limit keeps no peak
	}
	return n
}

// readable counts the bytes before the next thing that stops delivery. The lane is
// settled: no stall or cut lies behind delivered.
func (l *pairLane) readable() int {
	if l.stalled || l.ended {
		return 0
	}
	n := int64(l.ready)
	if len(l.stalls) > 0 {
		n = min(n, l.stalls[0].At-l.delivered)
	}
	if l.cut.Kind != NoCut {
		n = min(n, l.cut.At-l.delivered)
	}
	return int(n)
}

func (l *pairLane) atCut() bool { return l.cut.Kind != NoCut && l.delivered >= l.cut.At }

// finish ends the writer's stream; leave says that its whole end is closed.
func (l *pairLane) finish(now time.Duration, leave bool) {
	at := later(now, l.latency)
	if !l.fin {
		l.fin, l.finAt = true, at
	}
	if leave {
		l.leaves, l.leavesAt = true, at
	}
}

// advance does what is due and reports whether the reading end should look.
func (l *pairLane) advance(now time.Duration) (changed bool) {
	due := 0
	for due < len(l.flight) && l.flight[due].at <= now {
		l.ready += l.flight[due].n
		due++
	}
	l.flight = l.flight[due:]
	changed = l.passStalls(now) || due > 0
	if l.stalled {
		return changed
	}
	if !l.ended && (l.atCut() || l.fin && l.finAt <= now && l.ring.n == 0) {
		l.ended, changed = true, true
	}
	if !l.left && l.leaves && l.leavesAt <= now {
		l.left, changed = true, true
	}
	return changed
}

// passStalls begins the stalls that delivery has come to, and ends those whose time is
// over.
func (l *pairLane) passStalls(now time.Duration) (ended bool) {
	for len(l.stalls) > 0 && l.stalls[0].At <= l.delivered {
		if !l.stalled {
			l.stalled, l.stallEnd = true, later(now, l.stalls[0].For)
		}
		if l.stallEnd > now {
			return ended
		}
		l.stalls = l.stalls[1:]
		l.stalled, ended = false, true
	}
	return ended
}

// next is when time alone changes this lane again.
func (l *pairLane) next(now time.Duration) time.Duration {
	next := pairForever
	if len(l.flight) > 0 {
		next = l.flight[0].at
	}
	if l.stalled {
		next = min(next, l.stallEnd)
	}
	if l.fin && l.finAt > now {
		next = min(next, l.finAt)
	}
	if l.leaves && l.leavesAt > now {
		next = min(next, l.leavesAt)
	}
	return next
}

// drop forgets the bytes on the lane.
func (l *pairLane) drop() {
	l.ring, l.ready, l.flight = pairRing{}, 0, nil
}

// later is d after now; a negative d, or one too large to add, is never.
func later(now, d time.Duration) time.Duration {
	if d < 0 || d > pairForever-now {
		return pairForever
	}
	return now + d
}

// pairRing is a queue of bytes that grows as needed.
type pairRing struct {
	buf  []byte
	head int // the first byte
	n    int
}

// write appends p. The ring never outgrows limit, unless that is negative.
func (r *pairRing) write(p []byte, limit int) {
	if r.n+len(p) > len(r.buf) {
		size := max(2*len(r.buf), r.n+len(p), 512)
		if limit >= 0 {
			size = min(size, limit)
		}
		bigger, n := make([]byte, size), r.n
		r.read(bigger[:n])
		*r = pairRing{buf: bigger, n: n}
	}
	tail := r.head + r.n
	if tail >= len(r.buf) {
		tail -= len(r.buf)
	}
	copy(r.buf, p[copy(r.buf[tail:], p):])
	r.n += len(p)
}

// read takes len(p) bytes, which must be there.
func (r *pairRing) read(p []byte) {
	first := copy(p, r.buf[r.head:])
	copy(p[first:], r.buf)
	if r.n -= len(p); r.n == 0 {
		r.head = 0
		return
	}
	if r.head += len(p); r.head >= len(r.buf) {
		r.head -= len(r.buf)
	}
}
