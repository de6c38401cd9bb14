package service

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Call calls a method that answers with one value, and waits for it: until the deadline
// of ctx, or else for Config.CallTimeout. args is copied.
//
// An error of the service is a *session.Error with Remote set, see Is; the loss of the
// connection one without, which is also how a service of v1 refuses arguments that make
// no sense to it (protocol: wrong input). There is a *ResolveError if there is no
// connection, a *MethodError if there is no such method or it answers in another way, a
// *ReplyError if the answer cannot be read, and the cause of ctx if it ended first.
func (s *Service) Call(ctx context.Context, method string, args codec.Arguments) (*Reply, error) {
	if err := args.Err(); err != nil {
		return nil, fmt.Errorf("service %q: arguments of %q: %w", s.cfg.Name, method, err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var reply *Reply
	err := s.attempt(ctx, method, func(l lease) (Outcome, error) {
		m, err := s.method(l.link, method)
		if err == nil {
			err = s.answersOnce(m)
		}
		if err != nil {
			return Neutral, err
		}
		c := session.Call{Name: method, Type: m.ID, Args: args.Bytes(), Headers: s.headers(ctx, l.table, method), Rx: m.Rx}
		reply, err = s.exchange(ctx, l, &c)
		return outcomeOf(err), err
	})
	return reply, err
}

// answersOnce returns why a method is not one for Call.
func (s *Service) answersOnce(m Method) error {
	hint := ""
	switch {
	case m.Mute():
		hint = "never answers: use Notify"
	case m.Tx != nil:
		hint = "takes messages behind the call: use Open"
	case m.Rx == session.Primitive || m.Rx == session.StreamingV0: // v0 does not tell
		return nil
	default:
		for _, slot := range m.Rx.Slots() {
			if slot.Next != nil || slot.Kind != session.Value && slot.Kind != session.Fault {
				hint = "answers with a stream: use Open"
			}
		}
	}
	if hint == "" {
		return nil
	}
	return &MethodError{Service: s.cfg.Name, Method: m.Name, Hint: hint}
}

// Notify calls a method that never answers, such as the logger's emit, and keeps nothing
// of it. It waits for a connection and for room in the output; whether the service got it
// nobody knows. In v0, where every method answers, the answer is dropped. args is copied.
func (s *Service) Notify(ctx context.Context, method string, args codec.Arguments) error {
	if err := args.Err(); err != nil {
		return fmt.Errorf("service %q: arguments of %q: %w", s.cfg.Name, method, err)
	}
	return s.notify(ctx, method, args.Bytes())
}

// notify is Notify with an encoded argument array.
func (s *Service) notify(ctx context.Context, method string, args []byte) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.attempt(ctx, method, func(l lease) (Outcome, error) {
		m, err := s.method(l.link, method)
		if err == nil && !m.Mute() && s.dialect == codec.V1 {
			err = &MethodError{Service: s.cfg.Name, Method: method, Hint: "answers: use Call or Open"}
		}
		if err != nil {
			return Neutral, err
		}
		c := session.Call{Name: method, Type: m.ID, Args: args, Headers: s.headers(ctx, l.table, method)}
		_, err = l.table.CallOffLoop(ctx, &c, nil)
		return outcomeOf(err), err
	})
}

// headers returns the headers of a call to the peer of t: the trace of ctx, as a child,
// never one of zeros; the time that is left, where somebody looks for it; and the user's.
func (s *Service) headers(ctx context.Context, t *session.Table, method string) []codec.Header {
	if s.dialect == codec.V0 {
		return nil
	}
	var h []codec.Header
	if t, ok := TraceFrom(ctx); ok {
		h = AppendTraceHeaders(h, t.Child())
	}
	if at, ok := ctx.Deadline(); ok && (s.client.TimeoutOnAll || method == "enqueue" || t.Deadlines()) {
		h = append(h, codec.TimeoutHeader(time.Until(at), new([8]byte)))
	}
	if s.cfg.Headers != nil {
		h = append(h, s.cfg.Headers(ctx, method)...)
	}
	return h
}

// answer collects the one value that a call is answered with.
type answer struct {
	dialect codec.Dialect
	done    chan struct{} // closed when the session is over

	// owned by the loop until done
	args []byte
	err  error
	some bool // a chunk came
}

// exchange makes one call and waits for its answer until ctx ends; a late answer is
// dropped.
func (s *Service) exchange(ctx context.Context, l lease, c *session.Call) (*Reply, error) {
	a := &answer{dialect: s.dialect, done: make(chan struct{})}
	sess, err := l.table.CallOffLoop(ctx, c, a)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !isLost(err) {
			s.counts.abandoned.Add(1)
			return nil, cutError(cause)
		}
		return nil, err
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		if !isClosed(a.done) {
			sess.Channel().Post(func() { sess.Cancel(CategorySystem, canceled, "the caller gave up") })
			s.revoke(ctx, l, sess)
			s.counts.abandoned.Add(1)
			return nil, &session.Error{Message: "no answer in time", Err: context.Cause(ctx)}
		}
	}
	if a.err != nil {
		if _, bad := a.err.(*session.Error); !bad {
			a.err = &ReplyError{Service: s.cfg.Name, Method: c.Name, Err: a.err}
		}
		return nil, a.err
	}
	return &Reply{args: a.args}, nil
}

// canceled is ECANCELED on the systems that runtimes live on.
const canceled = 125

// revoke tells the service that a call was given up, if there is room for that right now:
// ctx has ended. The number it is told on is new, and later answers to the call are
// dropped (protocol: control messages). Where cancel is agreed on there is
// no need.
func (s *Service) revoke(ctx context.Context, l lease, given *session.Session) {
	m, ok := l.resolved.API.Control("revoke")
	if !ok || !s.client.Revoke || s.dialect == codec.V0 {
		return
	}
	args := codec.Args(given.ID(), []any{CategorySystem, canceled})
	c := session.Call{Name: m.Name, Type: m.ID, Args: args.Bytes(), Rx: session.Primitive}
	_, _ = l.table.CallOffLoop(ctx, &c, &answer{dialect: s.dialect, done: make(chan struct{})})
}

// OnChunk is for the session. In v0 a value is packed once more, into a chunk.
func (a *answer) OnChunk(_ *session.Session, p []byte) {
	switch {
	case a.dialect == codec.V1:
		a.args = append([]byte(nil), p...)
	case a.some:
		a.err = fmt.Errorf("more than one chunk: it is a stream, use Open")
	default:
		r := codec.NewValueReader(p)
		if r.Skip(); r.Err() != nil || len(r.Rest()) > 0 {
			a.err = fmt.Errorf("a chunk that is not one value: it is a stream, use Open")
			break
		}
		a.args = append(codec.AppendArrayHeader(make([]byte, 0, 1+len(p)), 1), p...)
	}
	a.some = true
}

// OnChoke is for the session.
func (a *answer) OnChoke(*session.Session) { close(a.done) }

// OnError is for the session.
func (a *answer) OnError(_ *session.Session, err *session.Error) {
	a.err = err
	close(a.done)
}

// Reply is the value that a call was answered with: any number of items. It is the
// caller's, and its bytes are.
type Reply struct{ args []byte }

// Args returns the items as one encoded array, as it came; nil if v0 answered without a
// value.
func (r *Reply) Args() []byte { return r.args }

// Reader returns a Reader at the first item; what it returns lies in the Reply.
func (r *Reply) Reader() codec.Reader { return codec.NewReader(r.args) }

// Len returns the number of items.
func (r *Reply) Len() int {
	reader := r.Reader()
	return reader.Len()
}
