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

// leastLoaded returns the lightest, or the next if that is not admitted.
func (b *Balancer) leastLoaded(now time.Time, except []*Instance) *Instance {
	var best, second *Instance
	for _, i := range b.list {
		switch {
		case !pickable(i, except):
		case best == nil || lighter(i, best):
			best, second = i, best
		case second == nil || lighter(i, second):
			second = i
		}
	}
	return b.oneOf(best, second, now)
}

// lighter reports whether i has less to do than j, or as much, but was not chosen for
// longer.
func lighter(i, j *Instance) bool {
	return i.inFlight < j.inFlight || i.inFlight == j.inFlight && i.last < j.last
}

// oneOf returns the best, or the second if there is one and the best is not admitted.
func (b *Balancer) oneOf(best, second *Instance, now time.Time) *Instance {
	if best == nil || second == nil || b.admits(best, now) {
		return best
	}
	return second
}

// betterOfTwo returns the lighter one of two at random, or the other if that is not
// admitted.
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
	if lighter(j, i) {
		i, j = j, i
	}
	return b.oneOf(i, j, now)
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
	return b.oneOf(best, second, now)
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
