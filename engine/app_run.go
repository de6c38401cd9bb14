package engine

import (
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// turn has the pool decide, and does what it decided. Any goroutine; it does not block,
// and no lock is held when it calls anything.
func (a *App) turn() {
	var d decisions
	a.mu.Lock()
	a.decideLocked(&d)
	a.mu.Unlock()
	a.carryOut(&d)
}

func (a *App) decideLocked(d *decisions) {
	now := time.Now()
	a.armLocked(now, a.pool.decide(now, d))
	a.workers.Add(len(d.spawn))
	if a.pool.stopping && a.pool.drained() {
		a.drained.Do(func() { close(a.empty) })
	}
}

// armLocked has the keeper wake up at a time; zero: it need not.
func (a *App) armLocked(now, wake time.Time) {
	if !wake.IsZero() && (a.armed.IsZero() || wake.Before(a.armed)) {
		a.armed = wake
		a.timer.Reset(wake.Sub(now))
	}
}

// carryOut does what the pool decided.
func (a *App) carryOut(d *decisions) {
	for _, r := range d.expired {
		r.refuse(answerExpired)
	}
	for _, r := range d.overdue {
		r.cut()
	}
	for _, r := range d.assigned {
		r.assign(r.member)
	}
	for _, m := range d.spawn {
		go a.serve(m)
	}
	for _, m := range d.seal {
		m.slave.seal.now()
	}
	for _, m := range d.idle {
		m.slave.askTerminate(a.code(SlaveIdle), "slave is idle")
	}
	if d.publish {
		select {
		case a.poke <- struct{}{}:
		default:
		}
	}
}

// code is what a terminate says: v0 knows 1, normal, and 2 (protocol: worker, v0).
func (a *App) code(c SlaveCode) int64 {
	if a.cfg.Dialect == codec.V0 {
		return 1
	}
	return int64(c)
}

// keep wakes the pool when something is due, and tells who wants to know whether the
// application is to be found.
func (a *App) keep() {
	defer close(a.kept)
	told := false
	for over := false; !over; {
		select {
		case <-a.timer.C:
			a.mu.Lock()
			a.armed = time.Time{}
			a.mu.Unlock()
			a.turn()
		case <-a.poke:
		case <-a.quit:
			over = true
		}
		a.mu.Lock()
		published := a.pool.published
		a.mu.Unlock()
		if published != told {
			told = published
			a.tell("OnPublish", func() {
				if a.cfg.OnPublish != nil {
					a.cfg.OnPublish(told)
				}
			})
		}
	}
}

// tell calls the user.
func (a *App) tell(what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("engine: AppConfig."+what+" panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// serve is the life of one slave.
func (a *App) serve(m *member) {
	defer a.workers.Done()
	s, err := a.spawn(a.home(m), a.slaveConfig())
	if err == nil {
		a.mu.Lock()
		closed, killed := a.pool.closed, a.killed
		a.mu.Unlock()
		if closed {
			a.endSlave(s, killed)
		}
		<-s.Done()
		err = s.Err()
	}
	a.mu.Lock()
	crash, crashed := a.crashLocked(m, err)
	a.pool.gone(m, crashed, time.Now())
	if crashed {
		a.crashes.add(crash)
	}
	a.mu.Unlock()
	a.turn()
	if crashed {
		a.log.Warn("engine: a worker is gone that nobody asked to go", "uuid", crash.UUID, "err", err)
		crash.Lines = slices.Clone(crash.Lines)
		a.tell("OnCrash", func() {
			if a.cfg.OnCrash != nil {
				a.cfg.OnCrash(crash)
			}
		})
	}
}

// crashLocked describes the end of a slave, and reports whether it was a crash. Those
// that we kill at the end are none.
func (a *App) crashLocked(m *member, err error) (Crash, bool) {
	if err == nil {
		return Crash{}, false
	}
	c := Crash{Time: time.Now(), Name: a.cfg.Name, Code: SlaveSpawnFailed, Reason: err.Error()}
	if m.slave != nil {
		c.UUID = m.slave.uuid
	}
	if e := (*SlaveError)(nil); errors.As(err, &e) {
		c.Code, c.Reason, c.Status, c.Lines = e.Code, e.Reason, e.Status, e.Output
		if e.Err != nil {
			c.Reason += ": " + e.Err.Error()
		}
	}
	return c, c.Code != SlaveKilled || !a.killed
}

// home says where a slave of the App belongs.
func (a *App) home(m *member) home {
	return home{
		lobby:   a.lobby,
		moved:   func(s *Slave, to State) { a.moved(m, s, to) },
		settled: func(*Slave) { a.settled(m) },
	}
}

// moved is a slave in another state. On its supervisor.
func (a *App) moved(m *member, s *Slave, to State) {
	a.mu.Lock()
	if m.slave == nil { // which is read without the lock from then on
		m.slave = s
	}
	switch to {
	case Active:
		if !a.pool.closed {
			a.pool.ready(m, time.Now())
		}
	case Sealing, Terminating:
		a.pool.leaves(m, time.Now())
	}
	a.mu.Unlock()
	a.turn()
}

// settled is a request less of a slave. On the loop of its channel.
func (a *App) settled(m *member) {
	now := time.Now()
	a.mu.Lock()
	a.pool.release(m, now)
	if a.pool.queue.depth > 0 || a.pool.stopping {
		var d decisions
		a.decideLocked(&d)
		a.mu.Unlock()
		a.carryOut(&d)
		return
	}
	if idle := a.pool.profile.IdleTimeout; m.load == 0 && idle < forever {
		a.armLocked(now, now.Add(idle))
	}
	a.mu.Unlock()
}

// slaveConfig is that of a slave to be spawned now.
func (a *App) slaveConfig() SlaveConfig {
	p := a.Profile()
	cfg := SlaveConfig{
		Command: a.cfg.Command, Dir: a.cfg.Dir, Env: a.cfg.Env,
		App: a.cfg.Name, Locator: a.cfg.Locator, Dialect: a.cfg.Dialect,
		HandshakeTimeout: p.HandshakeTimeout, HeartbeatTimeout: p.HeartbeatTimeout,
		SealTimeout: p.SealTimeout, TerminateTimeout: p.TerminateTimeout, KillTimeout: a.cfg.KillTimeout,
		MaxOutputLines: p.CrashlogLimit, Sessions: a.cfg.Sessions, Logger: a.cfg.Logger,
	}
	cfg.Sessions.Channel.Loops = a.cfg.Loops
	if p.LogOutput {
		cfg.Output = &lineLogger{log: a.log}
	}
	return cfg
}
