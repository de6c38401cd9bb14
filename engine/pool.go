package engine

import (
	"slices"
	"time"
)

const (
	minRespawn   = time.Second      // the wait after the first worker that failed
	maxRespawn   = 32 * time.Second // it doubles up to this, and so long without a failure ends it
	refusalPause = 20 * time.Millisecond
)

// pool decides what becomes of an application's requests and slaves (protocol: queue,
// choice of slave, growth). It is pure: events and the time go in, decisions come out; it
// knows no clock, goroutine or socket. Every event is followed by decide.
type pool struct {
	profile    Profile
	population int  // wanted slaves; 0: the queue decides
	stopping   bool // no request is taken any more
	closed     bool // and nothing is started, or ended but by the App
	published  bool

	members   []*member // in the order of their start; at most twice Profile.PoolLimit
	queue     queue
	deadlines deadlines

	failures int       // in a row
	failedAt time.Time // the last one
	retryAt  time.Time // no worker is started before

	accepted, rejected, spawned, crashed uint64
}

// member is a slave as the pool sees it.
type member struct {
	slave *Slave // set by the App; nil while the process is being started

	stance   stance
	load     int    // requests that it has
	accepted uint64 // requests that it got
	began    time.Time
	idle     time.Time // since when it has none
	refused  time.Time // it is not chosen before
}

// stance says what a slave is good for.
type stance uint8

const (
	stanceStarting stance = iota // not yet ready
	stanceServing                // takes requests
	stanceLeaving                // takes no more, and will end
)

// verdict on a request that comes in, or comes back.
type verdict uint8

const (
	isAssigned verdict = iota // to request.member
	isQueued                  // it waits
	isFull                    // it is refused
	isStopping                // it is refused: the application is stopping
	isExpired                 // it is refused: its time was over when it came
	isAnswered                // it has ended meanwhile
)

// decisions are what an App has to do, in this order.
type decisions struct {
	expired  []*request // waited for too long
	overdue  []*request // run for too long
	assigned []*request // their member is chosen
	spawn    []*member
	seal     []*member // surplus
	idle     []*member // to be terminated
	publish  bool      // the published state has changed
}

// admit takes a request or refuses it.
func (p *pool) admit(r *request, now time.Time) verdict {
	if p.stopping {
		p.rejected++
		return isStopping
	}
	if !r.deadline.IsZero() && !r.deadline.After(now) {
		p.rejected++
		return isExpired
	}
	r.number = p.accepted
	if p.queue.depth == 0 {
		if m := p.choose(now); m != nil {
			p.accepted++
			p.deadlines.add(r)
			p.assign(r, m)
			return isAssigned
		}
	}
	if p.full() {
		p.rejected++
		return isFull
	}
	p.accepted++
	r.stage = stageWaiting
	p.queue.push(r)
	p.deadlines.add(r)
	return isQueued
}

// full reports that the queue takes no more. Without a queue it takes as many as the pool,
// grown to its limit, has slots for.
func (p *pool) full() bool {
	if p.profile.QueueLimit >= 0 {
		return p.queue.depth >= p.profile.QueueLimit
	}
	load := 0
	for _, m := range p.members {
		if m.stance != stanceLeaving {
			load += m.load
		}
	}
	return p.queue.depth >= p.profile.PoolLimit*p.profile.Concurrency-load
}

// choose returns the slave with the smallest load below the concurrency; nil if there is
// none.
func (p *pool) choose(now time.Time) *member {
	var best *member
	for _, m := range p.members {
		if m.stance != stanceServing || m.load >= p.profile.Concurrency || best != nil && m.load >= best.load {
			continue
		}
		if m.refused.IsZero() || !m.refused.After(now) {
			best = m
		}
	}
	return best
}

func (p *pool) assign(r *request, m *member) {
	r.stage, r.member = stageRunning, m
	m.load++
	m.accepted++
}

// putBack is a request that its slave did not get: it is the next one, and the slave is
// left alone for a while, since it is ending, or its output is full.
func (p *pool) putBack(r *request, now time.Time) verdict {
	r.member.refused = now.Add(refusalPause)
	p.unassign(r, now)
	switch {
	case r.stage == stageEnded:
		return isAnswered
	case p.closed:
		p.end(r)
		return isStopping
	}
	r.stage = stageWaiting
	p.queue.pushBack(r)
	return isQueued
}

// unassign takes a request off a slave that did not get it.
func (p *pool) unassign(r *request, now time.Time) {
	r.member.accepted--
	p.release(r.member, now)
	r.member = nil
}

// release takes a request off a slave. If it got that one, and was started behind the last
// failure, the next failure is no longer one in a row.
func (p *pool) release(m *member, now time.Time) {
	if m.load--; m.load == 0 {
		m.idle = now
	}
	if m.accepted > 0 && m.began.After(p.failedAt) {
		p.failures = 0
	}
}

// end takes out a request that is answered, or whose client is gone, and returns how far
// it had come. The slot of one that runs is freed by release.
func (p *pool) end(r *request) stage {
	was := r.stage
	if was == stageWaiting {
		p.queue.remove(r)
	}
	p.deadlines.remove(r)
	r.stage = stageEnded
	return was
}

// ready is a slave that takes requests from now on.
func (p *pool) ready(m *member, now time.Time) {
	if m.stance == stanceStarting {
		m.stance, m.idle = stanceServing, now
	}
}

