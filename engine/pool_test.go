package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// bench is a pool under a virtual clock, with names for its members and requests.
type bench struct {
	t        *testing.T
	pool     pool
	now      time.Time
	wake     time.Time
	members  []*member
	requests []*request
	log      []string // what was decided since the last want
}

func newBench(t *testing.T, p Profile) *bench {
	return &bench{t: t, pool: pool{profile: p.withDefaults(codec.V1)}, now: time.Unix(1_000_000, 0)}
}

func (b *bench) say(format string, args ...any) { b.log = append(b.log, fmt.Sprintf(format, args...)) }

func (b *bench) name(m *member) string { return fmt.Sprint("w", slices.Index(b.members, m)) }

func (b *bench) number(r *request) int { return slices.Index(b.requests, r) }

// decide notes what the pool decides.
func (b *bench) decide() {
	var d decisions
	b.wake = b.pool.decide(b.now, &d)
	for _, r := range d.expired {
		b.say("expired r%d", b.number(r))
	}
	for _, r := range d.overdue {
		b.say("overdue r%d", b.number(r))
	}
	for _, r := range d.assigned {
		b.say("r%d to %s", b.number(r), b.name(r.member))
	}
	for _, m := range d.spawn {
		b.members = append(b.members, m)
		b.say("spawn %s", b.name(m))
	}
	for _, m := range d.seal {
		b.say("seal %s", b.name(m))
	}
	for _, m := range d.idle {
		b.say("idle %s", b.name(m))
	}
	if d.publish {
		b.say("publish %v", b.pool.published)
	}
}

// enqueue admits n requests.
func (b *bench) enqueue(n int, timeout time.Duration) {
	for range n {
		r := &request{born: b.now}
		if timeout > 0 {
			r.deadline = b.now.Add(timeout)
		}
		b.requests = append(b.requests, r)
		switch b.pool.admit(r, b.now) {
		case isAssigned:
			b.say("r%d to %s", b.number(r), b.name(r.member))
		case isFull:
			b.say("full r%d", b.number(r))
		case isStopping:
			b.say("stopping r%d", b.number(r))
		}
		b.decide()
	}
}

