package service

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before an attempt is repeated: a random time of which the
// bound doubles with each failure, as from one locator to another (protocol: locator).
// Theirs is 1, 2, 4 … 32 s; here it is up to 12 s, since whatever was away is to have
// everybody back within 30 s, which may take a wait for the locator and another one for
// the service. The randomness keeps those who failed together from coming back together:
// n clients that lost a service at the same time come back at n/Base a second at most, so
// 5000 of them to a service that takes 500 a second want a Base of more than 10 s. It is a
// value without a state.
type Backoff struct {
	// Base is the bound behind the first failure. If zero, 1 s. If negative, there is no
	// wait at all.
	Base time.Duration
	// Max is what the bound does not exceed. If zero, 12 s. If negative, no limit.
	Max time.Duration
}

// Delay returns how long to wait behind failure number n, the first of which is 0: a time
// from 0 to the bound, both of which it may be, evenly distributed by one number of src.
func (b Backoff) Delay(n int, src rand.Source) time.Duration {
	d, _ := bits.Mul64(src.Uint64(), uint64(b.bound(n))+1)
	return time.Duration(d)
}

func (b Backoff) bound(n int) time.Duration {
	base, most := b.Base, b.Max
	if base == 0 {
		base = time.Second
	}
	switch {
	case most == 0:
		most = 12 * time.Second
	case most < 0:
		most = math.MaxInt64
	}
	d := max(base, 0)
	for ; n > 0 && d > 0 && d < most; n-- {
		if d > most/2 {
			return most
		}
		d *= 2
	}
	return min(d, most)
}
