package invariants

import "fmt"

// PoisonByte is what [Poison] writes. It stands out in a dump, and in msgpack it starts an integer, never a frame.
const PoisonByte = 0xCC

// Check panics if cond is false and the checks are built in. The message says what was broken, not what was checked.
func Check(cond bool, format string, args ...any) {
	if Enabled && !cond {
		panic("broken invariant: " + fmt.Sprintf(format, args...))
	}
}

// Poison overwrites b, all len(b) bytes of it, if the checks are built in. Call it on bytes that are about to be
// reused and that nobody may read any more.
func Poison(b []byte) {
	if Enabled {
		for i := range b {
			b[i] = PoisonByte
		}
	}
}
