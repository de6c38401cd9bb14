package service

import (
	"fmt"

	"github.com/sluice-rpc/sluice/codec"
)

// Limits of what a peer can make us keep. Each is far above what runtimes send.
const (
	// MaxNameBytes of a service, method, message, group or node.
	MaxNameBytes = 1 << 10
	// MaxEndpoints of one service.
	MaxEndpoints = 256
	// MaxEntries in an update: services of a node, nodes of a cluster, routing groups.
	MaxEntries = 4096
)

// reader is a codec.Reader that can also refuse what was well formed. That error sticks,
// too; but reads go on to return values, so loops ask ok.
type reader struct {
	codec.Reader
	refused error
}

// argsReader reads the items of an argument array.
func argsReader(args []byte) reader { return reader{Reader: codec.NewReader(args)} }

// valueReader reads one value.
func valueReader(value []byte) reader { return reader{Reader: codec.NewValueReader(value)} }

// Err returns the first error of both kinds.
func (r *reader) Err() error {
	if r.refused != nil {
		return r.refused
	}
	return r.Reader.Err()
}

func (r *reader) ok() bool { return r.Err() == nil }

func (r *reader) fail(format string, args ...any) {
	if r.ok() {
		r.refused = fmt.Errorf(format, args...)
	}
}

// list reads the head of an array of at most limit items.
func (r *reader) list(what string, limit int) int { return r.atMost(r.ArrayLen(), what, limit) }

// table reads the head of a map of at most limit pairs.
func (r *reader) table(what string, limit int) int { return r.atMost(r.MapLen(), what, limit) }

func (r *reader) atMost(n int, what string, limit int) int {
	if n > limit {
		r.fail("%d %s, limit %d", n, what, limit)
		return 0
	}
	return n
}

// tuple reads the head of an array of at least want items, and returns how many more
// there are, which are to be skipped behind the others.
func (r *reader) tuple(what string, want int) (surplus int) {
	n := r.ArrayLen()
	if n < want {
		r.fail("%s of %d items, want %d", what, n, want)
		return 0
	}
	return n - want
}

func (r *reader) skip(n int) {
	for ; n > 0 && r.ok(); n-- {
		r.Skip()
	}
}

// name reads and copies a string of 1 to MaxNameBytes bytes.
func (r *reader) name(what string) string { return string(r.rawName(what)) }

// rawName is name, borrowed.
func (r *reader) rawName(what string) []byte {
	b := r.Bytes()
	if err := checkName(what, len(b)); err != nil {
		r.fail("%w", err)
		return nil
	}
	return b
}

// checkName returns what is wrong with a name of that many bytes.
func checkName(what string, bytes int) error {
	switch {
	case bytes == 0:
		return fmt.Errorf("empty %s", what)
	case bytes > MaxNameBytes:
		return fmt.Errorf("%s of %d bytes, limit %d", what, bytes, MaxNameBytes)
	}
	return nil
}

// number reads an integer of 0..most.
func (r *reader) number(what string, most uint64) uint64 {
	n := r.Uint64()
	if n > most {
		r.fail("%s %d, limit %d", what, n, most)
		return 0
	}
	return n
}

// end fails if anything is left.
func (r *reader) end() {
	if n := len(r.Rest()); n > 0 {
		r.fail("%d bytes behind the value", n)
	}
}

// done returns what was read, or else the error, wrapped with what it was to be.
func done[T any](r *reader, what string, value T) (T, error) {
	if err := r.Err(); err != nil {
		var zero T
		return zero, fmt.Errorf("service: %s: %w", what, err)
	}
	return value, nil
}
