package session

const (
	// maxRing bounds the dense part of ids. Numbers are given in sequence, so live ones
	// lie close together; one that lives on while thousands come and go moves to a map.
	maxRing  = 4096
	keepRing = 64 // an empty table keeps a ring of at most this
)

// ids finds sessions by number. The live ones lie in a ring of a power of two, grown
// when first needed, at number modulo length: one index and one comparison, no hash.
type ids struct {
	ring  []*Session
	far   map[uint64]*Session
	count int
}

func (t *ids) get(id uint64) *Session {
	if len(t.ring) == 0 {
		return nil
	}
	if s := t.ring[id&uint64(len(t.ring)-1)]; s != nil && s.id == id {
		return s
	}
	if t.far == nil {
		return nil
	}
	return t.far[id]
}

// put adds a session whose number is not in the table.
func (t *ids) put(s *Session) {
	t.count++
	if len(t.ring) == 0 {
		t.ring = make([]*Session, 8)
	}
	for {
		at := &t.ring[s.id&uint64(len(t.ring)-1)]
		old := *at
		if old == nil {
			*at = s
			return
		}
		// Two live numbers share a place: the ring is shorter than their distance.
		if len(t.ring) < maxRing && t.count*2 > len(t.ring)/4 {
			t.grow()
			continue
		}
		if t.far == nil {
			t.far = make(map[uint64]*Session)
		}
		t.far[old.id] = old // the older one is the odd one out
		*at = s
		return
	}
}

// grow doubles the ring. Numbers that differ modulo the old length differ modulo the
// new one, so nothing collides.
func (t *ids) grow() {
	old := t.ring
	t.ring = make([]*Session, len(old)*2)
	for _, s := range old {
		if s != nil {
			t.ring[s.id&uint64(len(t.ring)-1)] = s
		}
	}
}

func (t *ids) del(id uint64) {
	if len(t.ring) > 0 {
		if at := &t.ring[id&uint64(len(t.ring)-1)]; *at != nil && (*at).id == id {
			*at = nil
			t.count--
			t.shrink()
			return
		}
	}
	if _, ok := t.far[id]; ok {
		delete(t.far, id)
		t.count--
		t.shrink()
	}
}

// shrink lets go of what a burst made large once it is empty.
func (t *ids) shrink() {
	if len(t.far) == 0 {
		t.far = nil
	}
	if t.count == 0 && len(t.ring) > keepRing {
		t.ring = nil
	}
}

// all returns the sessions, in no order.
func (t *ids) all() []*Session {
	list := make([]*Session, 0, t.count)
	for _, s := range t.ring {
		if s != nil {
			list = append(list, s)
		}
	}
	for _, s := range t.far {
		list = append(list, s)
	}
	return list
}
