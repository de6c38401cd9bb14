package storage

import (
	"slices"
	"strings"
	"sync"
)

// What the index takes, in bytes, besides the names: with what maps of Go need, measured
// by TestIndexMemory.
const (
	groupCost = 640 // a collection
	entryCost = 160 // a key with tags
	refCost   = 48  // a tag of a key
	tagCost   = 320 // a distinct tag of a collection
)

// index knows the keys that have tags. Safe from any goroutine.
type index struct {
	mu     sync.RWMutex
	groups map[string]*group // by collection; guarded by mu, with all below
	keys   int
	tags   int
	bytes  int64
}

// group is the index of one collection. It has at least one key.
type group struct {
	entries map[string]*entry
	tags    map[string]*tag
}

// entry is a key. It has at least one tag.
type entry struct {
	key  string
	tags []*tag
}

// tag is a tag. At least one key has it.
type tag struct {
	name    string
	entries map[*entry]struct{}
}

// fits reports whether put with the same record leaves the index within limit, or at
// least no larger than it is.
func (x *index) fits(r *record, limit int64) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var growth int64
	g := x.groups[r.collection]
	if g == nil {
		g = &group{}
		growth += groupCost + int64(len(r.collection))
	}
	if e := g.entries[r.key]; e != nil {
		growth -= refCost * int64(len(e.tags))
	} else {
		growth += entryCost + int64(len(r.key))
	}
	for _, name := range r.tags {
		growth += refCost
		if g.tags[name] == nil {
			growth += tagCost + int64(len(name))
		}
	}
	return len(r.tags) == 0 || growth <= 0 || growth <= limit-x.bytes
}

// put has a key have the record's tags and no others.
func (x *index) put(r *record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropLocked(r.collection, r.key)
	if len(r.tags) == 0 {
		return
	}
	g := x.groups[r.collection]
	if g == nil {
		g = &group{entries: make(map[string]*entry), tags: make(map[string]*tag)}
		if x.groups == nil {
			x.groups = make(map[string]*group)
		}
		x.groups[strings.Clone(r.collection)] = g
		x.bytes += groupCost + int64(len(r.collection))
	}
	// Names are cloned: they may be part of something large.
	e := &entry{key: strings.Clone(r.key), tags: make([]*tag, 0, len(r.tags))}
	g.entries[e.key] = e
	x.keys++
	x.bytes += entryCost + int64(len(e.key))
	for _, name := range r.tags {
		t := g.tags[name]
		if t == nil {
			t = &tag{name: strings.Clone(name), entries: make(map[*entry]struct{})}
			g.tags[t.name] = t
			x.tags++
			x.bytes += tagCost + int64(len(name))
		}
		t.entries[e] = struct{}{}
		e.tags = append(e.tags, t)
		x.bytes += refCost
	}
}

// drop has a key have no tags.
func (x *index) drop(collection, key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropLocked(collection, key)
}

func (x *index) dropLocked(collection, key string) {
	g := x.groups[collection]
	if g == nil || g.entries[key] == nil {
		return
	}
	e := g.entries[key]
	for _, t := range e.tags {
		delete(t.entries, e)
		x.bytes -= refCost
		if len(t.entries) == 0 {
			delete(g.tags, t.name)
			x.tags--
			x.bytes -= tagCost + int64(len(t.name))
		}
	}
	delete(g.entries, key)
	x.keys--
	x.bytes -= entryCost + int64(len(key))
	if len(g.entries) == 0 {
		delete(x.groups, collection)
		x.bytes -= groupCost + int64(len(collection))
	}
}

// find returns the keys of a collection that have all of the tags, sorted; none if there
// are no tags.
func (x *index) find(collection string, tags []string) []string {
	found := x.intersect(collection, tags)
	slices.Sort(found)
	return found
}

func (x *index) intersect(collection string, names []string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	g := x.groups[collection]
	if g == nil || len(names) == 0 {
		return nil
	}
	tags := make([]*tag, len(names))
	for i, name := range names {
		if tags[i] = g.tags[name]; tags[i] == nil {
			return nil
		}
	}
	slices.SortFunc(tags, func(a, b *tag) int { return len(a.entries) - len(b.entries) })
	var found []string
	for e := range tags[0].entries {
		if !slices.ContainsFunc(tags[1:], func(t *tag) bool { _, ok := t.entries[e]; return !ok }) {
			found = append(found, e.key)
		}
	}
	return found
}

// size returns how many keys and distinct tags there are, and the bytes they take.
func (x *index) size() (keys, tags int, bytes int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.keys, x.tags, x.bytes
}
