package engine

import (
	"fmt"
	"math/rand/v2"
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

func TestPool(t *testing.T) {
	for _, tt := range []struct {
		name    string
		profile Profile
		script  []string // step: what is decided
	}{
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
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.profile)
			for _, line := range tt.script {
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
		})
	}
}

// Whatever happens, in any order: no request is lost, none is answered twice, none passes
// another in the queue, and no bound is passed.
func TestPoolModel(t *testing.T) {
	for seed := range uint64(300) {
		m := newModel(t, seed)
		for range 400 {
			m.act()
			m.check()
		}
		m.finish()
	}
}

// model is a pool under random events, and what must hold of it.
type model struct {
	*bench
	rand  *rand.Rand
	fate  map[*request]string // what became of it; "" while it waits or runs
	given map[*request]*member
	alive []*member
}

func newModel(t *testing.T, seed uint64) *model {
	r := rand.New(rand.NewPCG(seed, 7))
	p := Profile{
		Concurrency: 1 + r.IntN(3), PoolLimit: 1 + r.IntN(4), QueueLimit: []int{-1, 1, 5, 50}[r.IntN(4)],
		GrowThreshold: 1 + r.IntN(4), IdleTimeout: time.Duration(r.IntN(3)-1) * 3 * time.Second,
	}
	return &model{
		bench: newBench(t, p), rand: r,
		fate: map[*request]string{}, given: map[*request]*member{},
	}
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nprofile %+v", fmt.Sprintf(format, args...), m.pool.profile)
}

func (m *model) settle(r *request, fate string) {
	m.t.Helper()
	if m.fate[r] != "" {
		m.fail("r%d is %s and then %s", m.number(r), m.fate[r], fate)
	}
	m.fate[r] = fate
}

func (m *model) turn() {
	var d decisions
	m.wake = m.pool.decide(m.now, &d)
	for _, r := range d.expired {
		m.settle(r, "expired")
	}
	for _, r := range d.overdue {
		m.settle(r, "overdue")
	}
	for _, r := range d.assigned {
		for _, other := range m.requests[:m.number(r)] {
			if other.stage == stageWaiting {
				m.fail("r%d comes before r%d", m.number(r), m.number(other))
			}
		}
		m.take(r)
	}
	for _, one := range d.spawn {
		m.members = append(m.members, one)
		m.alive = append(m.alive, one)
	}
	if !m.wake.IsZero() && m.wake.Before(m.now) {
		m.fail("it wants to be woken %v ago", m.now.Sub(m.wake))
	}
}

func (m *model) take(r *request) {
	if m.given[r] != nil {
		m.fail("r%d is given twice", m.number(r))
	}
	if r.member.stance != stanceServing {
		m.fail("r%d goes to a slave that does not serve", m.number(r))
	}
	m.given[r] = r.member
}

func (m *model) some(f func(*request) bool) *request {
	var list []*request
	for _, r := range m.requests {
		if f(r) {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[m.rand.IntN(len(list))]
}

// act has one thing happen.
func (m *model) act() {
	switch n := m.rand.IntN(20); {
	case n < 7:
		r := &request{born: m.now}
		if m.rand.IntN(2) == 0 {
			r.deadline = m.now.Add(time.Duration(m.rand.IntN(5000)) * time.Millisecond)
		}
		m.requests = append(m.requests, r)
		switch m.pool.admit(r, m.now) {
		case isAssigned:
			m.take(r)
		case isFull, isStopping:
			m.settle(r, "refused")
		}
	case n < 11: // a request is over
		if r := m.some(func(r *request) bool { return m.given[r] != nil }); r != nil {
			one := m.given[r]
			delete(m.given, r)
			if m.pool.end(r) == stageRunning {
				m.settle(r, "served")
			}
			m.pool.release(one, m.now)
		}
	case n < 12: // its slave did not get it
		if r := m.some(func(r *request) bool { return m.given[r] != nil && slices.Contains(m.alive, m.given[r]) }); r != nil {
			delete(m.given, r)
			switch m.pool.putBack(r, m.now) {
			case isStopping:
				m.settle(r, "refused")
			}
		}
	case n < 13: // a client is gone
		if r := m.some(func(r *request) bool { return r.stage == stageWaiting }); r != nil {
			m.pool.end(r)
			m.settle(r, "left")
		}
	case n < 16 && len(m.alive) > 0:
		one := m.alive[m.rand.IntN(len(m.alive))]
		if m.rand.IntN(5) > 0 {
			m.pool.ready(one, m.now)
		} else {
			m.die(one)
		}
	case n < 17:
		m.pool.population = max(0, m.rand.IntN(8)-3)
	default:
		m.now = m.now.Add(time.Duration(m.rand.IntN(2000)) * time.Millisecond)
	}
	m.turn()
}

// die is the end of a slave; its requests end with it.
func (m *model) die(one *member) {
	m.pool.leaves(one, m.now)
	for _, r := range m.requests {
		if m.given[r] == one {
			delete(m.given, r)
			if m.pool.end(r) == stageRunning {
				m.settle(r, "cut")
			}
		}
	}
	m.alive = slices.DeleteFunc(m.alive, func(x *member) bool { return x == one })
	m.pool.gone(one, m.rand.IntN(2) == 0, m.now)
}

func (m *model) check() {
	p := &m.pool
	if len(p.members) > 2*p.profile.PoolLimit {
		m.fail("%d slaves, the limit is %d", len(p.members), p.profile.PoolLimit)
	}
	waits, free := 0, false
	for _, r := range m.requests {
		if r.stage == stageWaiting {
			waits++
		}
		if over := r.stage == stageEnded || r.stage == stageFresh; over != (m.fate[r] != "") {
			m.fail("r%d is in stage %d, and %q", m.number(r), r.stage, m.fate[r])
		}
	}
	if waits != p.queue.depth {
		m.fail("%d requests wait, the queue has %d", waits, p.queue.depth)
	}
	for _, one := range p.members {
		if one.load < 0 || one.load > p.profile.Concurrency {
			m.fail("a load of %d", one.load)
		}
		free = free || one.stance == stanceServing && one.load < p.profile.Concurrency && !one.refused.After(m.now)
	}
	if waits > 0 && free {
		m.fail("requests wait, and a slave is free")
	}
	if waits > 0 && len(p.members) == 0 && m.wake.IsZero() {
		m.fail("requests wait, and nothing is to happen")
	}
}

// finish stops the pool and sees everything through.
func (m *model) finish() {
	m.pool.stop()
	for n := 0; !m.pool.drained(); n++ {
		if n == 10_000 {
			m.fail("it is not drained")
		}
		m.turn()
		for _, one := range slices.Clone(m.alive) {
			m.pool.ready(one, m.now)
		}
		m.turn()
		for _, r := range m.requests {
			if one := m.given[r]; one != nil {
				delete(m.given, r)
				if m.pool.end(r) == stageRunning {
					m.settle(r, "served")
				}
				m.pool.release(one, m.now)
			}
		}
		for _, one := range slices.Clone(m.alive) {
			if one.stance == stanceLeaving {
				m.die(one)
			}
		}
		m.now = m.now.Add(time.Second)
	}
	for _, r := range m.requests {
		if m.fate[r] == "" {
			m.fail("r%d was never answered", m.number(r))
		}
	}
	if n := len(m.pool.deadlines); n != 0 {
		m.fail("%d deadlines are left", n)
	}
}
