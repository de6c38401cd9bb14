package engine

import (
	"sync"

	"github.com/sluice-rpc/sluice/codec"
)

// maxTailBatch is how many records a subscriber takes under one lock.
const maxTailBatch = 64

// logRing keeps the last records for those who want to see them. It never waits for a
// reader: one that is too slow misses records, and is told how many.
type logRing struct {
	maxRecords int // immutable
	maxBytes   int
	news       bell

	mu      sync.Mutex
	records []logRecord // guarded by mu; the record of number n is at n mod maxRecords
	first   uint64      // number of the oldest, guarded by mu
	next    uint64      // number of the one to come, guarded by mu
	bytes   int         // guarded by mu
}

func (r *logRing) add(l logRecord) {
	r.mu.Lock()
	size := uint64(r.maxRecords)
	for r.first < r.next && (r.next-r.first >= size || r.bytes+len(l.args) > r.maxBytes) {
		r.bytes -= len(r.records[r.first%size].args)
		r.records[r.first%size] = logRecord{}
		r.first++
	}
	if at := r.next % size; at < uint64(len(r.records)) {
		r.records[at] = l
	} else {
		r.records = append(r.records, l) // not yet all around
	}
	r.next++
	r.bytes += len(l.args)
	r.mu.Unlock()
	r.news.ring()
}

// len returns how many records there are.
func (r *logRing) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.next - r.first)
}

// tail is what one subscriber wants to see.
type tail struct {
	ring     *logRing
	source   string
	severity int64
	next     uint64 // number of the first record that was not looked at
	until    uint64 // number of the first record that was not there at the beginning; immutable
	missed   uint64 // records that were gone before, and not told yet

	batch   []numbered // that is sent
	message []byte     // reused
}

// tailFrom returns a tail that begins with the last n records of those it wants.
func (r *logRing) tailFrom(source string, severity int64, n int) *tail {
	t := &tail{ring: r, source: source, severity: severity}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.until = r.next
	for t.next = r.next; n > 0 && t.next > r.first; t.next-- {
		if t.wants(&r.records[(t.next-1)%uint64(r.maxRecords)]) {
			n--
		}
	}
	return t
}

func (t *tail) wants(l *logRecord) bool {
	return l.severity >= t.severity && l.from(t.source)
}

// numbered is a record with its number.
type numbered struct {
	logRecord
	number uint64
}

// take appends to dst records that came since the last take, at most maxTailBatch, and
// reports whether it looked at all of them.
func (t *tail) take(dst []numbered) ([]numbered, bool) {
	r := t.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.next < r.first {
		t.missed += r.first - t.next
		t.next = r.first
	}
	for looked := 0; t.next < r.next && looked < maxTailBatch; looked++ {
		if l := &r.records[t.next%uint64(r.maxRecords)]; t.wants(l) {
			dst = append(dst, numbered{*l, t.next})
		}
		t.next++
	}
	return dst, t.next == r.next
}

// appendTailed appends one message of the stream of tail, as an argument array: [number,
// microseconds since 1970, severity, source, message, [[key, value]...], missed].
func appendTailed(dst []byte, n *numbered, missed uint64) []byte {
	source, message, r := n.read()
	dst = codec.AppendArrayHeader(dst, 7)
	dst = codec.AppendUint(dst, n.number)
	dst = codec.AppendInt(dst, n.at.UnixMicro())
	dst = codec.AppendInt(dst, n.severity)
	dst = codec.AppendRaw(dst, source)
	dst = codec.AppendRaw(dst, message)
	dst = appendTailedAttributes(dst, &r)
	return codec.AppendUint(dst, missed)
}

// appendTailedAttributes appends the list of attributes in the forms that every peer reads,
// whatever forms they came in.
func appendTailedAttributes(dst []byte, r *codec.Reader) []byte {
	if r.Len() == 0 {
		return codec.AppendArrayHeader(dst, 0)
	}
	n := r.ArrayLen()
	dst = codec.AppendArrayHeader(dst, n)
	for range n {
		r.ArrayLen()
		dst = codec.AppendArrayHeader(dst, 2)
		dst = codec.AppendRaw(dst, r.Bytes())
		if r.Peek() == codec.RawValue {
			dst = codec.AppendRaw(dst, r.Bytes())
		} else {
			dst = append(dst, r.Raw()...)
		}
	}
	return dst
}
