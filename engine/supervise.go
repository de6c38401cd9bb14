package engine

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

const (
	lingerTimeout = time.Second      // a worker that said terminate has to close
	outputTimeout = time.Second      // from the death of the group to the end of its output
	drainTimeout  = 10 * time.Second // to read what a dead worker has sent; above session.Config.MaxPause
)

// supervisor is the one goroutine that moves a slave from state to state.
type supervisor struct {
	s     *Slave
	timer *time.Timer // what it is for depends on the state

	seal, terminate <-chan struct{} // nil once taken
	kill            <-chan struct{}

	orderly  bool        // we asked it to end
	unheard  atomic.Bool // and its channel was over by then
	verdict  *SlaveError // why it ends, if not because we asked
	pressure pressure

	life   context.Context // of what waits for the worker's channel
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// pressure says what a terminating process has got so far.
type pressure uint8

const (
	patience pressure = iota // nothing, or a terminate
	termed                   // SIGTERM
	killed                   // SIGKILL
)

// newSupervisor takes over a slave whose process runs.
func newSupervisor(s *Slave) *supervisor {
	v := &supervisor{
		s: s, timer: time.NewTimer(s.cfg.HandshakeTimeout),
		seal: s.seal.asked, terminate: s.terminate.asked, kill: s.kill.asked,
	}
	v.life, v.cancel = context.WithCancel(context.Background())
	s.fire(evStarted)
	return v
}

// run supervises until the slave is gone.
func (v *supervisor) run() {
	s := v.s
	s.log.Debug("engine: the worker runs", "pid", s.proc.pid())
	for s.State() != Gone {
		select {
		case n := <-s.notes:
			v.noted(n)
		case <-v.seal:
			v.seal = nil
			v.sealed()
		case <-v.terminate:
			v.terminate = nil
			v.end(s.code, s.reason)
		case <-v.kill:
			v.kill = nil
			v.killNow()
		case <-v.timer.C:
			v.timeout()
		case <-s.proc.ended():
			v.exited()
		}
	}
	close(s.done)
}

// noted takes what a link, or the last session, tells.
func (v *supervisor) noted(n note) {
	switch n.on {
	case evReady:
		if v.s.fire(evReady) {
			v.timer.Stop()
			close(v.s.ready)
			v.s.log.Debug("engine: the worker is ready", "pid", v.s.proc.pid(), "after", time.Since(v.s.began))
		}
	case evLost:
		v.lost(n.why)
	case evTerminate: // idle
		v.end(v.code(SlaveSealed), "slave is sealing")
	}
}

// timeout is the end of the time that the state allows.
func (v *supervisor) timeout() {
	switch v.s.State() {
	case Handshaking:
		v.lost(&SlaveError{Code: SlaveActivateTimeout, Reason: fmt.Sprintf("not ready within %v", v.s.cfg.HandshakeTimeout)})
	case Sealing:
		v.verdict = &SlaveError{Code: SlaveSealTimeout, Reason: fmt.Sprintf("its sessions did not end within %v", v.s.cfg.SealTimeout)}
		v.end(v.code(SlaveSealTimeout), "sessions did not end in time")
	case Terminating:
		if v.verdict == nil {
			v.verdict = &SlaveError{Code: SlaveTerminateTimeout, Reason: "it did not end in time after a terminate"}
		}
		v.press()
	}
}

// sealed lets open sessions end.
func (v *supervisor) sealed() {
	if !v.s.fire(evSeal) {
		v.end(v.code(SlaveSealed), "slave is sealing")
		return
	}
	v.timer.Reset(v.s.cfg.SealTimeout)
	v.s.noteIdle()
}

// code is what a terminate of ours says: v0 knows 1, normal, and 2.
func (v *supervisor) code(c SlaveCode) int64 {
	if v.s.cfg.Dialect == codec.V0 {
		return 1
	}
	return int64(c)
}

// end asks the worker to end, if nobody has.
func (v *supervisor) end(code int64, reason string) {
	if !v.leave(evTerminate) {
		return
	}
	v.orderly = true
	k := v.s.link.Load()
	if k == nil { // it would not hear us
		v.press()
		return
	}
	v.timer.Reset(v.s.cfg.TerminateTimeout)
	v.wg.Go(func() {
		f := codec.Frame{Kind: codec.KindTerminate, Code: code, Text: reason}
		v.unheard.Store(k.ch.SendOffLoop(v.life, &f) != nil) // the channel was over before
	})
}

// lost is the end of the worker's channel, or a deadline that has passed.
func (v *supervisor) lost(why *SlaveError) {
	if !v.leave(evLost) {
		return // it is terminating, and this is the answer, or comes too late to matter
	}
	v.verdict = why
	switch why.Code {
	case SlaveSuicide:
		v.timer.Reset(v.s.cfg.TerminateTimeout)
	case SlaveControlIPC:
		if why.Err != nil {
			v.press()
			return
		}
		v.timer.Reset(v.s.cfg.KillTimeout) // most likely it has died
	default:
		v.press()
	}
}

// leave enters Terminating, and reports whether it was not entered before.
func (v *supervisor) leave(on event) bool {
	before := v.s.State()
	if !v.s.fire(on) || before == Terminating {
		return false
	}
	v.s.lobby.forget(v.s)
	v.timer.Stop()
	if before == Handshaking {
		close(v.s.ready)
	}
	return true
}

// press sends the next signal to the group, and sets the time for the one after it.
func (v *supervisor) press() {
	if v.pressure++; v.pressure == termed {
		v.s.proc.signal(syscall.SIGTERM)
		v.timer.Reset(v.s.cfg.KillTimeout)
		return
	}
	v.pressure = killed
	v.timer.Stop()
	v.s.proc.signal(syscall.SIGKILL)
}

// killNow is what Kill asked for.
func (v *supervisor) killNow() {
	v.leave(evTerminate)
	if v.verdict == nil {
		v.verdict = &SlaveError{Code: SlaveKilled, Reason: "Kill was called"}
	}
	v.pressure = termed
	v.press()
}

// exited is the end of the leader, and with it of the slave.
func (v *supervisor) exited() {
	s := v.s
	v.leave(evExited)
	hungUp := v.verdict != nil && v.verdict.Code == SlaveControlIPC && v.verdict.Err == nil && v.pressure == patience
	if hungUp || v.verdict == nil && !v.orderly {
		v.verdict = &SlaveError{Code: SlaveExited, Reason: "the process ended by itself"}
	}
	s.status = v.clear()
	if v.verdict == nil && v.unheard.Load() && v.pressure == patience {
		v.verdict = &SlaveError{Code: SlaveExited, Reason: "the process ended by itself"}
	}
	if v.verdict != nil {
		v.verdict.Status, v.verdict.Output = s.status, s.out.last()
		s.err = v.verdict
	}
	s.fire(evGone)
	s.log.Debug("engine: the worker is gone", "status", s.status, "err", s.err)
	v.tellGone()
}

// clear leaves nothing of a slave whose leader has ended.
func (v *supervisor) clear() (status string) {
	s := v.s
	if v.pressure == termed { // the rest of the group got SIGTERM too: it has its time
		select {
		case <-s.out.ended:
		case <-v.timer.C:
		case <-s.kill.asked:
		}
	}
	v.timer.Stop()
	status = s.proc.reap()
	if !s.out.finish(outputTimeout) {
		s.log.Warn("engine: SlaveConfig.Output does not return; its goroutine is left behind")
	}
	v.awaitChannel()
	v.cancel()
	if s.home.lobby != nil {
		s.lobby.part(s)
	} else if err := s.lobby.close(); err != nil {
		s.log.Warn("engine: clearing away the worker's socket", "err", err)
	}
	v.wg.Wait()
	return status
}

// awaitChannel has what the worker sent before it died come to those who read it.
func (v *supervisor) awaitChannel() {
	k := v.s.link.Load()
	if k == nil {
		return
	}
	v.timer.Reset(drainTimeout)
	defer v.timer.Stop()
	select {
	case <-k.ch.Done():
	case <-v.timer.C:
	case <-v.s.kill.asked:
	}
}

// tellGone calls the user's OnGone.
func (v *supervisor) tellGone() {
	defer func() {
		if p := recover(); p != nil {
			v.s.log.Error("engine: SlaveConfig.OnGone panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if v.s.cfg.OnGone != nil {
		v.s.cfg.OnGone(v.s.err)
	}
}