// step runs one line of a script.
func (b *bench) step(line string) {
	b.t.Helper()
	words := strings.Fields(line)
	arg := func(i int) (n int) {
		if len(words) > i {
			_, _ = fmt.Sscanf(strings.TrimLeft(words[i], "wr"), "%d", &n)
		}
		return n
	}
	switch words[0] {
	case "enqueue": // n, seconds until they expire
		b.enqueue(arg(1), time.Duration(arg(2))*time.Second)
		return
	case "ready":
		b.pool.ready(b.members[arg(1)], b.now)
	case "leaves":
		b.pool.leaves(b.members[arg(1)], b.now)
	case "gone":
		b.pool.gone(b.members[arg(1)], false, b.now)
	case "crash":
		b.pool.gone(b.members[arg(1)], true, b.now)
	case "release": // the slave's request is over
		r := b.requests[arg(1)]
		m := r.member
		b.pool.end(r)
		b.pool.release(m, b.now)
	case "leave": // the client is gone
		b.pool.end(b.requests[arg(1)])
	case "back":
		b.pool.putBack(b.requests[arg(1)], b.now)
	case "want": // slaves
		b.pool.population = arg(1)
	case "limit": // of slaves, in a new profile
		b.pool.profile.PoolLimit = arg(1)
	case "stop":
		b.pool.stop()
	case "close":
		for _, r := range b.pool.close() {
			b.say("left r%d", b.number(r))
		}
	case "pass": // ms; the pool wakes when it asked for it
		until := b.now.Add(time.Duration(arg(1)) * time.Millisecond)
		for !b.wake.IsZero() && !b.wake.After(until) {
			b.now = maxTime(b.now, b.wake)
			last := b.wake
			b.decide()
			if b.wake.Equal(last) {
				b.t.Fatalf("%s: the pool wants to be woken at a time that has passed", line)
			}
		}
		b.now = until
	default:
		b.t.Fatalf("%q is no step", line)
	}
	b.decide()
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// play is what a pool decides in a course of events.
type play struct {
	name    string
	profile Profile
	script  []string // step: what is decided
}

func (p play) run(t *testing.T) {
	b := newBench(t, p.profile)
	for _, line := range p.script {
		step, want, _ := strings.Cut(line, ":")
		b.log = nil
		b.step(step)
		got := slices.Clone(b.log)
		wants := strings.Split(strings.TrimSpace(want), ", ")
		if wants[0] == "" {
			wants = nil
		}
		slices.Sort(got)
		slices.Sort(wants)
		if !slices.Equal(got, wants) {
			t.Fatalf("%s: decided %q, want %q", step, got, wants)
		}
	}
}

// TestPoolRequests: which slave a request goes to, how many wait, and for how long.
func TestPoolRequests(t *testing.T) {
	for _, p := range []play{
		{"the slave with the smallest load", Profile{Concurrency: 2, GrowThreshold: 1, PoolLimit: 2}, []string{
			"enqueue 1: publish true, spawn w0",
			"enqueue 1: spawn w1",
			"enqueue 1: ",
			"ready w1: r0 to w1, r1 to w1",
			"ready w0: r2 to w0",
			"enqueue 2: r3 to w0",
			"release r1: r4 to w1",
			"release r2: ", "release r3: ",
			"enqueue 3: r5 to w0, r6 to w0",
			"release r0: r7 to w1",
			"release r4: ", "release r7: ", "release r5: ",
			"enqueue 1: r8 to w1", // which comes second, and has nothing to do
			"enqueue 1: r9 to w0",
		}},
		{"growth by the threshold", Profile{Concurrency: 1, GrowThreshold: 3, PoolLimit: 3}, []string{
			"enqueue 1: publish true, spawn w0",
			"enqueue 4: ",
			"enqueue 1: spawn w1",
			"enqueue 2: ",
			"enqueue 1: spawn w2",
			"enqueue 20: ",
			"ready w0: r0 to w0",
		}},
		{"the queue has a limit", Profile{QueueLimit: 2, GrowThreshold: 9}, []string{
			"enqueue 3: publish true, spawn w0, full r2",
			"leave r0: ",
			"enqueue 2: full r4",
			"ready w0: r1 to w0, r3 to w0",
		}},
		{"no queue, only slots", Profile{QueueLimit: -1, Concurrency: 2, PoolLimit: 1}, []string{
			"enqueue 3: publish true, spawn w0, full r2",
			"ready w0: r0 to w0, r1 to w0",
			"enqueue 1: full r3",
			"release r0: ",
			"enqueue 1: r4 to w0",
		}},
		{"requests expire in the queue and while they run", Profile{Concurrency: 1, PoolLimit: 1}, []string{
			"enqueue 1 9: publish true, spawn w0",
			"enqueue 1 5: ",
			"pass 1000: ",
			"ready w0: r0 to w0",
			"pass 4000: expired r1",
			"pass 4000: overdue r0",
			"enqueue 1: ",
			"release r0: r2 to w0",
		}},
		{"a request that its slave did not get is the next one", Profile{Concurrency: 1}, []string{
			"enqueue 2: publish true, spawn w0",
			"ready w0: r0 to w0",
			"back r0: ",
			"pass 19: ",
			"pass 1: r0 to w0",
			"back r0: ",
			"leaves w0: ",
			"gone w0: ",
			"pass 1000: spawn w1",
			"ready w1: r0 to w1",
			"release r0: r1 to w1",
		}},
		{"a request that came back and had ended", Profile{Concurrency: 1}, []string{
			"enqueue 1 3: publish true, spawn w0",
			"ready w0: r0 to w0",
			"pass 3000: overdue r0",
			"back r0: ",
			"enqueue 1: ",
			"pass 20: r1 to w0",
		}},
	} {
		t.Run(p.name, p.run)
	}
}

// TestPoolSize: how many slaves there are.
func TestPoolSize(t *testing.T) {
	for _, p := range []play{
		{"idle slaves leave", Profile{IdleTimeout: 10 * time.Second, Concurrency: 1}, []string{
			"enqueue 1: publish true, spawn w0",
			"ready w0: r0 to w0",
			"pass 20000: ",
			"release r0: ",
			"pass 9999: ",
			"pass 1: idle w0",
			"enqueue 1: spawn w1",
			"gone w0: ",
		}},
		{"idle slaves stay for ever", Profile{IdleTimeout: -1}, []string{
			"enqueue 1: publish true, spawn w0",
			"ready w0: r0 to w0",
			"release r0: ",
			"pass 2000000000: ",
		}},
		{"a population is kept", Profile{IdleTimeout: time.Second, PoolLimit: 3}, []string{
			"want 2: publish true, spawn w0, spawn w1",
			"ready w0: ", "ready w1: ",
			"pass 5000: ",
			"want 9: spawn w2",
			"ready w2: ",
			"enqueue 1: r0 to w0",
			"want 1: seal w1, seal w2",
			"gone w1: ", "gone w2: ",
			"crash w0: spawn w3",
			"want 0: ",
			"ready w3: ",
			"pass 1000: idle w3",
		}},
		{"a lower limit is kept to", Profile{Concurrency: 1, GrowThreshold: 1, PoolLimit: 3}, []string{
			"enqueue 3: publish true, spawn w0, spawn w1, spawn w2",
			"ready w0: r0 to w0", "ready w1: r1 to w1",
			"limit 1: seal w0",
			"ready w2: seal w2",
			"gone w0: ", "gone w2: ",
			"release r1: r2 to w1",
		}},
	} {
		t.Run(p.name, p.run)
	}
}

// TestPoolFailures: when a slave is started in the place of one that failed.
func TestPoolFailures(t *testing.T) {
	for _, p := range []play{
		{"failures put starts off", Profile{}, []string{
			"enqueue 1: publish true, spawn w0",
			"crash w0: ",
			"pass 999: ", "pass 1: spawn w1",
			"crash w1: ", "pass 1999: ", "pass 1: spawn w2",
			"crash w2: ", "pass 4000: spawn w3",
			"crash w3: ", "pass 8000: spawn w4",
			"crash w4: ", "pass 16000: spawn w5",
			"crash w5: ", "pass 31999: ", "pass 1: spawn w6",
			"crash w6: ", "pass 32000: spawn w7",
			"pass 31000: ", // not yet forgotten
			"crash w7: ", "pass 31999: ", "pass 1: spawn w8",
			"pass 32000: ",
			"crash w8: ", "pass 999: ", "pass 1: spawn w9",
			"ready w9: r0 to w9",
		}},
		{"a worker that got its work done ends a row of failures", Profile{}, []string{
			"enqueue 1: publish true, spawn w0",
			"crash w0: ", "pass 1000: spawn w1",
			"crash w1: ", "pass 2000: spawn w2",
			"ready w2: r0 to w2",
			"back r0: ", // which is not that
			"leaves w2: ", "crash w2: ", "pass 3999: ", "pass 1: spawn w3",
			"ready w3: r0 to w3",
			"release r0: ",
			"want 2: spawn w4",
			"crash w4: ", "pass 999: ", "pass 1: spawn w5",
			"crash w5: ", "pass 1999: ", "pass 1: spawn w6",
		}},
		{"a worker that died at work is replaced at once", Profile{Concurrency: 1}, []string{
			"enqueue 2: publish true, spawn w0",
			"ready w0: r0 to w0",
			"leaves w0: spawn w1",
			"crash w0: ",
			"ready w1: r1 to w1",
		}},
		{"after a failure slaves start one at a time", Profile{PoolLimit: 3}, []string{
			"want 3: publish true, spawn w0, spawn w1, spawn w2",
			"crash w0: ", "crash w1: ", "crash w2: ",
			"pass 4000: spawn w3",
			"ready w3: spawn w4",
			"ready w4: spawn w5",
		}},
	} {
		t.Run(p.name, p.run)
	}
}

// TestPoolEnds: what is published, and what is left at the end.
func TestPoolEnds(t *testing.T) {
	for _, p := range []play{
		{"stopping drains", Profile{Concurrency: 1}, []string{
			"enqueue 2: publish true, spawn w0",
			"stop: publish false",
			"enqueue 1: stopping r2",
			"crash w0: ",
			"pass 1000: spawn w1",
			"ready w1: r0 to w1",
			"release r0: r1 to w1",
			"release r1: ",
		}},
		{"closing leaves nothing", Profile{Concurrency: 1}, []string{
			"enqueue 2: publish true, spawn w0",
			"ready w0: r0 to w0",
			"close: left r1, publish false",
			"back r0: ",
			"crash w0: ",
			"want 5: ",
			"pass 1000000: ",
		}},
		{"published on two, not under one", Profile{PublishOn: 2, UnpublishUnder: 1}, []string{
			"want 2: spawn w0, spawn w1",
			"ready w0: ",
			"ready w1: publish true",
			"leaves w0: ",
			"leaves w1: publish false",
			"pass 2000: spawn w2",
			"ready w2: spawn w3",
			"ready w3: publish true",
		}},
	} {
		t.Run(p.name, p.run)
	}
}
