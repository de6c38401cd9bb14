package service

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// method is a declared method, made ready to be served.
type method struct {
	// immutable
	Handled
	answers map[string]*session.Slot // the messages of Rx, by name, in all of its states
	value   *session.Slot            // the one answer of a primitive method, nil if there is none
	data    *session.Slot            // what a stream of answers begins with, nil if there is none
	message string                   // the name of what the client sends, where only one can come

	calls, failed atomic.Uint64
}

func newMethod(h Handled) *method {
	m := &method{Handled: h, answers: make(map[string]*session.Slot)}
	m.addAnswers(h.Rx)
	if h.Rx != nil {
		for _, s := range h.Rx.Slots() {
			switch {
			case !carriesData(s):
			case s.Next == nil && s.Kind == session.Value && m.value == nil:
				m.value = m.answers[s.Name]
			case s.Next != nil && m.data == nil:
				m.data = m.answers[s.Name]
			}
		}
	}
	if h.Tx != nil {
		for _, s := range h.Tx.Slots() {
			if carriesData(s) {
				m.message = s.Name
			}
		}
	}
	return m
}

// addAnswers calls itself at most MaxGraphDepth deep: the declaration is an API.
func (m *method) addAnswers(g *session.Graph) {
	if g == nil {
		return
	}
	for _, s := range g.Slots() {
		if _, known := m.answers[s.Name]; known {
			continue
		}
		m.answers[s.Name] = &s
		if s.Next != g {
			m.addAnswers(s.Next)
		}
	}
}

// carriesData tells a message of the method from an end, and from those that are only
// listed (see ControlSlots).
func carriesData(s session.Slot) bool {
	return (s.Kind == session.Chunk || s.Kind == session.Value) && s.Type < firstControl
}

// opening returns what a call of the method opens, seen from the service. In v0 every
// answer is a stream, and nothing comes behind a call.
func (m *method) opening(d codec.Dialect) session.Opening {
	if d == codec.V0 {
		return session.Opening{Name: m.Name, Tx: session.StreamingV0}
	}
	return session.Opening{Name: m.Name, Tx: m.Rx, Rx: m.Tx}
}

// reply sends the value of a primitive method.
func (c *Call) reply(ctx context.Context, args []byte) error {
	if c.k.dialect == codec.V1 {
		return c.message(ctx, c.m.value.Type, args)
	}
	if result := resultV0(args); result != nil {
		err := c.chunk(ctx, result)
		if err == channel.ErrFull { // OnWritable sends it; the session bounds what waits
			c.waiting = bytes.Clone(result)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return c.choke()
}

// resultV0 returns what v0's one chunk holds of the results: the value of one, the array
// of several, nil for none (protocol: services in v0).
func resultV0(args []byte) []byte {
	r := codec.NewReader(args)
	switch r.Len() {
	case 0:
		return nil
	case 1:
		return r.Raw()
	}
	return args
}

// send sends one message of the answer.
func (c *Call) send(ctx context.Context, slot *session.Slot, args []byte) error {
	switch {
	case slot.Kind == session.Fault:
		return session.ErrGraph // Fail has category and code
	case c.k.dialect == codec.V1:
		return c.message(ctx, slot.Type, args)
	case slot.Kind == session.Choke:
		return c.choke()
	case slot.Kind == session.Chunk:
		r := codec.NewReader(args)
		return c.chunk(ctx, r.Bytes())
	}
	return c.chunk(ctx, resultV0(args))
}

// sent notes that a message was the last one.
func (c *Call) sent(slot *session.Slot, err error) error {
	if slot.Next == nil {
		return c.ended(err)
	}
	return err
}

// ended notes that the answer is complete, if its last message was accepted.
func (c *Call) ended(err error) error {
	if err == nil {
		c.answered.Store(true)
		if !c.owes() {
			c.untally()
		}
	}
	return err
}

// owes reports whether the last message was accepted on the loop and waits for room in
// the output: Server.Close has to wait for that, too, until the session is over.
func (c *Call) owes() bool { return c.onLoop && !c.s.Direction().Closed() }

// untally has Server.Close not wait for the call any more.
func (c *Call) untally() {
	if c.tallied.CompareAndSwap(true, false) {
		c.k.server.calls.leave()
	}
}

// --- what differs on the loop and off it ---

func (c *Call) message(ctx context.Context, typ uint64, args []byte) error {
	if c.onLoop {
		return c.s.SendMessage(typ, args)
	}
	return c.s.SendMessageOffLoop(ctx, typ, args)
}

func (c *Call) chunk(ctx context.Context, p []byte) error {
	if c.onLoop {
		return c.s.SendChunk(p)
	}
	return c.s.Send(ctx, p)
}

func (c *Call) choke() error {
	if c.onLoop {
		return c.s.SendChoke()
	}
	return c.s.Close()
}

// --- ends ---

// complete answers what was not answered by a method that went well.
func (c *Call) complete() error {
	switch {
	case c.answered.Load():
		return nil
	case !c.k.answers(c.m):
		return nil
	case c.m.value != nil:
		return c.ended(c.reply(c.s.Context(), nil))
	}
	return c.Close()
}

// fail answers with an error of a Serve method.
func (c *Call) fail(err error) {
	switch {
	case c.answered.Load():
	case errors.Is(err, ErrBadArgs):
		c.BadArgs(err)
	case !c.k.answers(c.m): // nobody is told
		c.m.failed.Add(1)
		c.k.server.log.Warn("service: a method that is not answered failed", "service", c.k.server.Name(), "method", c.m.Name, "err", err)
	default:
		_ = c.Fail(c.k.translate(err)) // the client may be gone
	}
}

// answers reports whether a method is answered: in v0 a mute one is, by a choke.
func (k *Callee) answers(m *method) bool { return m.Rx != nil || k.dialect == codec.V0 }

// translate returns what a client is told of an error.
func (k *Callee) translate(err error) (category, code int64, message string) {
	var of *session.Error
	if errors.As(err, &of) && (of.Category != 0 || of.Code != 0) {
		category, code, message = of.Category, of.Code, of.Message
		if category == CategoryV0 && k.dialect == codec.V1 {
			category = CategoryUnknown
		}
		if message == "" {
			message = err.Error()
		}
		return category, code, message
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return k.local(session.CodeDeadline, V0Timeout, "not answered in time")
	}
	if errors.Is(err, ErrServerClosed) || errors.Is(err, context.Canceled) && k.server.calls.closing() {
		return k.local(session.CodeTerminating, V0Resource, "the service has closed")
	}
	if k.dialect == codec.V0 {
		return CategoryV0, V0Invocation, err.Error()
	}
	return CategoryDispatch, DispatchUncaught, err.Error()
}

// local returns an error of this runtime in the client's dialect.
func (k *Callee) local(code, codeV0 int64, message string) (int64, int64, string) {
	if k.dialect == codec.V0 {
		return CategoryV0, codeV0, message
	}
	return CategoryWorker, code, message
}
