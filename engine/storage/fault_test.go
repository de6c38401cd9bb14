package storage

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// script is a life of a store: what is there at first, and what is then done to it.
var script = struct {
	names  []name
	before []value
	ops    []struct {
		name
		value
	}
}{
	names:  []name{{"c", "kept"}, {"c", "changed"}, {"c", "removed"}, {"d", "new"}},
	before: []value{{true, "one", "a"}, {true, "two two", "a b"}, {true, "", ""}},
	ops: []struct {
		name
		value
	}{
		{name{"c", "changed"}, value{true, "three three", "b c"}},
		{name{"c", "removed"}, value{}},
		{name{"d", "new"}, value{true, "four", "c"}},
		{name{"c", "changed"}, value{}},
		{name{"c", "changed"}, value{true, "five five", ""}},
	},
}

// begun returns a directory with the script's first values in it, a store on it, and what
// it must hold.
func begun(t *testing.T) (*memDir, *Store, oracle) {
	t.Helper()
	dir := newMemDir()
	s, err := open("mem", dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	want := oracle{}
	for i, v := range script.before {
		if err := want.change(s, script.names[i], v); err != nil {
			t.Fatal(err)
		}
	}
	return dir, s, want
}

// opsOf returns the operations of the script on the directory, one by one: of its changes
// and, if reopen, of opening it anew after a crash in the midst of one.
func opsOf(t *testing.T, reopen bool) (first int, ops []string) {
	dir, s, want := begun(t)
	first = dir.steps + 1
	note := func(_ int, op string) fault {
		ops = append(ops, op)
		return fault{}
	}
	dir.fault = note
	for _, op := range script.ops {
		if err := want.change(s, op.name, op.value); err != nil {
			t.Fatal(err)
		}
	}
	if reopen {
		dir.files[tempPrefix+"1"] = &inode{}
		first, ops = dir.steps+1, nil
		if _, err := open("mem", dir, quiet); err != nil {
			t.Fatal(err)
		}
	}
	return first, ops
}

// TestFaults has each operation on the directory fail in each way. The store must tell,
// keep the old value, and, opened anew, in this life of the machine or after a loss of
// power, have every value as it may be.
func TestFaults(t *testing.T) {
	first, ops := opsOf(t, false)
	for i, op := range ops {
		for kind, flt := range faultsOf(op) {
			for seed := range uint64(8) {
				name := fmt.Sprintf("step %d, %s, fault %d, seed %d", i, op, kind, seed)
				if !t.Run(name, func(t *testing.T) { testFault(t, first+i, op, flt, seed) }) {
					return
				}
			}
		}
	}
}

func testFault(t *testing.T, at int, op string, flt fault, seed uint64) {
	dir, s, want := begun(t)
	dir.fault = func(step int, _ string) fault {
		if step == at {
			return flt
		}
		return fault{}
	}
	failed, skewed := 0, false
	for _, c := range script.ops {
		old := want.of(c.name)
		err := want.change(s, c.name, c.value)
		if err == nil {
			continue
		}
		failed++
		checkFaultError(t, err, flt)
		// Read at once, it is the old value, unless the new one could not be kept from
		// being there.
		if now := observe(t, s, c.name); op != "syncdir" && !flt.done && !slices.Contains(old, now) {
			t.Errorf("after %v: %v has %v, want one of %v", err, c.name, now, old)
		}
		skewed = skewed || op == "rename" && flt.done // tags are those of before
	}
	broken := op == "syncdir"
	if failed == 0 || failed > 1 && !broken {
		t.Errorf("%d changes failed, want one", failed)
	}
	if got := s.Stats().Broken; got != broken {
		t.Errorf("Stats().Broken = %v, want %v", got, broken)
	}
	for file := range dir.files {
		if strings.HasPrefix(file, tempPrefix) {
			t.Errorf("%s is left", file)
		}
	}
	if !skewed {
		maps.Clone(want).check(t, s, script.names) // a clone: what is seen need not be on the disk
	}
	if seed%2 == 0 {
		dir = dir.crash(rand.New(rand.NewPCG(seed, 0)))
	}
	dir.fault = nil
	checkReopened(t, dir, want)
}

func checkFaultError(t *testing.T, err error, flt fault) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T, want *Error", err)
	}
	want := syscall.EIO // what a short write comes to
	if errors.Is(flt.err, syscall.ENOSPC) {
		want = syscall.ENOSPC
	}
	if e.Errno() != want {
		t.Errorf("%v: Errno() = %v, want %v", err, e.Errno(), want)
	}
}

