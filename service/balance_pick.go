package service

import (
	"slices"
	"time"
)

// leastWeight is the share of an instance that has just come back.
const leastWeight = 0.1

// choose returns a ready instance by the policy, nil if there is none.
func (b *Balancer) choose(now time.Time, key string, except []*Instance) *Instance {
	switch {
	case b.cfg.Policy == RoundRobin:
		return b.longestAgo(now, except)
	case b.cfg.Policy == LeastInFlight:
		return b.leastLoaded(now, except)
	case b.cfg.Policy == PreferFirst:
		return b.first(now, except)
	case b.cfg.Policy == ByKey && key != "":
		return b.byKey(now, key, except)
	}
	return b.betterOfTwo(now, except)
}

// pickable reports whether an instance may be chosen.
func pickable(i *Instance, except []*Instance) bool {
	return i.State() == InstanceReady && !slices.Contains(except, i)
}

// weight returns the share of a ready instance.
func (b *Balancer) weight(i *Instance, now time.Time) float64 {
	if i.since.IsZero() {
		return 1
	}
	back := now.Sub(i.since)
	if back >= b.cfg.SlowStart {
		return 1
	}
	return leastWeight + (1-leastWeight)*max(float64(back)/float64(b.cfg.SlowStart), 0)
}

// admits tosses a coin over a chosen instance that has less than its whole share.
func (b *Balancer) admits(i *Instance, now time.Time) bool {
	w := b.weight(i, now)
	return w >= 1 || b.random.Float64() < w
}

// first returns the first that is admitted, or else the first.
func (b *Balancer) first(now time.Time, except []*Instance) (refused *Instance) {
	for _, i := range b.list {
		if !pickable(i, except) {
			continue
		}
		if b.admits(i, now) {
			return i
		}
		if refused == nil {
			refused = i
		}
	}
	return refused
}

// longestAgo returns the least recently chosen one. One that is not admitted loses its
// turn to the next; where none is, the last that lost it has it.
func (b *Balancer) longestAgo(now time.Time, except []*Instance) (refused *Instance) {
	for range b.list {
		var best *Instance
		for _, i := range b.list {
			if pickable(i, except) && (best == nil || i.last < best.last) {
				best = i
			}
		}
		if best == nil || b.admits(best, now) {
			return best
		}
		b.turn++
		best.last = b.turn
		refused = best
	}
	return refused
}

// leastLoaded returns the one with the least to do for its share.
func (b *Balancer) leastLoaded(now time.Time, except []*Instance) (best *Instance) {
	for _, i := range b.list {
		if pickable(i, except) && (best == nil || b.lighter(i, best, now)) {
			best = i
		}
	}
	return best
}

// lighter reports whether i has less to do than j with one call more, or as much, but was
// not chosen for longer.
func (b *Balancer) lighter(i, j *Instance, now time.Time) bool {
	li := float64(i.inFlight+1) / b.weight(i, now)
	lj := float64(j.inFlight+1) / b.weight(j, now)
	return li < lj || li == lj && i.last < j.last
}

// betterOfTwo returns the lighter one of two at random.
func (b *Balancer) betterOfTwo(now time.Time, except []*Instance) *Instance {
	n := 0
	for _, i := range b.list {
		if pickable(i, except) {
			n++
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return b.nth(0, except)
	}
	x := b.random.IntN(n)
	y := b.random.IntN(n - 1)
	if y >= x {
		y++
	}
	i, j := b.nth(x, except), b.nth(y, except)
	if b.lighter(j, i, now) {
		return j
	}
	return i
}

// nth returns pickable instance number n, which there is.
func (b *Balancer) nth(n int, except []*Instance) *Instance {
	for _, i := range b.list {
		if pickable(i, except) {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return nil
}

// byKey returns the one with the highest score for the key: rendezvous hashing, with
// which no other key moves when an instance goes or comes. One that is not admitted
// leaves the call to the next.
func (b *Balancer) byKey(now time.Time, key string, except []*Instance) *Instance {
	seed := hashString(fnvOffset, key)
	var best, second *Instance
	var top, next uint64
	for _, i := range b.list {
		if !pickable(i, except) {
			continue
		}
		switch score := mix(seed ^ i.hash); {
		case best == nil || score > top:
			second, next = best, top
			best, top = i, score
		case second == nil || score > next:
			second, next = i, score
		}
	}
	if best == nil || second == nil || b.admits(best, now) {
		return best
	}
	return second
}

// The constants of FNV-1a with 64 bits, which every client computes alike.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

// hashEndpoint tells apart instances of one host.
func hashEndpoint(e Endpoint) uint64 {
	return mix(hashString(fnvOffset, e.Host) ^ uint64(e.Port))
}

// mix spreads every bit of its argument over the whole number: the last step of splitmix64.
func mix(v uint64) uint64 {
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}
