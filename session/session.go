package session

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// Handler takes a session's messages on the loop, as they lie in the read buffer. Its
// methods must not block. A panic in one ends the channel, unless it is one in OnChunk and
// the Handler has a method Survive(s *Session, v any) bool, is given the panic's value, and
// returns true: then the others go on. It is to end the session itself.
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
	// what each chunk is held against, in two lines of the cache; see Session.direct
	id       uint64
	rx       *Graph // what may come now; nil when the peer's direction is closed
	slot     *Slot  // the message that the handler is being told of
	handler  Handler
	kept     int    // chunks in the inbox that the handler gets when there is room
	empty    uint16 // chunks without payload in a row
	held     holds  // who has paused it
	hungry   bool   // the handler was refused by ErrFull and waits for room
	ignored  bool   // what the peer still sends is dropped
	later    bool   // the chunk that is being handed over will be read later
	streamed bool   // rx is a stream of v1, whose chunks cost credit until they are read
	stream   bool   // immutable: our direction is a stock stream, whose state never changes
	t        *Table
	overflow atomic.Pointer[backlog] // nil: Park
	tx       channel.Direction
	owing    atomic.Bool // our last frame waits for room; nothing is taken behind it
	credit   account     // what each chunk changes comes first

	event   string
	headers []codec.Header

	// owned by the loop
	mixed     bool   // rx is none of the stock graphs: what comes is kept with its Slot
	ended     func() // called when the session is over, see onEnded
	openedAt  int64  // offset of our opening frame in the outbound stream; -1: opened by the peer
	txDone    bool   // our last frame has its place in the outbound order
	installed bool
	cutting   bool  // endSession is under way
	duplex    bool  // and is told of what comes meanwhile
	handing   bool  // what was kept is being handed over
	keptEnd   bool  // the peer's stream has ended behind what is kept
	parked    bool  // reading stands still for our inbox
	refused   int   // bytes of the chunk that was refused
	waiting   int   // bytes of both
	lined     uint8 // waits for room or credit for what Overflow has queued
	forsaken  bool  // its Overflow has given it up, and the error may pass
	parkLeft  int64
	parkedAt  time.Time // when the inbox held parkLeft

	// any goroutine
	shrink yield
	state  atomic.Pointer[Graph] // what we may send now
	in     inbox
	end    struct {
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

// Channel returns the channel that the session is on. Any goroutine.
func (s *Session) Channel() *channel.Channel { return s.t.ch }

// SetHandler puts the session on the on-loop face; what comes from now on goes to h.
// To be called on the loop before anything was handed over: in OnInvoke, OnCall or Open,
// or while the session is paused since then.
func (s *Session) SetHandler(h Handler) { s.handler = h }

// ServedBy reports whether h is the session's handler still: nobody has set another one, or
// forwarded the session. On the loop.
func (s *Session) ServedBy(h Handler) bool { return s.handler == h }

// Ignore drops what the peer still sends, and lets the session leave the table as soon
// as our direction has ended, whether the peer ends its own or not. To be called on
// the loop when nobody will read any more.
func (s *Session) Ignore() {
	s.ignored = true
	s.t.lenient = s.t.lenient || s.rx != nil
	s.t.waive(s)
	s.dropKept()
	s.t.unpark(s)
	if s.txDone {
		s.peerAt(nil)
		s.t.settle(s)
	}
}

// Bind returns a context of parent that is cancelled when the session is cut: by the
// peer's error, a lost channel or a failure raised here; the cause says which. Write
// waits with it. If the session was opened with a trace, the context has it. Any
// goroutine, once; cancel releases it.
func (s *Session) Bind(parent context.Context) (ctx context.Context, cancel context.CancelFunc) {
	ctx, cause := context.WithCancelCause(s.withTrace(parent))
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
	if s.sentAll(); s.hungry {
		s.hungry = false
		s.t.ch.Post(s.tellWritable) // of what was kept for it, for there is nothing to wait for
	}
	s.t.payQueue()
	if s.ignored {
		s.peerAt(nil)
	}
	s.t.settle(s)
}
