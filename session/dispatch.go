package session

import (
	"runtime/debug"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

const (
	maxNumber    = 1<<64 - 1 // the last number that a session can have
	maxUUIDBytes = 1 << 10   // of a handshake
)

// events keeps the channel's callbacks out of Table's method set.
type events struct{ t *Table }

func (e events) OnOpen(*channel.Channel) { e.t.cfg.Owner.OnOpen() }

func (e events) OnWritable() { e.t.writable() }

// OnMessage takes nearly all traffic, which is chunks of streams whose handlers wait for
// nothing, the shortest way.
func (e events) OnMessage(m *codec.Message, headers []codec.Header) {
	t := e.t
	s := t.ids.get(m.Session)
	if s == nil || s.rx != t.chunk.Next || m.Type != t.chunk.Type || len(m.Payload) == 0 || m.Extra > 0 || !s.direct() {
		t.message(m, headers)
		return
	}
	if t.ext.credit.on && s.streamed && !t.handedOver(s, int64(len(m.Payload))) {
		return
	}
	s.empty = 0
	if s.slot != t.chunk { // each store of a pointer asks the collector
		s.slot = t.chunk
	}
	t.told = told{s, s.handler, len(m.Payload)}
	s.handler.OnChunk(s, m.Payload)
	if s.later {
		s.keepsLater(t.told.n)
	}
}

// Survive is for the channel: a panic in a handler's OnChunk is for the handler, if it is a
// survivor.
func (e events) Survive(v any) bool {
	last := e.t.told
	e.t.told = told{}
	h, ok := last.h.(survivor)
	if last.s == nil || !ok || !h.Survive(last.s, v) {
		return false
	}
	if last.s.later {
		last.s.keepsLater(last.n)
	}
	return true
}

// message takes every message.
func (t *Table) message(m *codec.Message, headers []codec.Header) {
	t.told = told{}
	switch {
	case t.cfg.Role == Engine && !t.shaken:
		t.handshake(m, headers)
	case t.extended(m):
	case t.cfg.Role == Client || t.cfg.Role == Server:
		t.messageOfCalls(m, headers)
	case t.ch.Dialect() == codec.V0:
		t.messageV0(m, headers)
	default:
		t.messageV1(m, headers)
	}
}

// OnClose ends every session once, with the cause and with what is known of its
// delivery.
func (e events) OnClose(err *channel.CloseError) {
	t := e.t
	t.pause.timer.Stop()
	t.ext.credit.end()
	list := t.ids.all()
	t.ids, t.pause = ids{}, pauses{timer: t.pause.timer}
	t.counts.open.Store(0)
	t.counts.sending.n.Store(0)
	t.counts.receiving.n.Store(0)
	for _, s := range list {
		s.rx, s.installed, s.parked, s.hungry = nil, false, false, false
	}
	for _, s := range list {
		t.lost(s, err)
	}
	t.cfg.Owner.OnClose(err)
}

// lost ends a session whose channel is gone. A handler that panics does not keep the
// others from their end.
func (t *Table) lost(s *Session, err *channel.CloseError) {
	defer func() {
		if v := recover(); v != nil {
			t.log.Error("session: OnError panicked", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	cut := &Error{Message: "the channel was lost", Err: err}
	if s.openedAt >= t.ch.Written() {
		cut.Delivery = NotSent
	}
	s.cutOff(cut)
	s.flushAtEnd() // if it was cut before
	s.tellEnded()
}

// bad closes the channel: the peer broke the protocol in a way that concerns all.
func (t *Table) bad(code channel.Code, why string) {
	t.ch.Fail(&channel.CloseError{Code: code, Reason: why, Remote: true})
}

// handshake is a worker's first frame, and nothing else is (protocol: worker).
func (t *Table) handshake(m *codec.Message, headers []codec.Header) {
	typ, control := uint64(codec.V0Handshake), uint64(0)
	if t.ch.Dialect() == codec.V1 {
		typ, control = codec.V1Handshake, codec.V1ControlSession
	}
	if m.Type != typ || m.Session != control || len(m.Payload) == 0 || len(m.Payload) > maxUUIDBytes {
		t.bad(channel.CodeBadHandshake, "the first frame is no handshake with a uuid")
		return
	}
	t.shaken = true
	t.chunk = streamChunk(t.ch.Dialect())
	t.offered(headers)
	t.cfg.Owner.OnHandshake(m.Payload)
}

// messageV0 classifies by type; the control messages use session 0.
func (t *Table) messageV0(m *codec.Message, headers []codec.Header) {
	switch {
	case m.Extra == 1: // v0 runtimes close here, too
		t.bad(channel.CodeBadFrame, "a frame of four elements: the peer speaks v1")
	case m.Type == codec.V0Invoke:
		t.invokedV0(m, headers)
	case m.Type >= codec.V0Chunk: // beyond the choke: of unknown type
		t.toSession(m)
	case m.Session != 0:
		t.bad(channel.CodeBadSession, "a control message on a data session")
	case m.Type == codec.V0Handshake:
		t.bad(channel.CodeBadHandshake, "a handshake that was not expected")
	case m.Type == codec.V0Heartbeat:
		t.heartbeat()
	default:
		t.terminate(m)
	}
}

func (t *Table) invokedV0(m *codec.Message, headers []codec.Header) {
	switch {
	case t.cfg.Role == Engine:
		t.stray()
	case m.Session == 0:
		t.bad(channel.CodeBadSession, "an invoke on the control session")
	case m.Session <= t.highest:
		t.badOrder()
	default:
		t.invoked(m, headers)
	}
}

// badOrder refuses a number that was used before, or any after the last one.
func (t *Table) badOrder() {
	if t.highest == maxNumber {
		t.bad(channel.CodeExhausted, "the last session number has been used")
		return
	}
	t.bad(channel.CodeBadSession, "an invoke with a number that is not higher than all before")
}

// messageV1 classifies by number: 1 is the control channel, a number above the
// highest seen is new, the others are sessions.
func (t *Table) messageV1(m *codec.Message, headers []codec.Header) {
	switch {
	case m.Session == codec.V1ControlSession:
		t.control(m)
	case t.cfg.Role == Engine || m.Session <= t.highest:
		t.toSession(m)
	case isInvoke(m):
		t.invoked(m, headers)
	default:
		t.highest = m.Session
		t.stray()
	}
}

// isInvoke reports whether a v1 message could open a session.
func isInvoke(m *codec.Message) bool { return m.Type == codec.V1Invoke && m.Payload != nil }

// control takes a message of v1's control channel. Heartbeats may have any arguments,
// so only a worker's second handshake can be told from one.
func (t *Table) control(m *codec.Message) {
	switch {
	case m.Type == codec.V1Terminate:
		t.terminate(m)
	case m.Type != codec.V1Heartbeat:
		t.stray()
	case t.cfg.Role == Engine && m.Payload != nil:
		t.bad(channel.CodeBadHandshake, "a second handshake")
	default:
		t.heartbeat()
	}
}

func (t *Table) heartbeat() {
	t.counts.heartbeats.inc()
	if t.beats.spend() {
		t.flood("heartbeats")
		return
	}
	t.cfg.Owner.OnHeartbeat()
}

func (t *Table) terminate(m *codec.Message) {
	r := m.Reader()
	code, reason := r.Int64(), r.Bytes()
	if r.Err() != nil {
		t.bad(channel.CodeBadFrame, "a terminate without code and reason")
		return
	}
	t.cfg.Owner.OnTerminate(code, reason)
}

// invoked takes a session that the peer opens.
func (t *Table) invoked(m *codec.Message, headers []codec.Header) {
	t.highest = m.Session
	switch {
	case m.Payload == nil:
		t.refuse(m.Session, CodeMalformed, "an invoke without an event")
	case len(m.Payload) > t.cfg.MaxNameBytes:
		t.refuse(m.Session, CodeNameTooLong, "the event's name is too long")
	case t.ids.count >= t.cfg.MaxSessions:
		t.refuse(m.Session, CodeTooManySessions, "too many sessions are open")
	default:
		stream := Stream(t.ch.Dialect())
		s := t.newSession(string(m.Payload), stream, stream)
		s.id = m.Session
		s.headers = codec.CloneHeaders(headers)
		t.install(s)
		t.cfg.Owner.OnInvoke(s)
	}
}

// refuse answers an invoke with an error and keeps nothing of it; what still comes for
// the number is late.
func (t *Table) refuse(id uint64, code int64, why string) {
	t.counts.refused.inc()
	f := codec.Frame{Kind: codec.KindError, Session: id, Category: CategoryWorker, Code: code, Text: why}
	if t.ch.SendOf(nil, &f, channel.Last) == channel.ErrFull {
		t.owe(owed{f: f})
	}
	t.spendCancel()
}

// toSession hands a message to its session, or drops it.
func (t *Table) toSession(m *codec.Message) {
	s := t.ids.get(m.Session)
	if t.ext.credit.on && !t.received(s, m) {
		return
	}
	switch {
	case s != nil:
		s.receive(m)
	case m.Session == 0 || m.Session > t.highest:
		t.stray()
	case t.highest == maxNumber && t.cfg.Role == Worker && isInvoke(m): // v1 only: in v0 it is a handshake
		t.badOrder()
	default:
		t.counts.late.inc()
	}
}

// repeated drops a message of a direction that has ended. Where the live runtime closes
// the connection for it, so do we.
func (t *Table) repeated() {
	if t.strict && !t.lenient {
		t.bad(channel.CodeBadSession, "a message behind the last one of its session")
		return
	}
	t.counts.repeated.inc()
}

// misplaced is a message that the graph does not have now, likewise.
func (t *Table) misplaced(s *Session) {
	if t.strict {
		t.bad(channel.CodeBadType, "a message that may not come now")
		return
	}
	t.failSession(s, CodeUnknownType, "a message of this type may not come now")
}

// malformed is a chunk without data, likewise.
func (t *Table) malformed(s *Session) {
	if t.strict {
		t.bad(channel.CodeBadFrame, "a chunk without data")
		return
	}
	t.failSession(s, CodeMalformed, "a chunk without data")
}
