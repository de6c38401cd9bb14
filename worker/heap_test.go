package worker_test

import (
	"testing"
	"time"
)

// patience is how long a test waits for what must come; long, so that a slow machine is no
// failure. In a bubble it is virtual.
const patience = time.Minute

// wantHeap wants the heap to have grown by so many bytes at most. A collection runs beside
// what goes on, and leaves what ended meanwhile to the next one; what is kept, no later one
// takes away.
func wantHeap(t testing.TB, before, most int64) {
	t.Helper()
	grown := heap() - before
	for range 50 {
		if grown <= most {
			return
		}
		time.Sleep(10 * time.Millisecond)
		grown = min(grown, heap()-before)
	}
	t.Errorf("the heap has grown by %d KiB, want at most %d", grown>>10, most>>10)
}
