package chaos

import (
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

var (
	killsFlag = flag.Int("kills", 12, "how often each of worker, runtime and client is killed")
	seedFlag  = flag.Uint64("seed", 0, "of the plan of kills and of the load; 0 is a new one")
	downFlag  = flag.Duration("down", 500*time.Millisecond, "how long the runtime is away in the storm of clients")
	mostFlag  = flag.Duration("most", time.Second, "the longest wait between tries of a client in the storm; 0 is the default of package service")
)

// What a process of this test binary is, and what it needs to know.
const (
	roleVar    = "CHAOS_ROLE"
	runVar     = "CHAOS_RUN" // the same in all processes of a test, and in no others
	dirVar     = "CHAOS_DIR"
	addrVar    = "CHAOS_ADDR" // of the locator
	seedVar    = "CHAOS_SEED"
	prefixVar  = "CHAOS_PREFIX" // of a client's keys
	callersVar = "CHAOS_CALLERS"
	v0Var      = "CHAOS_V0" // set: the old protocol
)

// patience bounds every wait of a test for what should come soon. How soon that is, and how
// the tries of many clients are spread, the tests of package service have in virtual time.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "runtime":
		os.Exit(beRuntime())
	case "worker":
		os.Exit(beWorker())
	case "client":
		os.Exit(beClient())
	}
	os.Exit(m.Run())
}

// seed returns the seed of a test, and logs how to have it again.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano()) % 1_000_000_007
	}
	t.Logf("replay with: go test ./bench/chaos -run '^%s$' -kills %d -seed %d", strings.ReplaceAll(t.Name(), "/", "$/^"), *killsFlag, s)
	return s
}

// eventually waits until a condition holds, and reports whether it came to that.
func eventually(limit time.Duration, ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); !ok(); <-tick.C {
		if time.Since(begin) > limit {
			return false
		}
	}
	return true
}

// own is what this process has open.
type own struct {
	goroutines, fds int
	heap            uint64
}

func measure() own {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	return own{goroutines: ours(), fds: len(fds), heap: m.HeapAlloc}
}

// ours counts the goroutines of the stack.
func ours() int {
	buf := make([]byte, 4<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
		if strings.Contains(g, "sluice/channel") || strings.Contains(g, "sluice/service") || strings.Contains(g, "sluice/session") {
			n++
		}
	}
	return n
}

// wantBack fails the test unless this process has no more than it had before.
func wantBack(t *testing.T, before own) {
	t.Helper()
	var after own
	if !eventually(patience, func() bool {
		after = measure()
		return after.fds <= before.fds && after.goroutines <= before.goroutines
	}) {
		buf := make([]byte, 1<<20)
		t.Errorf("the test process has %+v, want as before: %+v\n%s", after, before, buf[:runtime.Stack(buf, true)])
	}
	if after.heap > before.heap+maxHeapBytes {
		t.Errorf("the test process has %d bytes on the heap, %d before", after.heap, before.heap)
	}
	t.Logf("test process: before %+v, after %+v", before, after)
}
