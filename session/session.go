package session

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// Handler takes a session's messages on the loop, as they lie in the read buffer. Its
// methods must not block.
type Handler interface {
	// OnChunk is called for each piece of the peer's stream; p is borrowed. For a
	// primitive call p is the whole argument array of the value.
	OnChunk(s *Session, p []byte)
	// OnChoke is called when the peer's stream ended.
	OnChoke(s *Session)
	// OnError is called when the peer failed the session, or when it was cut here
	// before both directions had ended. Nothing follows it.
	OnError(s *Session, err *Error)
}

// Writable is a Handler that wants to know when, after SendChunk gave
// channel.ErrFull, there is room again. Until then it is told nothing but an error: what
// the peer sends is kept, up to Config.InboxBytes for all who wait, and then left in the
// socket. Handlers are told in turn: one that fills the output again goes to the back.
type Writable interface {
	OnWritable(s *Session)
}

// Session is one conversation on a channel. Its two directions end independently; it
// leaves the table when both have.
type Session struct {
	t  *Table
	id uint64

	event   string
	headers []codec.Header

	// owned by the loop
	rx        *Graph // what may come now; nil when the peer's direction is closed
	handler   Handler
	openedAt  int64 // offset of our opening frame in the outbound stream; -1: opened by the peer
	txDone    bool  // our last frame has its place in the outbound order
	installed bool
	ignored   bool // what the peer still sends is dropped
	cutting   bool // endSession is under way
	hungry    bool // the handler was refused by ErrFull and waits for room
	keptEnd   bool // the peer's stream has ended behind what is kept
	parked    bool // reading stands still for our inbox
	empty     int  // chunks without payload in a row
	kept      int  // chunks in the inbox that the handler gets when there is room
	refused   int  // bytes of the chunk that was refused
	waiting   int  // bytes of both
	parkLeft  int64
	parkedAt  time.Time // when the inbox held parkLeft

	// any goroutine
	tx    channel.Direction
	owing atomic.Bool // our last frame waits for room; nothing is taken behind it
	in    inbox
	end   struct {
		sync.Mutex
		cut    *Error // why the session was cut
		ctx    context.Context
		cancel context.CancelCauseFunc
	}
}

// ID returns the session's number on the channel. Any goroutine.
func (s *Session) ID() uint64 { return s.id }

// Event returns the name that the session was invoked by. Any goroutine.
func (s *Session) Event() string { return s.event }

// Headers returns the headers of the peer's opening frame, nil if the session was opened
// here; the session owns them. Any goroutine.
func (s *Session) Headers() []codec.Header { return s.headers }

// Dialect returns the dialect of the session's channel. Any goroutine.
func (s *Session) Dialect() codec.Dialect { return s.t.ch.Dialect() }

// SetHandler puts the session on the on-loop face; what comes from now on goes to h.
// To be called on the loop before anything was received, i.e. in OnInvoke or Open.
func (s *Session) SetHandler(h Handler) { s.handler = h }

// Ignore drops what the peer still sends, and lets the session leave the table as soon
// as our direction has ended, whether the peer ends its own or not. To be called on
// the loop when nobody will read any more.
func (s *Session) Ignore() {
	s.ignored = true
	s.dropKept()
	s.t.unpark(s)
	if s.txDone {
		s.rx = nil
		s.t.settle(s)
	}
}

// Bind returns a context of parent that is cancelled when the session is cut: by the
// peer's error, a lost channel or a failure raised here; the cause says which. Write
// waits with it. Any goroutine, once; cancel releases it.
func (s *Session) Bind(parent context.Context) (ctx context.Context, cancel context.CancelFunc) {
	ctx, cause := context.WithCancelCause(parent)
	s.end.Lock()
	defer s.end.Unlock()
	s.end.ctx, s.end.cancel = ctx, cause
	if s.end.cut != nil {
		cause(s.end.cut)
	}
	return ctx, func() { cause(nil) }
}

// Context returns the bound context, or the background. Any goroutine.
func (s *Session) Context() context.Context {
	s.end.Lock()
	defer s.end.Unlock()
	if s.end.ctx == nil {
		return context.Background()
	}
	return s.end.ctx
}

