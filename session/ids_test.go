package session

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluice-rpc/sluice/internal/invariants"
)

// idsModel drives ids and a map side by side.
type idsModel struct {
	t    *testing.T
	ids  ids
	want map[uint64]*Session
	live []uint64 // the keys of want, ascending
	next uint64
}

func (m *idsModel) open(gap uint64) {
	m.next += 1 + gap
	s := &Session{id: m.next}
	m.ids.put(s)
	m.want[m.next] = s
	m.live = append(m.live, m.next)
}

func (m *idsModel) close(i int) {
	id := m.live[i]
	m.ids.del(id)
	delete(m.want, id)
	m.live = slices.Delete(m.live, i, i+1)
}

// check looks up every live number, and dead ones around.
func (m *idsModel) check() {
	m.t.Helper()
	if m.ids.count != len(m.want) {
		m.t.Fatalf("count = %d, want %d", m.ids.count, len(m.want))
	}
	for id, s := range m.want {
		if got := m.ids.get(id); got != s {
			m.t.Fatalf("get(%d) = %v, want the session", id, got)
		}
		for _, other := range []uint64{id + 1, id - 1, id + 8, id + 4096, id + 1<<40, 0} {
			if got := m.ids.get(other); got != m.want[other] {
				m.t.Fatalf("get(%d) = %v, want %v", other, got, m.want[other])
			}
		}
	}
	list := m.ids.all()
	seen := make(map[uint64]bool, len(list))
	for _, s := range list {
		seen[s.id] = true
	}
	if len(list) != len(m.want) || len(seen) != len(m.want) {
		m.t.Fatalf("all() has %d sessions, %d different, want %d", len(list), len(seen), len(m.want))
	}
	if n := len(m.ids.ring); n > maxRing {
		m.t.Fatalf("the ring has %d places, want at most %d", n, maxRing)
	}
}

// TestIDs: schedules of every temper against a map.
func TestIDs(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		m := &idsModel{t: t, want: map[uint64]*Session{}, next: r.Uint64N(1 << (1 + r.IntN(60)))}
		most := 1 << r.IntN(14)  // live at once
		long := r.IntN(3)        // how many live on and on
		gaps := 1 << r.IntN(6)   // between numbers
		burst := 1 + r.IntN(300) // opened or closed at a time
		for round := range 60 {
			for range r.IntN(burst) {
				if len(m.live) < most {
					m.open(uint64(r.IntN(gaps)))
				}
			}
			for range r.IntN(burst) {
				if len(m.live) > long {
					m.close(long + r.IntN(len(m.live)-long)) // the oldest live longest
				}
			}
			if round%10 == 9 {
				m.check()
			}
			if m.ids.get(m.next+1) != nil || m.ids.get(1<<64-1) != nil {
				t.Fatal("get() of a number that was never given")
			}
			m.ids.del(m.next + 1) // takes nothing away
		}
		m.check()
		for len(m.live) > 0 {
			m.close(r.IntN(len(m.live)))
		}
		m.check()
		if len(m.ids.ring) > keepRing || m.ids.far != nil {
			t.Errorf("seed %d: an empty table keeps %d places and %d far ones", seed, len(m.ids.ring), len(m.ids.far))
		}
	}
}

// TestIDsRing: numbers in sequence need no map, whatever their first; one that lives on
// costs one place in it.
func TestIDsRing(t *testing.T) {
	for _, open := range []int{1, 2, 64, 1000, 4096} {
		m := &idsModel{t: t, want: map[uint64]*Session{}, next: 1<<63 - 100}
		for range open {
			m.open(0)
		}
		for range 3 * open {
			m.close(0)
			m.open(0)
		}
		if len(m.ids.far) != 0 || len(m.ids.ring) > max(8, 8*open) {
			t.Errorf("%d in sequence: %d places and %d far ones", open, len(m.ids.ring), len(m.ids.far))
		}
		m.check()
	}
	m := &idsModel{t: t, want: map[uint64]*Session{}}
	m.open(0)
	for range 100_000 {
		m.open(0)
		m.close(1)
	}
	if len(m.ids.far) > 1 || len(m.ids.ring) > 64 {
		t.Errorf("one that lives on: %d places and %d far ones, want a small ring", len(m.ids.ring), len(m.ids.far))
	}
	m.check()
}

// TestIDsAllocs: a steady table allocates nothing, and a session costs at most what a
// map would.
func TestIDsAllocs(t *testing.T) {
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	for _, open := range []int{1, 100, 3000} {
		var table ids
		table.put(&Session{id: 1}) // one that lives on
		next := uint64(2)
		list := make([]*Session, 0, open)
		for range open {
			s := &Session{id: next}
			next++
			table.put(s)
			list = append(list, s)
		}
		at := 0
		if n := testing.AllocsPerRun(10_000, func() {
			s := list[at]
			table.del(s.id)
			s.id = next
			next++
			table.put(s)
			if table.get(s.id) != s {
				t.Fatal("get() lost a session")
			}
			at = (at + 1) % open
		}); n != 0 {
			t.Errorf("%d open: %v allocations for a session that comes and goes, want 0", open, n)
		}
	}
}

// TestIDsMany: a hundred thousand live sessions are all found, most of them by the map; the
// ring does not grow with them.
func TestIDsMany(t *testing.T) {
	const open = 100_000
	var table ids
	s := make([]Session, open)
	for i := range s {
		s[i].id = uint64(i + 1)
		table.put(&s[i])
	}
	if len(table.ring) > maxRing || table.count != open {
		t.Errorf("a ring of %d for %d sessions, want at most %d for %d", len(table.ring), table.count, maxRing, open)
	}
	for i := range s {
		if table.get(s[i].id) != &s[i] {
			t.Fatalf("get(%d) is not its session", s[i].id)
		}
	}
}

func BenchmarkIDs(b *testing.B) {
	const open = 1000
	s := make([]Session, open)
	b.Run("ring", func(b *testing.B) {
		var table ids
		for i := range s {
			s[i].id = uint64(i)
			table.put(&s[i])
		}
		next := uint64(open)
		for b.Loop() {
			one := &s[next%open]
			table.del(one.id)
			one.id = next
			table.put(one)
			if table.get(next-open/2) == nil {
				b.Fatal("lost")
			}
			next++
		}
	})
	b.Run("map", func(b *testing.B) {
		table := map[uint64]*Session{}
		for i := range s {
			s[i].id = uint64(i)
			table[s[i].id] = &s[i]
		}
		next := uint64(open)
		for b.Loop() {
			one := &s[next%open]
			delete(table, one.id)
			one.id = next
			table[next] = one
			if table[next-open/2] == nil {
				b.Fatal("lost")
			}
			next++
		}
	})
}
