package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/service"
)

const (
	survivors = 4 // clients in the test's process
	children  = 3 // clients in processes of their own; the oldest is killed
	// checked is how many keys are read after each restart of the runtime; in the end it
	// is all of them.
	checked = 20
)

// victim is what is killed.
type victim uint8

const (
	aWorker victim = iota
	aClient
	theRuntime
)

// step of the plan: a wait, and then a kill.
type step struct {
	wait   time.Duration
	victim victim
	early  bool // the runtime is killed while it starts
	settle bool // a restart is given the time until every client has been served
}

// planOf returns n kills of each, in an order of its own: first of all three, and then,
// behind the last one of a runtime, half of those of workers and clients, so that what
// these leave behind in a runtime shows.
func planOf(r *rand.Rand, n int) []step {
	var mixed, steady []step
	for range n {
		mixed = append(mixed, step{
			victim: theRuntime, early: r.IntN(5) == 0, settle: r.IntN(4) == 0,
			wait: time.Duration(r.Int64N(int64(200 * time.Millisecond))),
		})
	}
	for i := range n {
		for _, v := range []victim{aWorker, aClient} {
			s := step{victim: v, wait: time.Duration(r.Int64N(int64(50 * time.Millisecond)))}
			if i%2 == 0 {
				mixed = append(mixed, s)
			} else {
				steady = append(steady, s)
			}
		}
	}
	r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	r.Shuffle(len(steady), func(i, j int) { steady[i], steady[j] = steady[j], steady[i] })
	return append(mixed, steady...)
}

// storm is a run of the test.
type storm struct {
	t        *testing.T
	cloud    *cloud
	random   *rand.Rand
	tally    *tally
	known    *ledger
	loads    []*load
	children []*child
	born     int // children so far
	kills    [3]int
	missed   int // workers that had ended before their kill
	busy     int // children that had written something when they were killed
	slowest  time.Duration
	settled  int
	orphans  []process // workers of killed runtimes, until they are seen to be gone
}

// TestKills kills workers, clients and the runtime with SIGKILL, -kills times each, at
// random moments under load. The whole is
//
//	go test ./bench/chaos -run Kills -kills 200 -timeout 30m -v
//
// The old protocol has a quarter of that.
func TestKills(t *testing.T) {
	t.Run("v1", func(t *testing.T) { testKills(t, *killsFlag, false) })
	t.Run("v0", func(t *testing.T) { testKills(t, (*killsFlag+3)/4, true) })
}

func testKills(t *testing.T, kills int, v0 bool) {
	seed := seed(t)
	dir := filepath.Join(t.TempDir(), "state")
	c := newCloud(t, dir, v0)
	before := measure() // the first socket of a process brings descriptors that stay
	s := &storm{t: t, cloud: c, random: rand.New(rand.NewPCG(seed, 1)), tally: newTally(), known: newLedger()}
	defer s.clear()
	s.cloud.start()
	s.cloud.await()
	fresh := s.cloud.look()
	begin := time.Now()
	for i := range survivors {
		l, err := startLoad(s.cloud.addr, v0, s.tally, 4, s.random.Uint64(), fmt.Sprint("s", i), s.known.note, s.known.entry)
		if err != nil {
			t.Fatalf("Connect() = %v", err)
		}
		s.loads = append(s.loads, l)
	}
	for range children {
		s.bear()
	}
	for i, step := range planOf(s.random, kills) {
		if i%100 == 99 {
			t.Logf("%d kills in %v", i, time.Since(begin))
		}
		s.do(step)
	}
	s.settle()
	took := time.Since(begin)
	s.finish()
	s.wantAllStored()
	s.wantQuiet(fresh)
	s.cloud.stop()
	s.cloud.wantNoneLeft()
	wantTidy(t, dir)
	wantBack(t, before)
	s.report(took)
}

// bear starts another child.
func (s *storm) bear() {
	s.children = append(s.children, startChild(s.t, s.cloud, s.tally, s.known, s.random.Uint64(), fmt.Sprint("c", s.born)))
	s.born++
}

func (s *storm) do(step step) {
	s.t.Helper()
	pause := time.NewTimer(step.wait)
	defer pause.Stop()
	<-pause.C
	s.kills[step.victim]++
	switch step.victim {
	case aWorker:
		s.killWorker()
	case aClient:
		ch := s.children[0]
		ch.kill(s.tally)
		if ch.acked > 0 {
			s.busy++
		}
		s.children = s.children[1:]
		s.bear()
	default:
		s.killRuntime(step)
	}
}

// killWorker kills a worker; there is one soon. One in four is any of them, and may be
// starting, which puts the next start off; the others are at work.
func (s *storm) killWorker() {
	s.t.Helper()
	pick := s.random.Uint64()
	if !eventually(patience, func() bool {
		list := s.cloud.look().AtWork
		if pick%4 == 0 {
			list = nil
			for _, p := range workersOf(s.cloud.run, s.cloud.proc.Process.Pid) {
				list = append(list, p.pid)
			}
		}
		if len(list) == 0 {
			return false
		}
		p, err := os.FindProcess(list[pick/4%uint64(len(list))])
		if err != nil || p.Kill() != nil {
			s.missed++
			return false
		}
		_ = p.Release()
		return true
	}) {
		s.t.Fatalf("there was no worker for %v; stderr: %s", patience, s.cloud.stderr())
	}
}

