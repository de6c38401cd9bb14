package worker

import (
	"math"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// events keeps the table's callbacks out of Worker's method set.
type events struct{ w *Worker }

// OnOpen shakes hands and beats at once: a v1 engine takes the handshake for the start,
// a v0 engine the first heartbeat.
func (e events) OnOpen() {
	w := e.w
	w.fire(evOpen)
	hello := codec.Frame{Kind: codec.KindHandshake, Text: w.cfg.UUID, Headers: w.t.Offer()}
	if err := w.ch.Send(&hello); err != nil {
		w.ch.Fail(&channel.CloseError{Code: channel.CodeBadHandshake, Reason: "the handshake cannot be sent", Err: err})
		return
	}
	w.sendBeat()
	if w.cfg.Observer.OnConnect != nil {
		w.cfg.Observer.OnConnect()
	}
	for _, f := range w.early.open() {
		f()
	}
}

func (e events) OnHandshake([]byte) {} // the table refuses an engine's handshake

// OnHeartbeat is the engine's answer.
func (e events) OnHeartbeat() {
	e.w.pending, e.w.doubt = false, false
	e.w.disown.Stop()
}

// sendBeat sends a heartbeat, and sets the disown deadline if none is pending.
func (w *Worker) sendBeat() {
	if w.ch.SendHeartbeat() != nil {
		return
	}
	w.counts.heartbeats++
	if w.cfg.Heartbeat != math.MaxInt64 {
		w.beat.Reset(w.cfg.Heartbeat)
	}
	if w.cfg.Disown == math.MaxInt64 || w.pending && !w.heard() {
		return
	}
	w.pending, w.doubt, w.heardAt = true, false, w.ch.Received()
	w.disown.Reset(w.cfg.Disown)
}

// heard reports a sign of life since the deadline was set.
func (w *Worker) heard() bool {
	if w.cfg.StrictDisown {
		return !w.pending
	}
	return w.ch.Received() != w.heardAt || w.ch.Unread()
}

// lastLook is the time between the disown deadline and the verdict. A process that was
// stopped, or a loop that was blocked, finds the engine's bytes waiting; not every
// transport reads them before the timers run.
const lastLook = 50 * time.Millisecond

// silent is the disown deadline, and lastLook later the verdict.
func (w *Worker) silent() {
	switch {
	case w.heard():
		w.pending, w.doubt = false, false
	case w.doubt:
		w.disowned()
	default:
		w.doubt = true
		w.disown.Reset(lastLook)
		w.ch.Poll()
	}
}

func (w *Worker) disowned() {
	w.log.Error("worker: disowned", "silence", w.cfg.Disown)
	w.result = ErrDisowned
	w.ch.Fail(&channel.CloseError{Code: channel.CodeDisowned, Err: ErrDisowned})
	if w.cfg.Observer.OnDisown != nil {
		w.cfg.Observer.OnDisown()
	}
}

// OnTerminate is the engine's wish to end, or its answer to ours.
func (e events) OnTerminate(code int64, reason []byte) {
	w := e.w
	before := w.State()
	if !w.fire(evTerminate) {
		return
	}
	if before == Stopping {
		if w.answered && w.ch.Stats().QueuedBytes == 0 { // it is the answer: nothing more will come
			w.ch.Fail(&channel.CloseError{Code: channel.CodeTerminated, Reason: string(reason)})
		}
		return
	}
	w.asked = terminate{code, string(reason)}
	if w.cfg.Dialect == codec.V0 {
		w.asked.code = terminateNormal // 2 would break the whole application
		if code == terminateAbnormal {
			w.result = &TerminateError{code, string(reason)}
		}
	}
	w.log.Debug("worker: the engine terminates", "code", code, "reason", string(reason), "running", w.t.Len())
	w.startGrace()
	if w.cfg.Observer.OnTerminate != nil {
		w.cfg.Observer.OnTerminate(code, string(reason))
	}
	w.finishIfIdle()
}

// startGrace gives the running sessions their time to finish.
func (w *Worker) startGrace() {
	if w.cfg.Grace != math.MaxInt64 {
		w.grace.Reset(w.cfg.Grace)
	}
}

// finishIfIdle says terminate behind all data once nothing runs. From then on it is
// the engine's turn to close.
func (w *Worker) finishIfIdle() {
	if w.answered || w.State() != Terminated && w.State() != Stopping || w.active > 0 || w.t.Len() > 0 {
		return
	}
	w.answered = true
	w.beat.Stop()
	w.disown.Stop()
	_ = w.ch.Send(&codec.Frame{Kind: codec.KindTerminate, Code: w.asked.code, Text: w.asked.reason})
	w.ch.Drain(&channel.CloseError{Code: channel.CodeTerminated, Reason: w.asked.reason}, false, math.MaxInt64)
}

// lastWords is how long, after the grace, the last frames have to leave. Engines kill
// a second (v0) or two after the grace.
const lastWords = time.Second / 2

// graceOver cuts what still runs, and soon after the connection.
func (w *Worker) graceOver() {
	if w.overdue || w.answered && w.ch.Stats().QueuedBytes == 0 {
		w.ch.Fail(&channel.CloseError{Code: channel.CodeTerminated, Reason: w.asked.reason})
		return
	}
	w.overdue = true
	w.grace.Reset(lastWords)
	if !w.answered {
		w.log.Warn("worker: the grace is over; sessions are cut", "running", w.active, "open", w.t.Len())
		w.active = 0 // whoever still runs has nobody to answer
		w.cutAll("the worker is terminating")
		w.finishIfIdle()
	}
}

// cutAll fails every session, waiting ones too, and cancels the handlers.
func (w *Worker) cutAll(reason string) {
	w.waiting = nil
	w.cancel(ErrTerminating)
	w.t.End(session.CodeTerminating, reason)
}

// settled is told of every session that is over.
func (w *Worker) settled(*Session) { w.finishIfIdle() }

// OnClose is the end of the channel; every session was cut.
func (e events) OnClose(err *channel.CloseError) {
	w := e.w
	lost := w.result == nil
	w.result = w.ended(err)
	w.beat.Stop()
	w.disown.Stop()
	w.grace.Stop()
	w.waiting = nil
	w.fire(evLost)
	if lost && w.result != nil && w.cfg.Observer.OnError != nil {
		w.cfg.Observer.OnError(w.result)
	}
}
