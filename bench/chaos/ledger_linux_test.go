package chaos

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
)

// collection has everything that the load writes.
const collection = "chaos"

// ledger knows what was written: each key has one writer, who counts its values from 1.
type ledger struct {
	mu   sync.Mutex // guards keys
	keys map[string]entry
}

// entry is what is known of a key: the last value that was tried, and the last one that
// the storage acknowledged. What is stored is one from acked to tried.
type entry struct{ tried, acked int }

func newLedger() *ledger { return &ledger{keys: make(map[string]entry)} }

func (l *ledger) note(key string, n int, acked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.keys[key]
	e.tried = max(e.tried, n)
	if acked {
		e.acked = max(e.acked, n)
	}
	l.keys[key] = e
}

func (l *ledger) entry(key string) entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys[key]
}

// sorted returns all keys in order.
func (l *ledger) sorted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := make([]string, 0, len(l.keys))
	for k := range l.keys {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// acked counts the keys that have to be there, and the values that were acknowledged.
func (l *ledger) acked() (keys, values int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.keys {
		if e.acked > 0 {
			keys++
			values += e.acked
		}
	}
	return keys, values
}

// maxBlobBytes of a value.
const maxBlobBytes = 12 << 10

// blobOf returns value number n of a key. Whatever is torn in it shows.
func blobOf(key string, n int) []byte {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	r := rand.New(rand.NewPCG(h.Sum64(), uint64(n)))
	blob := fmt.Appendf(nil, "%s %d\n", key, n)
	for range r.IntN(maxBlobBytes / 8) {
		blob = fmt.Appendf(blob, "%08x", r.Uint32())
	}
	return blob
}

// numberOf returns which value of a key a blob is. The error says that it is none.
func numberOf(key string, blob []byte) (int, error) {
	var name string
	var n int
	if _, err := fmt.Sscanf(string(blob[:min(len(blob), len(key)+24)]), "%s %d\n", &name, &n); err != nil || name != key {
		return 0, fmt.Errorf("%q has %d bytes that begin with %.40q", key, len(blob), blob)
	}
	if !bytes.Equal(blob, blobOf(key, n)) {
		return 0, fmt.Errorf("%q has a torn value %d of %d bytes", key, n, len(blob))
	}
	return n, nil
}
