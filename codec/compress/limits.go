package compress

import (
	"cmp"
	"math"
)

const (
	defaultMaxOutputBytes = 16 << 20
	defaultMaxRatio       = 200
	defaultFreeBytes      = 64 << 10
)

// Limits bound what one encoded chunk may decode to. The zero value holds the defaults.
type Limits struct {
	// MaxOutputBytes is the longest decoded chunk. If zero, 16 MiB. If negative, no limit.
	MaxOutputBytes int
	// MaxRatio is how many times longer than its encoded form a decoded chunk may be, past FreeBytes. If zero, 200.
	// If negative, no limit.
	MaxRatio int
	// FreeBytes is how long a decoded chunk may be without being held to MaxRatio: so little memory is not worth an
	// attack, and short chunks of honest zeros reach any ratio. If zero, 64 KiB. If negative, MaxRatio holds always.
	FreeBytes int
}

// withDefaults returns l with every field set: no zero and no negative value is left.
func (l Limits) withDefaults() Limits {
	l.MaxOutputBytes = cmp.Or(l.MaxOutputBytes, defaultMaxOutputBytes)
	l.MaxRatio = cmp.Or(l.MaxRatio, defaultMaxRatio)
	l.FreeBytes = cmp.Or(l.FreeBytes, defaultFreeBytes)
	if l.MaxOutputBytes < 0 {
		l.MaxOutputBytes = math.MaxInt
	}
	if l.MaxRatio < 0 {
		l.MaxRatio = math.MaxInt
	}
	l.FreeBytes = max(l.FreeBytes, 0)
	return l
}

// check returns the reason why so many encoded bytes may not decode to so many, or 0 if they may. It wants limits
// withDefaults.
func (l Limits) check(decoded uint64, encoded int) Reason {
	if decoded > uint64(l.MaxOutputBytes) {
		return TooLarge
	}
	// decoded > ratio*encoded, without the product, which may overflow.
	if decoded > uint64(l.FreeBytes) && (decoded-1)/uint64(l.MaxRatio) >= uint64(encoded) {
		return Ratio
	}
	return 0
}