// Err returns why the session was cut, nil if it was not. Any goroutine.
func (s *Session) Err() *Error {
	s.end.Lock()
	defer s.end.Unlock()
	return s.end.cut
}

// --- the on-loop face ---

// SendChunk appends a piece of our stream; p is copied. It returns ErrClosed behind our
// last frame, and channel.ErrFull above the high water mark: p was not taken, and a
// Handler that is [Writable] is told when there is room.
func (s *Session) SendChunk(p []byte) error {
	if s.owing.Load() || s.tx.Closed() {
		return s.finished()
	}
	err := error(channel.ErrFull) // behind those who were refused before
	if !s.t.pause.full {
		f := codec.Frame{Kind: codec.KindChunk, Session: s.id, Payload: p}
		err = s.t.ch.SendOf(s, &f, 0)
	}
	switch err {
	case nil:
		s.t.pause.accepted++
		return nil
	case channel.ErrFull:
		s.t.wantRoom(s, len(p)+chunkCost)
		return err
	}
	return s.sent(err)
}

// SendChoke ends our stream. It is taken even above the high water mark.
func (s *Session) SendChoke() error { return s.sendLast(codec.Frame{Kind: codec.KindChoke}) }

// SendError fails our direction, and with it the session for the peer. In v0 only code
// and message are sent, with a choke behind. It is taken even above the high water mark.
// A message of more than 16 KiB is cut short.
func (s *Session) SendError(category, code int64, message string) error {
	return s.sendLast(s.errorFrame(category, code, message))
}

func (s *Session) errorFrame(category, code int64, message string) codec.Frame {
	if n := min(maxErrorBytes, s.t.ch.MaxPayloadBytes()); len(message) > n {
		message = strings.ToValidUTF8(message[:n], "")
	}
	return codec.Frame{Kind: codec.KindError, Category: category, Code: code, Text: message}
}

