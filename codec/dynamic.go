package codec

// The size of the dynamic table, as the C++ runtime counts it (and RFC 7541): an
// entry takes the bytes of name and value and 32 more.
const (
	tableCapacity = 4096
	entryOverhead = 32
	maxEntries    = tableCapacity / entryOverhead
)

// dynamicTable is the part of the header table that the peer fills: a queue of
// headers, with its own copy of their bytes.
type dynamicTable struct {
	// data holds the entries in the order they came. One that does not fit at the
	// end goes to the beginning: data being twice the capacity, all entries that
	// were there are long gone.
	data    [2 * tableCapacity]byte
	next    int // where in data the next entry goes
	entries [maxEntries]tableEntry
	oldest  int // its place in entries, which is a ring
	count   int
	size    int // of all entries, with overhead
}

// tableEntry is where an entry lies in data: [from:value] is the name, [value:to]
// the value.
type tableEntry struct{ from, value, to uint16 }

// at returns entry i, 0 being the newest, or false if there is none. The bytes are
// good until the next insert.
func (t *dynamicTable) at(i uint64) (Header, bool) {
	if t == nil || i >= uint64(t.count) {
		return Header{}, false
	}
	e := t.entries[(t.oldest+t.count-1-int(i))%maxEntries]
	return Header{
		Name:  cut(t.data[:], int(e.from), int(e.value)),
		Value: cut(t.data[:], int(e.value), int(e.to)),
	}, true
}

// insert makes a copy of h the newest entry, and drops the oldest until it fits. If
// it never fits, all are gone and it is not kept. h must not lie in the table.
func (t *dynamicTable) insert(h Header) {
	n := len(h.Name) + len(h.Value)
	if n > tableCapacity-entryOverhead {
		t.count, t.size = 0, 0
		return
	}
	for t.size+n+entryOverhead > tableCapacity {
		t.drop()
	}
	if t.next+n > len(t.data) {
		t.next = 0
	}
	value := t.next + copy(t.data[t.next:], h.Name)
	to := value + copy(t.data[value:], h.Value)
	t.entries[(t.oldest+t.count)%maxEntries] = tableEntry{uint16(t.next), uint16(value), uint16(to)}
	t.next = to
	t.count++
	t.size += n + entryOverhead
}

// drop removes the oldest entry.
func (t *dynamicTable) drop() {
	e := t.entries[t.oldest]
	t.oldest = (t.oldest + 1) % maxEntries
	t.count--
	t.size -= int(e.to-e.from) + entryOverhead
}
