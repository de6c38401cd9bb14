package session

import (
	"context"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// acceptedFirst is the first number of calls that the accepting side makes, where both
// sides call. The connecting side counts from 1, so the two never meet.
const acceptedFirst = 1 << 62

// Call describes a session that is opened by the number of a method: what a client
// sends to a service (protocol: dispatch graphs).
type Call struct {
	// Name is what Session.Event returns; it is not sent.
	Name string
	// Type is the method's number.
	Type uint64
	// Args is a whole encoded argument array, as codec.Args makes it; nil is the empty
	// one. It is copied.
	Args []byte
	// Headers are v1 only, and copied.
	Headers []codec.Header
	// Tx is what we may send behind the call, Rx what the peer may answer. Nil is
	// nothing: without Tx our direction is closed by the call itself, without Rx the
	// method is mute. Without both nothing is kept of the session.
	Tx, Rx *Graph
}

// Opening says what a call of the peer opens, as seen from here: Tx is what we may send
// from then on, Rx what the peer may. Nil is nothing.
type Opening struct {
	Name   string // for Session.Event
	Tx, Rx *Graph
}

// Callee is an Owner whose peer calls methods. The role Server requires it; a Client
// whose Owner is one serves its peer over the same channel.
type Callee interface {
	Owner
	// Opening says what the method of the given number opens; false if there is none,
	// for which a v1 peer loses its connection, as at the live runtime, and a v0 peer
	// gets an error. On the loop; it must not block.
	Opening(typ uint64) (Opening, bool)
	// OnCall hands over a session that the peer opened. args is the whole argument array,
	// borrowed. The session gets a Handler here, or is given to a goroutine.
	OnCall(s *Session, args []byte)
}

// Call opens a session by method number, served by h; it is installed when Call
// returns. Only a Client, or a Server of v1, calls.
func (t *Table) Call(c *Call, h Handler) (*Session, error) {
	s, f, part, err := t.prepareCall(c, h)
	if err != nil {
		return nil, notSent(err)
	}
	return t.open(s, &f, part)
}

// CallOffLoop is Call for every other goroutine. With a nil Handler the session is read
// by Recv. It waits for room in the output until ctx ends.
func (t *Table) CallOffLoop(ctx context.Context, c *Call, h Handler) (*Session, error) {
	s, f, part, err := t.prepareCall(c, h)
	if err != nil {
		return nil, notSent(err)
	}
	if err := t.ch.SendOfOffLoop(ctx, s, &f, part); err != nil {
		return nil, notSent(err)
	}
	return s, nil
}

func (t *Table) prepareCall(c *Call, h Handler) (*Session, codec.Frame, channel.Part, error) {
	if t.cfg.Role != Client && (t.cfg.Role != Server || t.ch.Dialect() == codec.V0) {
		return nil, codec.Frame{}, 0, errNoCalls
	}
	s := t.newSession(c.Name, c.Tx, c.Rx)
	s.handler = h
	part := channel.First
	if c.Tx == nil {
		part |= channel.Last
	}
	return s, codec.Frame{Kind: codec.KindCall, Type: c.Type, Args: c.Args, Headers: c.Headers}, part, nil
}

// open sends the frame that opens s, on the loop.
func (t *Table) open(s *Session, f *codec.Frame, part channel.Part) (*Session, error) {
	err := channel.ErrFull // behind those who were refused before
	if !t.pause.full {
		err = t.ch.SendOf(s, f, part)
	}
	if err != nil {
		if err == channel.ErrFull {
			t.wantOpen()
		}
		return nil, notSent(err)
	}
	t.pause.accepted++
	return s, nil
}

// mine reports whether a number is one that this side gives, where methods are called.
func (t *Table) mine(id uint64) bool { return (t.cfg.Role == Client) == (id < acceptedFirst) }

// messageOfCalls classifies a message of a link on which methods are called: an answer
// to us, more of what the peer began, or a call.
func (t *Table) messageOfCalls(m *codec.Message, headers []codec.Header) {
	s := t.ids.get(m.Session)
	switch v0 := t.ch.Dialect() == codec.V0; {
	case v0 && m.Extra == 1: // v0 runtimes close here, too
		t.bad(channel.CodeBadFrame, "a frame of four elements: the peer speaks v1")
	case t.ext.credit.on && (s != nil || m.Session <= t.highest || t.mine(m.Session)) && !t.received(s, m):
	case t.mine(m.Session):
		t.answer(s, m)
	case t.callee == nil:
		t.stray()
	case v0 && s != nil:
		t.refuse(m.Session, CodeMalformed, "the number of a call that is not answered yet")
	case s != nil:
		s.receive(m)
	case v0 || m.Session > t.highest:
		t.called(m, headers)
	case t.lenient:
		t.counts.late.inc()
	default:
		t.bad(channel.CodeBadSession, "a number that is not higher than all before, or whose session is over")
	}
}

// answer takes a message for a call of ours.
func (t *Table) answer(s *Session, m *codec.Message) {
	switch {
	case s != nil:
		s.receive(m)
	case m.Session == 0 || m.Session > t.highestOurs:
		t.stray()
	default:
		t.counts.late.inc()
	}
}

// called takes a call of the peer.
func (t *Table) called(m *codec.Message, headers []codec.Header) {
	if t.highest == 0 && m.Type == codec.V1Ping {
		t.offered(headers)
	}
	t.highest = max(t.highest, m.Session)
	v1 := t.ch.Dialect() == codec.V1
	if v1 && m.Type >= codec.V1Goaway && m.Type <= codec.V1Revoke {
		t.calledControl(m)
		return
	}
	o, ok := t.callee.Opening(m.Type)
	switch {
	case !ok && v1:
		t.bad(channel.CodeBadType, "a call of a method that does not exist")
		return
	case !ok:
		t.refuse(m.Session, codeV0Invocation, "unknown message type")
		return
	case o.Rx == nil && o.Tx == nil: // nothing is kept, so nothing bounds it
	case t.ids.count >= t.cfg.MaxSessions:
		t.lenient = t.lenient || o.Rx != nil
		t.refuseCall(m.Session, &o)
		return
	}
	s := t.newSession(o.Name, o.Tx, o.Rx)
	s.id, s.headers = m.Session, codec.CloneHeaders(headers)
	if o.Tx == nil {
		s.tx.Close()
		s.txDone = true
	}
	if o.Rx != nil || o.Tx != nil {
		t.install(s)
	}
	t.callee.OnCall(s, m.Args)
}

func (t *Table) refuseCall(id uint64, o *Opening) {
	if o.Tx == nil { // nobody waits for an answer
		t.counts.refused.inc()
		if t.ext.credit.on && o.Rx == Streaming {
			t.sendPairs(codec.AppendInt(codec.AppendUint(nil, id), maxWindow), 1) // see waive
		}
		return
	}
	t.refuse(id, CodeTooManySessions, "too many sessions are open")
}

// calledControl answers the control methods that every service has. As at the live
// runtime goaway and settings are listed and cost the connection (protocol: control
// messages).
func (t *Table) calledControl(m *codec.Message) {
	switch m.Type {
	case codec.V1Ping:
	case codec.V1Revoke:
		if !t.revoke(m) {
			t.bad(channel.CodeBadFrame, "a revoke without a number and a code")
			return
		}
	default:
		t.bad(channel.CodeBadType, "a control method that is not served")
		return
	}
	f := codec.Frame{Kind: codec.KindCall, Session: m.Session, Type: codec.V1Value}
	if t.ch.SendOf(nil, &f, 0) == channel.ErrFull {
		t.owe(owed{f: f})
	}
}

// revoke cuts a session because the peer gave it up. It reports false if the arguments
// make no sense; a session that is over is no mistake.
func (t *Table) revoke(m *codec.Message) bool {
	r := m.Reader()
	id := r.Uint64()
	n := r.ArrayLen()
	category, code := r.Int64(), r.Int64()
	if r.Err() != nil || n < 2 {
		return false
	}
	if s := t.ids.get(id); s != nil && !t.mine(id) {
		t.lenient = true
		s.peerAt(nil)
		t.cancelled(s)
		s.cutOff(&Error{Category: category, Code: code, Message: "revoked", Remote: true})
		t.settle(s)
	}
	return true
}