// checkReopened opens a directory anew, compares, and sees that it can be worked with and
// that nothing is left over in it.
func checkReopened(t *testing.T, dir *memDir, want oracle) {
	t.Helper()
	s, err := open("mem", dir, quiet)
	if err != nil {
		t.Fatalf("open = %v", err)
	}
	want.check(t, s, script.names)
	for i, n := range script.names {
		if err := want.change(s, n, value{true, fmt.Sprint(i), "a c"}); err != nil {
			t.Fatalf("change of %v = %v", n, err)
		}
	}
	want.check(t, s, script.names)
	if st := s.Stats(); st.Corrupt != 0 || st.CorruptReads != 0 {
		t.Errorf("corrupt: %d at Open, %d at Read", st.Corrupt, st.CorruptReads)
	}
	if len(dir.files) != len(script.names) {
		t.Errorf("%d files are there, want %d", len(dir.files), len(script.names))
	}
}

// TestPowerLoss takes the power away at each operation on the directory, or has the store
// be killed there, opened anew and looked at before: what was seen must stay.
func TestPowerLoss(t *testing.T) {
	first, ops := opsOf(t, false)
	for i, op := range ops {
		for seed := range uint64(60) {
			dir, s, want := begun(t)
			dir.fault = powerUntil(first+i, seed%2 == 0)
			for _, c := range script.ops {
				_ = want.change(s, c.name, c.value)
			}
			if seed%3 == 0 {
				dir.fault = nil
				s, err := open("mem", dir, quiet)
				if err != nil {
					t.Fatal(err)
				}
				want.check(t, s, script.names)
			}
			left := dir.crash(rand.New(rand.NewPCG(seed, 1)))
			if !t.Run(fmt.Sprintf("step %d, %s, seed %d", i, op, seed), func(t *testing.T) { checkReopened(t, left, want) }) {
				return
			}
		}
	}
}

// powerUntil lets operations before a step be, and that one have its effect if done.
func powerUntil(at int, done bool) func(int, string) fault {
	return func(step int, _ string) fault {
		if step < at {
			return fault{}
		}
		return fault{err: errPower, done: done && step == at}
	}
}

// TestOpenFaults has each operation of Open fail. It must fail, or open as if nothing had
// been; a record that it cannot read is the only thing that may be missing.
func TestOpenFaults(t *testing.T) {
	first, ops := opsOf(t, true)
	for i, op := range ops {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.EMFILE, syscall.ENOMEM} {
			dir, s, want := begun(t)
			for _, c := range script.ops {
				if err := want.change(s, c.name, c.value); err != nil {
					t.Fatal(err)
				}
			}
			dir.files[tempPrefix+"1"] = &inode{}
			dir.fault = func(step int, _ string) fault {
				if step == first+i {
					return fault{err: errno}
				}
				return fault{}
			}
			s, err := open("mem", dir, quiet)
			ofRecord := op == "open" || op == "read"
			switch {
			case op == "close":
				if err != nil {
					t.Errorf("step %d, %s, %v: %v", i, op, errno, err)
				}
			case ofRecord && errno == syscall.EIO:
				if err != nil || s.Stats().Corrupt != 1 {
					t.Errorf("step %d, %s, %v: %v, want a record counted", i, op, errno, err)
				}
				for _, n := range script.names { // the record can be read again
					if v := readValue(t, s, n); v.blob != want.of(n)[0].blob {
						t.Errorf("step %d: %v has %v, want %v", i, n, v, want.of(n))
					}
				}
			default:
				if !errors.Is(err, errno) {
					t.Errorf("step %d, %s: open = %v, want %v", i, op, err, errno)
				}
			}
			dir.fault = nil
			checkReopened(t, dir, want)
		}
	}
}

// TestPowerLossOfMany has writers of many keys lose the power together, so that some share
// a sync of the directory.
func TestPowerLossOfMany(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		dir := newMemDir()
		s, err := open("mem", dir, quiet)
		if err != nil {
			t.Fatal(err)
		}
		dir.fault = powerUntil(dir.steps+rng.IntN(400), rng.IntN(2) == 0)
		oracles := make([]oracle, 8)
		var wg sync.WaitGroup
		for i := range oracles {
			oracles[i] = oracle{}
			rng := rand.New(rand.NewPCG(seed, uint64(10+i)))
			wg.Go(func() {
				for range 20 {
					_ = oracles[i].change(s, name{"c", fmt.Sprint(i, rng.IntN(2))}, randomValue(rng, 100))
				}
			})
		}
		wg.Wait()
		s, err = open("mem", dir.crash(rng), quiet)
		if err != nil {
			t.Fatalf("seed %d: open = %v", seed, err)
		}
		for i, o := range oracles {
			o.check(t, s, []name{{"c", fmt.Sprint(i, 0)}, {"c", fmt.Sprint(i, 1)}})
		}
	}
}
