package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// codeGivenUp is the code of CategoryUser that a service is told when a Stream is
// discarded while we might still send.
const codeGivenUp = 499

// Stream is a call that is more than one question and one answer. What may be sent and
// what may come is the method's graph; each direction ends on its own. It is read to its
// end or discarded. One goroutine may read and another one send.
type Stream struct {
	s       *Service
	session *session.Session
	method  Method
	lease   lease
	over    atomic.Bool // the lease was given back
}

// Open calls a method that streams, in whatever direction. ctx, or Config.CallTimeout,
// bounds the wait for a connection and for room in the output; the Stream itself has no
// deadline but those of its calls, though the service is told that of ctx. args is
// copied. For the errors see Call.
//
//	stream, err := app.Open(ctx, "enqueue", codec.Args("resize"))
//	stream.Send(ctx, image); stream.Close()
//	for chunk, err := range stream.Chunks(ctx) { … }
func (s *Service) Open(ctx context.Context, method string, args codec.Arguments) (*Stream, error) {
	return s.openFor(ctx, ctx, method, args)
}

// openFor is Open, with whole as the context of the stream: the service is told its deadline.
func (s *Service) openFor(whole, ctx context.Context, method string, args codec.Arguments) (*Stream, error) {
	if err := args.Err(); err != nil {
		return nil, fmt.Errorf("service %q: arguments of %q: %w", s.cfg.Name, method, err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var stream *Stream
	err := s.attempt(ctx, method, func(l lease) (Outcome, error) {
		m, err := s.method(l.link, method)
		if err == nil && m.Mute() && m.Tx == nil {
			err = &MethodError{Service: s.cfg.Name, Method: method, Hint: "never answers: use Notify"}
		}
		if err != nil {
			return Neutral, err
		}
		stream, err = s.open(ctx, l, m, args.Bytes(), s.headers(whole, l.table, method))
		if err != nil {
			return outcomeOf(err), err
		}
		return pendingOutcome, nil
	})
	return stream, err
}

func (s *Service) open(ctx context.Context, l lease, m Method, args []byte, headers []codec.Header) (*Stream, error) {
	c := session.Call{Name: m.Name, Type: m.ID, Args: args, Headers: headers, Tx: m.Tx, Rx: m.Rx}
	sess, err := l.table.CallOffLoop(ctx, &c, nil)
	if err != nil {
		return nil, err
	}
	return &Stream{s: s, session: sess, method: m, lease: l}, nil
}

// release gives the connection back, once.
func (s *Stream) release(o Outcome) {
	if !s.over.Swap(true) {
		s.s.route.release(s.lease, o)
	}
}

// Session returns the session under the Stream.
func (s *Stream) Session() *session.Session { return s.session }

// Send sends one chunk; p is copied. It waits for room in the output until ctx ends. The
// error is session.ErrClosed behind our last message, one of session.ErrGraph if the
// method takes no chunks, and a *session.Error if the call was cut.
func (s *Stream) Send(ctx context.Context, p []byte) error { return s.session.Send(ctx, p) }

// Write is Send without a deadline, for io.Writer. One call is one chunk.
func (s *Stream) Write(p []byte) (int, error) { return s.session.Write(p) }

// SendMessage sends the message of that name, with any arguments, if the graph has it now:
// else the error is a session.ErrGraph that lists what may be sent.
func (s *Stream) SendMessage(ctx context.Context, name string, args codec.Arguments) error {
	if err := args.Err(); err != nil {
		return err
	}
	typ, ok := findSlot(s.method.Tx, name, MaxGraphDepth)
	if !ok {
		return fmt.Errorf("service %q: %q takes no message %q: %w", s.s.cfg.Name, s.method.Name, name, session.ErrGraph)
	}
	return s.session.SendMessageOffLoop(ctx, typ, args.Bytes())
}

// findSlot returns the type of the message of that name, the one that may come first.
// Whether it may come now the session knows.
func findSlot(g *session.Graph, name string, depth int) (uint64, bool) {
	if g == nil || depth == 0 {
		return 0, false
	}
	slots := g.Slots()
	for _, s := range slots {
		if s.Name == name {
			return s.Type, true
		}
	}
	for _, s := range slots {
		if s.Next != g {
			if typ, ok := findSlot(s.Next, name, depth-1); ok {
				return typ, ok
			}
		}
	}
	return 0, false
}

// Recv waits for the next chunk, or the next message's argument array if the method's
// answer is not a stream of strings. It is lent: dead at the next Recv. The error is
// io.EOF at the end of the stream, a *session.Error if the service failed the call or the
// connection was lost, or the cause of ctx.
func (s *Stream) Recv(ctx context.Context) ([]byte, error) {
	_, p, err := s.recv(ctx)
	return p, err
}

func (s *Stream) recv(ctx context.Context) (*session.Slot, []byte, error) {
	slot, p, err := s.session.RecvMessage(ctx)
	if err == nil {
		return slot, p, nil
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		return nil, nil, err // the caller's, whatever it is
	}
	if err == io.EOF {
		s.release(Succeeded)
	} else if e := (*session.Error)(nil); errors.As(err, &e) {
		if e.Remote {
			s.session.Channel().Post(s.session.Drop)
		} else if isLost(err) && !s.over.Load() {
			s.s.counts.lost.Add(1)
		}
		s.release(outcomeOf(err))
	}
	return nil, nil, err
}

// RecvArgs waits for the next message and returns its name and its argument array, lent as
// by Recv. For the errors see there.
func (s *Stream) RecvArgs(ctx context.Context) (name string, args []byte, err error) {
	slot, p, err := s.recv(ctx)
	switch {
	case err != nil:
		return "", nil, err
	case slot != nil && slot.Kind == session.Value:
		return slot.Name, p, nil
	case slot != nil:
		name = slot.Name
	case s.method.Rx == session.Primitive:
		return "value", p, nil
	case s.method.Rx == session.StreamingV0:
		name = "chunk"
	default:
		name = "write"
	}
	args = codec.AppendRaw(codec.AppendArrayHeader(make([]byte, 0, len(p)+6), 1), p)
	return name, args, nil
}

// Chunks ranges over what Recv returns. An error ends the range and comes with a nil
// chunk; the end of the stream is none.
func (s *Stream) Chunks(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			p, err := s.Recv(ctx)
			if err == io.EOF || !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// Close ends our stream; it is no error if it has ended. What the service sends is read
// on: see Discard.
func (s *Stream) Close() error { return s.session.Close() }

// Fail ends our stream with an error, which an app's worker gets.
func (s *Stream) Fail(category, code int64, message string) error {
	return s.session.Fail(category, code, message)
}

// Discard gives the call up: our direction ends, with an error if the graph has one, and
// whatever still comes is dropped. It is needed for a Stream that is not read to its end,
// harmless for another, and must not be called while somebody reads.
func (s *Stream) Discard() {
	s.session.Channel().Post(s.discardOnLoop)
	s.release(Neutral)
}

func (s *Stream) discardOnLoop() {
	if s.session.Err() != nil { // the service has failed it and takes nothing more
		s.session.Drop()
		return
	}
	if s.session.Cancels() { // behind the chunks that wait an error would come late
		s.session.Cancel(CategoryUser, codeGivenUp, "the caller gave up")
		return
	}
	err := s.session.SendError(CategoryUser, codeGivenUp, "the caller gave up")
	if errors.Is(err, session.ErrGraph) {
		s.sendLastOnLoop()
	}
	s.session.Ignore()
}

// sendLastOnLoop ends our direction by the first message of its graph that does, such as
// the locator's discard; without one there is nothing to say.
func (s *Stream) sendLastOnLoop() {
	for _, slot := range s.method.Tx.Slots() {
		if slot.Next == nil && slot.Type < codec.V1Goaway {
			if s.session.SendMessage(slot.Type, nil) == nil {
				return
			}
		}
	}
	s.session.Drop()
}