// leaves is a slave that takes no more requests. If nobody has asked it to and it had not
// got a single one, the next slave is not started at once.
func (p *pool) leaves(m *member, now time.Time) {
	if m.stance == stanceLeaving {
		return
	}
	m.stance = stanceLeaving
	if m.accepted > 0 {
		return
	}
	if now.Sub(p.retryAt) >= maxRespawn {
		p.failures = 0
	}
	p.failures++
	p.failedAt = now
	p.retryAt = now.Add(min(maxRespawn, minRespawn<<min(p.failures-1, 5)))
}

// gone is a slave of which nothing is left, or that was never started.
func (p *pool) gone(m *member, crashed bool, now time.Time) {
	i := slices.Index(p.members, m)
	if i < 0 {
		return
	}
	p.members = slices.Delete(p.members, i, i+1)
	p.leaves(m, now)
	if crashed {
		p.crashed++
	}
}

// decide adds what is to be done now to d, and returns when it must be asked again, if
// nothing happens before; zero: never.
func (p *pool) decide(now time.Time, d *decisions) (wake time.Time) {
	for r := p.deadlines.expired(now); r != nil; r = p.deadlines.expired(now) {
		if p.end(r) == stageWaiting {
			d.expired = append(d.expired, r)
		} else {
			d.overdue = append(d.overdue, r)
		}
	}
	if !p.closed { // before it gives them anything
		p.shrink(now, d)
	}
	for p.queue.first != nil && !p.closed {
		m := p.choose(now)
		if m == nil {
			break
		}
		r := p.queue.first
		p.queue.remove(r)
		p.assign(r, m)
		d.assigned = append(d.assigned, r)
	}
	held := !p.closed && p.grow(now, d)
	p.judge(d)
	return p.wake(held)
}

// grow starts slaves, and reports whether it would if it had not to wait.
func (p *pool) grow(now time.Time, d *decisions) (held bool) {
	live, starts := 0, 0
	for _, m := range p.members {
		switch m.stance {
		case stanceStarting:
			starts++
			live++
		case stanceServing:
			live++
		}
	}
	want := min(p.target(live)-live, 2*p.profile.PoolLimit-len(p.members))
	if want <= 0 {
		return false
	}
	if p.failures > 0 && now.Sub(p.retryAt) < maxRespawn {
		if want = min(want, 1-starts); want <= 0 { // until one has come up, one at a time
			return false
		}
	}
	if now.Before(p.retryAt) {
		return true
	}
	for range want {
		m := &member{began: now}
		p.members = append(p.members, m)
		p.spawned++
		d.spawn = append(d.spawn, m)
	}
	return false
}

// target is how many slaves there should be, of which there are live.
func (p *pool) target(live int) int {
	limit := p.profile.PoolLimit
	if p.population > 0 && !p.stopping {
		return min(p.population, limit)
	}
	depth, threshold := p.queue.depth, p.profile.GrowThreshold
	if depth == 0 || live*threshold >= depth {
		return live
	}
	return max(live, min(max(depth/threshold, 1), limit))
}

// shrink ends slaves that are too many or have nothing to do.
func (p *pool) shrink(now time.Time, d *decisions) {
	keep, limit := 0, p.profile.PoolLimit // which a new profile may have lowered
	if p.population > 0 && !p.stopping {
		limit = min(p.population, limit)
		keep = limit
	}
	for p.servers() > limit {
		m := p.leastLoaded()
		m.stance = stanceLeaving
		d.seal = append(d.seal, m)
	}
	servers := p.servers()
	for _, m := range p.members {
		if servers > keep && m.stance == stanceServing && m.load == 0 && now.Sub(m.idle) >= p.profile.IdleTimeout {
			m.stance = stanceLeaving
			servers--
			d.idle = append(d.idle, m)
		}
	}
}

// servers counts the slaves that take requests.
func (p *pool) servers() int {
	n := 0
	for _, m := range p.members {
		if m.stance == stanceServing {
			n++
		}
	}
	return n
}

func (p *pool) leastLoaded() *member {
	var best *member
	for _, m := range p.members {
		if m.stance == stanceServing && (best == nil || m.load < best.load) {
			best = m
		}
	}
	return best
}

// judge says whether the application is to be found by clients.
func (p *pool) judge(d *decisions) {
	now, n := p.published, p.servers()
	switch {
	case p.stopping:
		now = false
	case n >= p.profile.PublishOn && n >= p.profile.UnpublishUnder:
		now = true
	case n < p.profile.UnpublishUnder:
		now = false
	}
	if now != p.published {
		p.published, d.publish = now, true
	}
}

// wake returns the next time that something is due.
func (p *pool) wake(held bool) time.Time {
	next := p.deadlines.next()
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if held {
		sooner(p.retryAt)
	}
	keep, servers := 0, p.servers()
	if p.population > 0 && !p.stopping {
		keep = p.population
	}
	for _, m := range p.members {
		if m.stance != stanceServing {
			continue
		}
		if m.load == 0 && servers > keep && !p.closed && p.profile.IdleTimeout < forever {
			sooner(m.idle.Add(p.profile.IdleTimeout))
		}
		if p.queue.depth > 0 && m.load < p.profile.Concurrency {
			sooner(m.refused)
		}
	}
	return next
}

// stop takes no requests any more. What is there goes on.
func (p *pool) stop() { p.stopping = true }

// close ends the deciding: it returns the requests that still wait, which have ended.
func (p *pool) close() (left []*request) {
	p.stopping, p.closed = true, true
	for p.queue.first != nil {
		r := p.queue.first
		p.end(r)
		left = append(left, r)
	}
	return left
}

// drained reports that no request waits or runs.
func (p *pool) drained() bool {
	for _, m := range p.members {
		if m.load > 0 {
			return false
		}
	}
	return p.queue.depth == 0
}
