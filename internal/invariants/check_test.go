package invariants_test

import (
	"bytes"
	"testing"

	"github.com/sluice-rpc/sluice/internal/invariants"
)

// checkPanics returns what Check panicked with, or nil.
func checkPanics(cond bool, format string, args ...any) (got any) {
	defer func() { got = recover() }()
	invariants.Check(cond, format, args...)
	return nil
}

func TestCheck(t *testing.T) {
	if got := checkPanics(true, "never"); got != nil {
		t.Errorf("Check(true) panicked with %v", got)
	}
	var want any
	if invariants.Enabled {
		want = "broken invariant: 2 bytes too many"
	}
	if got := checkPanics(false, "%d bytes too many", 2); got != want {
		t.Errorf("Check(false) panicked with %v, want %v", got, want)
	}
}

func TestPoison(t *testing.T) {
	backing := []byte("borrowed bytes")
	want := bytes.Clone(backing)
	if invariants.Enabled {
		for i := range 8 {
			want[i] = invariants.PoisonByte
		}
	}
	invariants.Poison(backing[:8])
	if !bytes.Equal(backing, want) {
		t.Errorf("Poison(first 8 bytes) left %q, want %q", backing, want)
	}
	invariants.Poison(nil)
}

func TestOffCostsNothing(t *testing.T) {
	b := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		invariants.Check(len(b) == 64, "length")
		invariants.Poison(b)
	}); n != 0 {
		t.Errorf("Check and Poison make %v allocations, want 0", n)
	}
}

func BenchmarkCheckAndPoison(b *testing.B) {
	buf := make([]byte, 4096)
	for b.Loop() {
		invariants.Check(len(buf) > 0, "length")
		invariants.Poison(buf)
	}
}