func (s *Session) sendLast(f codec.Frame) error {
	if s.owing.Load() {
		return s.finished()
	}
	f.Session = s.id
	err := s.t.ch.SendOf(s, &f, channel.Last)
	if err == channel.ErrFull {
		s.owing.Store(true)
		s.t.owe(s, f)
		return nil
	}
	if err == nil {
		s.t.pause.accepted++
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
	return ErrClosed
}

// --- the blocking face ---

// Send writes one chunk; p is copied. It waits for room in the output until ctx ends.
// It returns ErrClosed behind our last frame, an *Error if the session or its channel was
// cut here, or the cause of ctx. Any goroutine but the loop.
func (s *Session) Send(ctx context.Context, p []byte) error {
	return s.sendOffLoop(ctx, codec.Frame{Kind: codec.KindChunk, Payload: p}, 0)
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
	err := s.sendOffLoop(context.Background(), codec.Frame{Kind: codec.KindChoke}, channel.Last)
	if err == ErrClosed {
		return nil
	}
	return err
}

// Fail ends our direction with an error; see SendError. It returns ErrClosed if we had
// ended it already. It waits for room in the output. Any goroutine but the loop.
func (s *Session) Fail(category, code int64, message string) error {
	return s.sendOffLoop(context.Background(), s.errorFrame(category, code, message), channel.Last)
}

func (s *Session) sendOffLoop(ctx context.Context, f codec.Frame, part channel.Part) error {
	if s.owing.Load() {
		return s.finished()
	}
	f.Session = s.id
	return s.sent(s.t.ch.SendOfOffLoop(ctx, s, &f, part))
}

// --- what the channel calls (channel.Party) ---

// Direction is for the channel.
func (s *Session) Direction() *channel.Direction { return &s.tx }

// Assigned is for the channel.
func (s *Session) Assigned(id uint64) { s.id = id }

// Opened is for the channel.
func (s *Session) Opened(at int64) {
	s.openedAt = at
	s.t.install(s)
}

// Finished is for the channel.
func (s *Session) Finished() {
	s.txDone, s.hungry = true, false
	if s.ignored {
		s.rx = nil
	}
	s.t.settle(s)
}

// --- receiving, on the loop ---

// receive takes one message of the peer.
func (s *Session) receive(m *codec.Message) {
	if s.rx == nil {
		s.t.counts.repeated.inc()
		return
	}
	slot := s.rx.Slot(m.Type)
	if slot == nil {
		s.t.failSession(s, CodeUnknownType, "a message of this type may not come now")
		return
	}
	s.rx = slot.Next
	switch slot.Kind {
	case Chunk:
		s.gotChunk(m)
	case Value:
		s.gotData(m.Args)
	case Choke:
		s.rx = nil
	case Fault:
		s.gotError(m)
	}
	if s.rx == nil {
		s.peerEnded()
		s.t.settle(s)
	}
}

func (s *Session) gotChunk(m *codec.Message) {
	if m.Payload == nil {
		s.t.failSession(s, CodeMalformed, "a chunk without data")
		return
	}
	if len(m.Payload) > 0 {
		s.empty = 0
	} else if s.empty++; s.empty > maxEmptyChunks {
		s.t.flood("chunks without payload")
		return
	}
	s.gotData(m.Payload)
}

func (s *Session) gotData(p []byte) {
	if s.ignored {
		return
	}
	switch {
	case s.handler == nil:
		if s.in.put(p, s.t.cfg.InboxBytes) && s.rx != nil { // else nothing more will come
			s.t.park(s)
		}
	case s.keeping():
		s.kept++
		s.in.put(p, math.MaxInt)
		s.t.wait(s, len(p)+chunkCost)
	default:
		s.handler.OnChunk(s, p)
	}
}

// keeping reports that the handler is told later.
func (s *Session) keeping() bool { return s.hungry || s.kept > 0 }

func (s *Session) dropKept() {
	s.kept, s.keptEnd, s.refused = 0, false, 0
	s.t.wait(s, -s.waiting)
}

// tellWritable tells the handler of room, unless it has ended meanwhile, and hands over
// what was kept for it until it fills the output again.
func (s *Session) tellWritable() {
	hungry := s.hungry
	s.t.wait(s, -s.refused)
	s.hungry, s.refused = false, 0
	if w, ok := s.handler.(Writable); hungry && ok {
		w.OnWritable(s)
	}
	for s.kept > 0 && !s.hungry {
		s.kept--
		p, _, _ := s.in.take()
		s.t.wait(s, -len(p)-chunkCost)
		s.handler.OnChunk(s, p)
		invariants.Poison(p)
	}
	if s.keptEnd {
		s.keptEnd = false
		s.peerEnded() // or keeps it again
		s.t.settle(s)
	}
}

// peerEnded is the good end of the peer's direction. If the last message was an error, or
// the session was cut while it was handed over, both faces know already.
func (s *Session) peerEnded() {
	switch {
	case s.ignored || s.Err() != nil:
	case s.handler != nil && s.keeping():
		s.keptEnd = true
	case s.handler != nil:
		s.handler.OnChoke(s)
	default:
		s.in.end(io.EOF)
	}
}

func (s *Session) gotError(m *codec.Message) {
	e := &Error{Remote: true}
	category, code, message, ok := codec.DecodeError(m)
	if ok {
		e.Category, e.Code, e.Message = category, code, string(message)
	} else {
		e.Message = "malformed"
	}
	s.rx = nil
	s.t.cancelled(s)
	s.cutOff(e)
}

// cutOff ends both faces of a session, once.
func (s *Session) cutOff(e *Error) {
	if s.markCut(e) {
		s.tellCut(e)
	}
}

// markCut notes why the session will not go on; false if it was cut before.
func (s *Session) markCut(e *Error) bool {
	s.end.Lock()
	defer s.end.Unlock()
	if s.end.cut != nil {
		return false
	}
	s.end.cut = e
	return true
}

// tellCut tells both faces that the session will not go on. A handler that waited for
// room is told of nothing else any more.
func (s *Session) tellCut(e *Error) {
	s.end.Lock()
	cancel := s.end.cancel
	s.end.Unlock()
	if cancel != nil {
		cancel(e)
	}
	s.in.end(e)
	s.t.unpark(s)
	s.hungry = false
	s.dropKept()
	if s.handler != nil {
		s.handler.OnError(s, e)
	}
}

// unpark has the table go on reading; posted by the reader of a full inbox.
func (s *Session) unpark() { s.t.unpark(s) }
