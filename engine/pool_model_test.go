package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

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
		case isFull, isStopping, isExpired:
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
