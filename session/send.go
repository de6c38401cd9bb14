package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// --- the on-loop face ---

// SendChunk appends a piece of our stream; p is copied. It returns ErrClosed behind our
// last frame, and channel.ErrFull above the high water mark: p was not taken, and a
// Handler that is [Writable] is told when there is room. SetOverflow has it do otherwise.
func (s *Session) SendChunk(p []byte) error {
	if !s.stream {
		if err := s.may(Chunk); err != nil {
			return err
		}
	}
	f := codec.Frame{Kind: codec.KindChunk, Session: s.id, Payload: p}
	if b := s.overflow.Load(); b != nil {
		return s.chunkHere(b, &f)
	}
	return s.sendPart(&f, len(p))
}

// sendPart sends a frame that is not the last one.
func (s *Session) sendPart(f *codec.Frame, size int) error {
	if s.owing.Load() || s.tx.Closed() {
		return s.finished()
	}
	short, err := lacksTurn, error(nil)
	if b := s.overflow.Load(); b == nil || !b.waits() {
		short, err = s.try(f)
	}
	if short != lacksNothing {
		s.want(short, size+chunkCost)
		return channel.ErrFull
	}
	return err
}

// try sends a frame that is not the last one, if it finds room and credit, and says else
// what it lacked.
func (s *Session) try(f *codec.Frame) (lack, error) {
	if s.t.pause.full { // behind those who were refused before
		return lacksRoom, nil
	}
	cost := int64(0)
	if s.t.ext.credit.counting.Load() {
		if cost = counted(f); !s.payHere(cost) {
			return lacksCredit, nil
		}
	}
	var err error
	if s.t.ext.s2.sent.Load() && s.compressible(f) {
		err = s.sendCompressed(f)
	} else {
		err = s.t.ch.SendOf(s, f, 0)
	}
	if err == nil {
		s.t.pause.accepted++
		return lacksNothing, nil
	}
	s.refund(cost)
	if err == channel.ErrFull {
		return lacksRoom, nil
	}
	return lacksNothing, s.sent(err)
}

// SendMessage sends the message of our graph whose number is typ, with the encoded
// argument array args, which is copied. It may be the last one: then it is taken even
// above the high water mark, else see SendChunk.
func (s *Session) SendMessage(typ uint64, args []byte) error {
	slot, err := s.step(typ)
	if err != nil {
		return err
	}
	f := codec.Frame{Kind: codec.KindCall, Session: s.id, Type: typ, Args: args}
	if slot.Next == nil {
		return s.sendLast(f)
	}
	before := s.state.Load()
	if err := s.sendPart(&f, len(args)); err != nil {
		return err
	}
	s.state.CompareAndSwap(before, slot.Next)
	return nil
}

// SendChoke ends our stream. It is taken even above the high water mark.
func (s *Session) SendChoke() error {
	if err := s.may(Choke); err != nil {
		return err
	}
	return s.sendLast(codec.Frame{Kind: codec.KindChoke})
}

// SendError fails our direction, and with it the session for the peer. In v0 only code
// and message are sent, with a choke behind. It is taken even above the high water mark.
// A message of more than 16 KiB is cut short.
func (s *Session) SendError(category, code int64, message string) error {
	if err := s.may(Fault); err != nil {
		return err
	}
	return s.sendLast(s.errorFrame(category, code, message))
}

func (s *Session) errorFrame(category, code int64, message string) codec.Frame {
	if n := min(maxErrorBytes, s.t.ch.MaxPayloadBytes()); len(message) > n {
		message = strings.ToValidUTF8(message[:n], "")
	}
	return codec.Frame{Kind: codec.KindError, Category: category, Code: code, Text: message}
}

func (s *Session) sendLast(f codec.Frame) error {
	if s.owing.Load() && !s.forsaken {
		return s.finished()
	}
	if b := s.overflow.Load(); b != nil {
		if f.Kind == codec.KindError {
			s.lose(b, &s.t.counts.droppedOldest, b.discard())
		} else if b.holdLast(f) {
			s.owing.Store(true)
			return nil
		}
	}
	return s.putLast(f)
}

func (s *Session) putLast(f codec.Frame) error {
	f.Session = s.id
	cost := s.payLast(&f)
	err := s.t.ch.SendOf(s, &f, channel.Last)
	switch err {
	case nil:
		s.t.pause.accepted++
	case channel.ErrFull:
		s.owing.Store(true)
		f.Args = bytes.Clone(f.Args)
		s.t.owe(owed{s, f, cost})
		return nil
	default:
		s.refund(cost)
	}
	return s.sent(err)
}

// sent translates the channel's refusals.
func (s *Session) sent(err error) error {
	if err == nil {
		return nil
	}
	if err == channel.ErrFinished {
		return s.finished()
	}
	var ce *channel.CloseError
	if errors.As(err, &ce) {
		if cut := s.Err(); cut != nil {
			return cut
		}
		return &Error{Message: "the channel is closing", Err: ce}
	}
	return err
}

