package service

import (
	"log/slog"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// keepLogBytes is how large a buffer of a Logger may be to be used again.
const keepLogBytes = 256 << 10

// logEntry is what is known of a record besides its bytes.
type logEntry struct {
	at     time.Time // the record's own, may be zero
	queued time.Time
	level  slog.Level
	size   int // of its arguments
}

// logQueue holds encoded records, the oldest first. Its owner guards it.
type logQueue struct {
	buf     []byte // arguments of one record behind those of another
	from    int    // where the oldest begins
	entries []logEntry
	first   int // which is the oldest
}

func (q *logQueue) len() int   { return len(q.entries) - q.first }
func (q *logQueue) bytes() int { return len(q.buf) - q.from }

// head returns the oldest record, which there is. The bytes are good until the next push.
func (q *logQueue) head() (logEntry, []byte) {
	e := q.entries[q.first]
	return e, q.buf[q.from : q.from+e.size]
}

// pop forgets the oldest record.
func (q *logQueue) pop() {
	q.from += q.entries[q.first].size
	q.entries[q.first] = logEntry{}
	q.first++
	if q.first == len(q.entries) {
		q.clear()
	}
}

// clear forgets all records, and memory that few would need again.
func (q *logQueue) clear() {
	if cap(q.buf) > keepLogBytes {
		q.buf, q.entries = nil, nil
	}
	q.buf, q.entries = q.buf[:0], q.entries[:0]
	q.from, q.first = 0, 0
}

// room makes the memory of what was popped usable again, each byte of it once.
func (q *logQueue) room() {
	if q.first > len(q.entries)/2 {
		n := copy(q.entries, q.entries[q.first:])
		clear(q.entries[n:])
		q.entries, q.first = q.entries[:n], 0
		q.buf, q.from = q.buf[:copy(q.buf, q.buf[q.from:])], 0
	}
}

// push adds a record whose arguments are in pieces.
func (q *logQueue) push(e logEntry, r *logRecord) {
	q.room()
	before := len(q.buf)
	q.buf = r.appendArgs(q.buf)
	e.size = len(q.buf) - before
	q.entries = append(q.entries, e)
}

// moveTo moves the oldest records to an empty queue: at most so many, and no more than
// fit into so many bytes, but one.
func (q *logQueue) moveTo(to *logQueue, records, bytes int) {
	for q.len() > 0 && to.len() < records {
		e, args := q.head()
		if to.len() > 0 && to.bytes()+len(args) > bytes {
			return
		}
		to.buf = append(to.buf, args...)
		to.entries = append(to.entries, e)
		q.pop()
	}
}

// logRecord is a record in pieces, all of them borrowed.
type logRecord struct {
	severity int
	source   string
	message  []byte
	attrs    int // how many there are in base and own; 0 in v0
	base     []byte
	own      []byte
}

// size returns a number of bytes that the arguments do not exceed.
func (r *logRecord) size() int {
	const heads = 1 + 9 + 5 + 5 + 5
	return heads + len(r.source) + len(r.message) + len(r.base) + len(r.own)
}

// appendArgs appends the arguments of emit: [severity, source, message] and, if there are
// any, the attributes [[key, value]...] (protocol: logging).
func (r *logRecord) appendArgs(dst []byte) []byte {
	n := 3
	if r.attrs > 0 {
		n = 4
	}
	dst = codec.AppendInt(codec.AppendArrayHeader(dst, n), int64(r.severity))
	dst = codec.AppendRaw(codec.AppendString(dst, r.source), r.message)
	if r.attrs == 0 {
		return dst
	}
	dst = codec.AppendArrayHeader(dst, r.attrs)
	return append(append(dst, r.base...), r.own...)
}

// decodeLog reads the arguments of emit, of either version, which must be ours.
func decodeLog(args []byte) (source, message string, attrs []slog.Attr, err error) {
	r := argsReader(args)
	n := r.Len()
	r.Int64()
	source, message = r.String(), r.String()
	if n > 3 {
		for pairs := r.list("attributes", MaxLogAttrs); pairs > 0 && r.ok(); pairs-- {
			r.skip(r.tuple("attribute", 2))
			attrs = append(attrs, slog.Any(r.String(), r.attrValue()))
		}
	}
	return source, message, attrs, r.Err()
}

// attrValue reads a value of one of the kinds that attributes have.
func (r *reader) attrValue() any {
	switch r.Peek() {
	case codec.RawValue:
		return r.String()
	case codec.FloatValue:
		return r.Float64()
	case codec.UintValue:
		return r.Uint64()
	case codec.IntValue:
		return r.Int64()
	case codec.BoolValue:
		return r.Bool()
	}
	r.fail("attribute of kind %v", r.Peek())
	return nil
}
