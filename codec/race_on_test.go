//go:build race

package codec

// raceEnabled says that the race detector is on, which makes everything an order of
// magnitude slower.
const raceEnabled = true
