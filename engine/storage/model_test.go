package storage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestModel does at random what can be done, in a real directory and in memory, opens it
// anew now and then, and compares with a map.
func TestModel(t *testing.T) {
	t.Run("disk", func(t *testing.T) {
		dir := t.TempDir()
		testModel(t, 1, 400, func(*Store) (*Store, error) { return Open(dir, quiet) })
	})
	t.Run("memory", func(t *testing.T) {
		for seed := range uint64(20) {
			dir := newMemDir()
			testModel(t, seed, 1000, func(*Store) (*Store, error) { return open("mem", dir, quiet) })
		}
	})
	t.Run("power", func(t *testing.T) { // what was acknowledged is there after any loss of power
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 1))
			dir := newMemDir()
			testModel(t, seed, 1000, func(*Store) (*Store, error) {
				dir = dir.crash(rng)
				return open("mem", dir, quiet)
			})
		}
	})
}

func testModel(t *testing.T, seed uint64, steps int, open func(old *Store) (*Store, error)) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	names := make([]name, 0, 12)
	for i := range cap(names) {
		names = append(names, name{fmt.Sprint("c", i%2), fmt.Sprint("k", i/2)})
	}
	want := oracle{}
	s, err := open(nil)
	for range steps {
		if err != nil {
			t.Fatalf("open = %v", err)
		}
		n := names[rng.IntN(len(names))]
		switch rng.IntN(10) {
		default:
			if err := want.change(s, n, randomValue(rng, 5000)); err != nil {
				t.Fatalf("change of %v = %v", n, err)
			}
		case 6, 7:
			want.check(t, s, []name{n})
		case 8:
			checkFind(t, s, want, names, rng)
		case 9:
			if rng.IntN(5) == 0 {
				if err := s.Close(); err != nil {
					t.Fatalf("Close() = %v", err)
				}
				s, err = open(s)
			}
		}
	}
	want.check(t, s, names)
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
}

// checkFind asks for a random set of tags. The values must be known.
func checkFind(t *testing.T, s *Store, o oracle, names []name, rng *rand.Rand) {
	t.Helper()
	var tags []string
	for range 1 + rng.IntN(3) {
		tags = append(tags, allTags[rng.IntN(len(allTags))])
	}
	var want []string
	for _, n := range names {
		v := o.of(n)[0]
		has := func(tag string) bool { return slices.Contains(strings.Fields(v.tags), tag) }
		if n.collection == "c1" && !slices.ContainsFunc(tags, func(tag string) bool { return !has(tag) }) {
			want = append(want, n.key)
		}
	}
	slices.Sort(want)
	got, err := s.Find(bg, "c1", tags)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("Find(%q) = %q, %v, want %q", tags, got, err, want)
	}
}
