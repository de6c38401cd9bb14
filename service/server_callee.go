package service

import (
	"bytes"
	"net"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Callee serves a Server's methods on one channel. The server makes one for each of its
// clients. Whoever has a channel of his own, such as a client that is called back over
// the connection that it made, asks Server.Callee for one: his session.Owner passes
// Opening, OnCall and OnClose on to it, his session.Config has its OnSettled, and Bind
// tells it the table before the channel is opened. Such a channel is v1, and Server.Close
// ends its calls but not the channel.
type Callee struct {
	// immutable
	server  *Server
	loops   *channel.Loops
	owned   bool // the channel is the server's
	table   *session.Table
	peer    net.Addr
	dialect codec.Dialect

	running atomic.Int64 // Serve methods

	// owned by the loop
	calls   map[*session.Session]*Call // that are not over
	current *Call                      // whose OnLoop runs
}

// Callee returns what serves the methods on one more channel; see there.
func (s *Server) Callee() *Callee { return &Callee{server: s, calls: make(map[*session.Session]*Call)} }

// Bind tells the table that the calls will come by, and the peer's address for Call.Peer;
// it may be nil. To be called once, before the channel is opened. Any goroutine.
func (k *Callee) Bind(t *session.Table, peer net.Addr) {
	k.table, k.peer, k.dialect = t, peer, t.Channel().Dialect()
	k.server.mu.Lock()
	k.server.callees[k] = true
	k.server.mu.Unlock()
}

// newTable returns the table of a client's channel.
func (k *Callee) newTable() (*session.Table, error) {
	cfg := k.server.cfg.Sessions
	cfg.Role, cfg.Owner, cfg.OnSettled = session.Server, connOwner{k}, k.OnSettled
	cfg.Channel.Dialect, cfg.Channel.Loops = k.server.dialect, k.loops
	return session.New(cfg)
}

// connOwner is the Owner of a channel that the server accepted: calls and its end are all
// that it has to know.
type connOwner struct{ *Callee }

func (connOwner) OnOpen()                   {}
func (connOwner) OnInvoke(*session.Session) {}
func (connOwner) OnHandshake([]byte)        {}
func (connOwner) OnHeartbeat()              {}
func (connOwner) OnTerminate(int64, []byte) {}

// Opening is for the session's table. On the loop.
func (k *Callee) Opening(typ uint64) (session.Opening, bool) {
	m := k.server.methods[typ]
	if m == nil || m.Unbound {
		k.server.counts.unknown.Add(1)
		return session.Opening{}, false
	}
	return m.opening(k.dialect), true
}

// OnCall is for the session's table. On the loop; args are borrowed.
func (k *Callee) OnCall(s *session.Session, args []byte) {
	m := k.server.byName[s.Event()]
	c := &Call{k: k, m: m, s: s, args: args, onLoop: true}
	m.calls.Add(1)
	if k.server.calls.closing() {
		k.server.counts.closing.Add(1)
		k.refuse(c, "the service is closing", session.CodeTerminating)
		return
	}
	if err := checkArgs(m.Args, args); err != nil {
		c.BadArgs(err)
		return
	}
	if m.OnLoop != nil {
		k.callOnLoop(c)
	} else {
		k.callServe(c)
	}
}

func (k *Callee) refuse(c *Call, why string, code int64) {
	if !k.answers(c.m) {
		c.m.failed.Add(1)
	} else {
		_ = c.Fail(k.local(code, V0Resource, why))
	}
	if c.m.Tx != nil {
		c.s.Ignore()
	}
}

func (k *Callee) callOnLoop(c *Call) {
	c.s.SetHandler((*callEvents)(c))
	k.current = c
	c.guarded(func() { c.m.OnLoop(c) })
	k.current = nil
	c.args = nil
	switch mute := c.m.Rx == nil; {
	case c.isOver():
		return
	case mute && k.dialect == codec.V0:
		_ = c.complete() // and settles
		return
	case mute && c.m.Tx == nil: // the session is in no table
		k.end(c)
		return
	}
	k.calls[c.s] = c
	c.limit()
	if c.m.Endless || c.answered.Load() && !c.owes() || !k.server.calls.enter() {
		return
	}
	c.tallied.Store(true)
	if c.answered.Load() && !c.owes() { // by another goroutine, meanwhile
		c.untally()
	}
}

func (k *Callee) callServe(c *Call) {
	limit := k.server.cfg.Sessions.MaxSessions
	if limit == 0 {
		limit = defaultMaxSessions
	}
	if limit > 0 && k.running.Load() >= int64(limit) || !k.server.calls.enterServe(k.server.cfg.MaxCalls) {
		k.server.counts.busy.Add(1)
		k.refuse(c, "too many calls are running", session.CodeTooManySessions)
		return
	}
	k.running.Add(1)
	c.args = bytes.Clone(c.args)
	c.onLoop = false
	if c.m.Rx != nil || c.m.Tx != nil || k.dialect == codec.V0 {
		c.kept, k.calls[c.s] = true, c
	}
	c.serve()
}

// defaultMaxSessions is that of session.Config.MaxSessions.
const defaultMaxSessions = 1024

// leave is the end of a Serve method.
func (k *Callee) leave() {
	k.running.Add(-1)
	k.server.calls.leaveServe()
}

// OnSettled is for session.Config. On the loop.
func (k *Callee) OnSettled(s *session.Session) {
	if c := k.current; c != nil && c.s == s {
		k.end(c)
	} else if c := k.calls[s]; c != nil {
		k.end(c)
	}
}

// OnClose is for the session's Owner: the channel is gone. On the loop.
func (k *Callee) OnClose(*channel.CloseError) {
	for _, c := range k.calls {
		k.end(c)
	}
	k.server.drop(k)
}

// end tells a call that it is over, once.
func (k *Callee) end(c *Call) {
	delete(k.calls, c.s)
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.untally()
	if c.markOver() {
		list := c.onEnd
		c.onEnd = nil
		for _, f := range list {
			c.guarded(f)
		}
	}
}

// markOver closes Done. It reports false if that was done before.
func (c *Call) markOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.over = true
	if c.done != nil {
		close(c.done)
	}
	return true
}

func (c *Call) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// endEndless ends the streams that Server.Close does not wait for.
func (k *Callee) endEndless() {
	for _, c := range k.calls {
		if c.m.Endless && c.m.OnLoop != nil && !c.answered.Load() {
			if c.m.value != nil {
				_ = c.ended(c.s.SendError(k.local(session.CodeTerminating, V0Resource, "the service is closing")))
			} else {
				_ = c.ended(c.s.SendChoke())
			}
		}
	}
}

// failAll answers every call that is not answered yet, on a channel that is not ours.
func (k *Callee) failAll() {
	for _, c := range k.calls {
		if !c.s.Direction().Closed() {
			_ = c.ended(c.s.SendError(k.local(session.CodeTerminating, V0Resource, "the service has closed")))
		}
	}
}
