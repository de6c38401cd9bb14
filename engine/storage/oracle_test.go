package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var (
	bg    = context.Background()
	quiet = Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
)

// value is what a key has: a blob and tags, or nothing.
type value struct {
	present bool
	blob    string
	tags    string // sorted, with blanks between
}

func (v value) String() string {
	if !v.present {
		return "nothing"
	}
	return fmt.Sprintf("%.20q (%d bytes) tagged %q", v.blob, len(v.blob), v.tags)
}

type name struct{ collection, key string }

var allTags = []string{"a", "b", "c"}

// oracle knows which values each key may have.
type oracle map[name][]value

func (o oracle) of(n name) []value {
	if o[n] == nil {
		o[n] = []value{{}}
	}
	return o[n]
}

// change gives a key a value in the store, and says what it may have from then on. It
// returns the error; if that is nil it is the value only.
func (o oracle) change(s *Store, n name, v value) error {
	before := o.of(n)
	var err error
	if v.present {
		err = s.Write(bg, n.collection, n.key, []byte(v.blob), strings.Fields(v.tags))
	} else {
		err = s.Remove(bg, n.collection, n.key)
	}
	if o[n] = []value{v}; err != nil {
		o[n] = append(o[n], before...)
	}
	return err
}

// check fails the test if a key has a value that it may not have. From now on it may have
// only that.
func (o oracle) check(t testing.TB, s *Store, names []name) {
	t.Helper()
	for _, n := range names {
		v := observe(t, s, n)
		if !slices.Contains(o.of(n), v) {
			t.Fatalf("%v has %v, want one of %v", n, v, o.of(n))
		}
		o[n] = []value{v}
	}
}

func observe(t testing.TB, s *Store, n name) value {
	t.Helper()
	v := readValue(t, s, n)
	var tags []string
	for _, tag := range allTags {
		keys, err := s.Find(bg, n.collection, []string{tag})
		if err != nil {
			t.Fatalf("Find(%q) = %v", tag, err)
		}
		if slices.Contains(keys, n.key) {
			tags = append(tags, tag)
		}
	}
	v.tags = strings.Join(tags, " ")
	return v
}

// readValue returns the value of a key without its tags.
func readValue(t testing.TB, s *Store, n name) value {
	t.Helper()
	blob, err := s.Read(bg, n.collection, n.key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatalf("Read(%v) = %v", n, err)
	}
	return value{present: err == nil, blob: string(blob)}
}

// randomValue returns nothing now and then.
func randomValue(rng *rand.Rand, maxBlob int) value {
	if rng.IntN(5) == 0 {
		return value{}
	}
	var tags []string
	for _, tag := range allTags {
		if rng.IntN(2) == 0 {
			tags = append(tags, tag)
		}
	}
	blob := strings.Repeat(fmt.Sprintf("%08x", rng.Uint32()), 1+maxBlob/8)[:rng.IntN(maxBlob+1)]
	return value{present: true, blob: blob, tags: strings.Join(tags, " ")}
}