// killRuntime kills the runtime and starts it again.
func (s *storm) killRuntime(step step) {
	s.t.Helper()
	s.orphans = append(s.orphans, s.cloud.kill()...)
	s.cloud.start()
	if step.early {
		pause := time.NewTimer(step.wait / 2)
		defer pause.Stop()
		<-pause.C
		s.orphans = append(s.orphans, s.cloud.kill()...)
		s.cloud.start()
	}
	s.cloud.await()
	s.wantSomeStored()
	if step.settle {
		s.settle()
	}
	var left []process
	if !eventually(patience, func() bool { left = alive(s.cloud.run, s.orphans); return len(left) == 0 }) {
		s.t.Errorf("workers of a runtime that was killed live on: %+v", left)
	}
	s.orphans = nil
}

// settle waits until the application and the storage have answered every survivor.
func (s *storm) settle() {
	s.t.Helper()
	begin := time.Now()
	for i, l := range s.loads {
		if !eventually(patience, func() bool { return l.since(begin) }) {
			s.t.Fatalf("client %d is not served %v after a restart: %+v; stderr: %s", i, patience, l.client.Stats(), s.cloud.stderr())
		}
	}
	s.settled++
	s.slowest = max(s.slowest, time.Since(begin))
}

// wantSomeStored reads a few keys.
func (s *storm) wantSomeStored() {
	s.t.Helper()
	keys := s.known.sorted()
	s.random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	s.wantStored(keys[:min(checked, len(keys))])
}

func (s *storm) wantAllStored() {
	s.t.Helper()
	s.wantStored(s.known.sorted())
}

// wantStored reads keys by a client of its own.
func (s *storm) wantStored(keys []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := service.Connect(ctx, service.Config{Locators: []string{s.cloud.addr}, V0: s.cloud.v0})
	if err != nil {
		s.t.Fatalf("Connect() = %v", err)
	}
	storage := c.Service("storage")
	for _, key := range keys {
		if err := check(ctx, storage, key, s.known.entry); err != nil {
			s.t.Errorf("read: %v", err)
		}
	}
	if err := c.Close(ctx); err != nil {
		s.t.Errorf("Close() = %v", err)
	}
}

// finish ends all clients.
func (s *storm) finish() {
	s.t.Helper()
	for _, ch := range s.children {
		ch.finish(s.t)
	}
	s.children = nil
	for _, l := range s.loads {
		l.rest()
	}
	var now snapshot
	if !eventually(patience, func() bool { now = s.cloud.look(); return now.Pending+now.Load+now.Queue == 0 }) {
		s.t.Errorf("the runtime has %+v, want nothing to do", now)
	}
	for _, l := range s.loads {
		if err := l.finish(); err != nil {
			s.t.Errorf("Close() = %v, want nil", err)
		}
	}
	s.loads = nil
}

// wantQuiet fails the test unless the runtime, which many clients and workers have left,
// has no more than when it was fresh.
func (s *storm) wantQuiet(fresh snapshot) {
	s.t.Helper()
	var now snapshot
	if !eventually(patience, func() bool {
		now = s.cloud.look()
		return now.Conns+now.Pending+now.Load+now.Queue+now.Slaves == 0 && now.FDs <= fresh.FDs && now.Goroutines <= fresh.Goroutines
	}) {
		s.t.Errorf("the runtime has %+v, want as when it was fresh: %+v", now, fresh)
	}
	if now.Heap > maxHeapBytes || now.Corrupt > 0 {
		s.t.Errorf("the runtime has %+v, want a small heap and nothing corrupt", now)
	}
	s.t.Logf("runtime: fresh %+v, in the end %+v", fresh, now)
}

// wantTidy fails the test if something is left in the directory of the state but records.
func wantTidy(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err == nil && name != "." && !strings.HasPrefix(name, "storage") || strings.Contains(e.Name(), "tmp") {
			t.Errorf("%s is left", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// clear ends what a test that failed has left.
func (s *storm) clear() {
	for _, ch := range s.children {
		ch.kill(s.tally)
	}
	s.cloud.kill()
	for _, l := range s.loads {
		_ = l.client.Close(context.Background())
		l.rest()
	}
}

func (s *storm) report(took time.Duration) {
	s.t.Helper()
	for _, fault := range s.tally.faults {
		s.t.Errorf("%s", fault)
	}
	if s.tally.counts["faults"] > 0 {
		s.t.Errorf("%d faults", s.tally.counts["faults"])
	}
	keys, values := s.known.acked()
	s.t.Logf("%d kills of workers (%d had just ended), %d of clients (%d had written), %d of the runtime, in %v",
		s.kills[aWorker], s.missed, s.kills[aClient], s.busy, s.kills[theRuntime], took)
	s.t.Logf("%d ends of calls, the longest took %v (%s); %d writes of %d keys acknowledged and kept",
		s.tally.total(), s.tally.longest, s.tally.slowest, values, keys)
	s.t.Logf("%d times all clients were back, at the latest after %v", s.settled, s.slowest)
	s.t.Logf("calls by how they ended:%s", s.tally.lines())
}