// finished says why nothing is taken any more: we had ended our direction, or it was
// ended for us.
func (s *Session) finished() error {
	if cut := s.Err(); cut != nil && !cut.Remote {
		return cut
	}
	if b := s.overflow.Load(); b != nil {
		if cut := b.cut.Load(); cut != nil {
			return cut
		}
	}
	return ErrClosed
}

// --- the blocking face ---

// Send writes one chunk; p is copied. It waits for room in the output until ctx ends;
// SetOverflow has it do otherwise. It returns ErrClosed behind our last frame, an *Error if the session or its channel was
// cut here, or the cause of ctx. Any goroutine but the loop.
func (s *Session) Send(ctx context.Context, p []byte) error {
	if !s.stream {
		if err := s.may(Chunk); err != nil {
			return err
		}
	}
	return s.sendOffLoop(ctx, codec.Frame{Kind: codec.KindChunk, Payload: p}, 0)
}

// SendMessageOffLoop is SendMessage for every other goroutine; it waits for room in the
// output until ctx ends. Two goroutines that send at once on a graph of several states
// settle the order between them.
func (s *Session) SendMessageOffLoop(ctx context.Context, typ uint64, args []byte) error {
	slot, err := s.step(typ)
	if err != nil {
		return err
	}
	var part channel.Part
	if slot.Next == nil {
		part = channel.Last
	}
	before := s.state.Load()
	if err := s.sendOffLoop(ctx, codec.Frame{Kind: codec.KindCall, Type: typ, Args: args}, part); err != nil {
		return err
	}
	if part == 0 {
		s.state.CompareAndSwap(before, slot.Next)
	}
	return nil
}

// Write is Send with the bound context, for io.Writer. One call is one chunk. Any
// goroutine but the loop.
func (s *Session) Write(p []byte) (int, error) {
	if err := s.Send(s.Context(), p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends our stream with a choke; it is no error if we had ended it already. It
// waits for room in the output. Any goroutine but the loop.
func (s *Session) Close() error {
	if err := s.may(Choke); err != nil {
		return err
	}
	err := s.sendOffLoop(context.Background(), codec.Frame{Kind: codec.KindChoke}, channel.Last)
	if err == ErrClosed {
		return nil
	}
	return err
}

// Fail ends our direction with an error; see SendError. It returns ErrClosed if we had
// ended it already. It waits for room in the output. Any goroutine but the loop.
func (s *Session) Fail(category, code int64, message string) error {
	if err := s.may(Fault); err != nil {
		return err
	}
	return s.sendOffLoop(context.Background(), s.errorFrame(category, code, message), channel.Last)
}

func (s *Session) sendOffLoop(ctx context.Context, f codec.Frame, part channel.Part) error {
	if s.owing.Load() {
		return s.finished()
	}
	var err error
	if b := s.overflow.Load(); b != nil {
		err = s.sendUnder(ctx, b, f, part)
	} else {
		err = s.putOffLoop(ctx, f, part)
	}
	if err == channel.ErrFull {
		s.t.counts.refusals.Add(1)
	}
	return err
}

func (s *Session) putOffLoop(ctx context.Context, f codec.Frame, part channel.Part) error {
	f.Session = s.id
	cost := int64(0)
	if l := &s.t.ext.credit; l.counting.Load() {
		if !l.open.Load() {
			l.early.Add(1)
			defer s.t.placedEarly()
		}
		cost = counted(&f)
		if err := s.payOffLoop(ctx, cost, part == channel.Last); err != nil {
			return err
		}
	}
	var err error
	if s.t.ext.s2.sent.Load() && s.compressible(&f) {
		err = s.sendCompressedOffLoop(ctx, &f)
	} else {
		err = s.t.ch.SendOfOffLoop(ctx, s, &f, part)
	}
	if err != nil {
		s.refund(cost)
	}
	return s.sent(err)
}

// --- our graph ---

// may holds a chunk, an error or a choke against what our graph allows now. A direction
// that is closed is left to the channel, which knows it for sure.
func (s *Session) may(k Kind) error {
	g := s.state.Load()
	if s.stream || g == nil {
		return nil
	}
	for i := range g.slots {
		if slot := &g.slots[i]; slot.Kind == k || k == Chunk && slot.Kind == Value && slot.Next == g {
			return nil
		}
	}
	return fmt.Errorf("%w: %s of %q", ErrGraph, k, s.event)
}

// step returns the message of that number in our graph.
func (s *Session) step(typ uint64) (*Slot, error) {
	g := s.state.Load()
	if g == nil || s.tx.Closed() {
		return nil, s.finished()
	}
	slot := g.Slot(typ)
	if slot == nil {
		return nil, fmt.Errorf("%w: message %d of %q", ErrGraph, typ, s.event)
	}
	return slot, nil
}
