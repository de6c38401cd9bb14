package engine

import (
	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// link is one connection that came into the lobby, and from its handshake on the slave's
// channel. It is the owner of its session table; everything runs on its loop.
type link struct {
	lobby *lobby
	table *session.Table
	ch    *channel.Channel
	gone  chan struct{} // closed when nothing is left of it

	slave   *Slave // nil before the handshake
	active  bool   // the slave was told that it is ready
	left    bool   // the worker said terminate
	silence *channel.Timer
	heardAt uint64 // bytes received when silence was set
	cause   *SlaveError
}

// OnOpen is for the table.
func (k *link) OnOpen() {}

// OnInvoke is for the table, which lets no worker invoke.
func (k *link) OnInvoke(*session.Session) {}

// OnHandshake gives the link to its slave. A stranger is closed without an answer, and
// the slave that it may have wanted to be waits on (protocol: worker).
func (k *link) OnHandshake(uuid []byte) {
	s := k.lobby.claim(uuid, k)
	if s == nil {
		k.ch.Fail(&channel.CloseError{Code: channel.CodeBadHandshake, Remote: true, Reason: "nobody with this uuid is expected"})
		return
	}
	k.slave = s
	k.silence = k.ch.NewTimer(k.silent)
	if k.ch.Dialect() == codec.V1 {
		k.activate()
	}
}

// close ends the link. Any goroutine.
func (k *link) close() {
	k.ch.Post(func() { k.ch.Fail(&channel.CloseError{Code: channel.CodeClosed}) })
}

// activate makes the slave active: by the handshake in v1, by the first heartbeat in v0
// (protocol: worker).
func (k *link) activate() {
	k.active = true
	k.listen()
	k.slave.notes <- note{on: evReady}
}

// OnHeartbeat answers the worker's heartbeat.
func (k *link) OnHeartbeat() {
	_ = k.ch.SendHeartbeat() // or the channel is ending
	if !k.active {
		k.activate()
		return
	}
	k.listen()
}

// listen begins the time in which the worker must be heard.
func (k *link) listen() {
	k.heardAt = k.ch.Received()
	k.silence.Reset(k.slave.cfg.HeartbeatTimeout)
}

// silent is the end of that time. Before the verdict one more read turn runs: if we were
// stopped or our loop was busy, the worker's bytes are waiting.
func (k *link) silent() {
	k.ch.Poll()
	k.ch.Post(func() {
		if k.silence.Active() { // a heartbeat came
			return
		}
		if k.ch.Received() != k.heardAt || k.ch.Unread() {
			k.listen()
			return
		}
		why := "nothing was heard for " + k.slave.cfg.HeartbeatTimeout.String()
		k.cause = &SlaveError{Code: SlaveHeartbeatTimeout, Reason: why}
		k.ch.Fail(&channel.CloseError{Code: channel.CodeDisowned, Reason: why, Remote: true})
	})
}

// OnTerminate is the worker's wish to end, or its answer to ours: nothing more will come.
// What we have sent leaves, then the channel closes, which cuts open sessions.
func (k *link) OnTerminate(code int64, reason []byte) {
	if k.left {
		return
	}
	k.left = true
	k.silence.Stop()
	k.cause = &SlaveError{Code: SlaveSuicide, Reason: string(reason), WorkerCode: code}
	k.slave.notes <- note{on: evLost, why: k.cause}
	k.ch.Drain(&channel.CloseError{Code: channel.CodeTerminated, Reason: string(reason), Remote: true}, true, lingerTimeout)
}

// OnClose is the end of the channel; every session was cut.
func (k *link) OnClose(err *channel.CloseError) {
	switch {
	case k.slave == nil:
		if err.Code != channel.CodeClosed { // which is our own end
			k.lobby.strangers.Add(1)
		}
		return
	case k.left:
		return
	case k.cause == nil:
		k.cause = lostTo(err)
	}
	k.silence.Stop()
	k.slave.notes <- note{on: evLost, why: k.cause}
}

// lostTo says why a channel ended that nobody here ended. Without Err the worker closed
// it, most likely by dying.
func lostTo(err *channel.CloseError) *SlaveError {
	switch err.Code {
	case channel.CodeEOF, channel.CodeTruncated, channel.CodeReset:
		return &SlaveError{Code: SlaveControlIPC, Reason: "the worker closed its channel"}
	}
	return &SlaveError{Code: SlaveControlIPC, Reason: "its channel failed", Err: err}
}

// settled is told of each session that is over.
func (k *link) settled(*session.Session) { k.slave.settled() }
