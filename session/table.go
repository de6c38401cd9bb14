package session

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/codec/compress"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// Role says which end of the link a table is.
type Role uint8

// The ends of a link.
const (
	Worker Role = iota // the peer is an engine: it invokes, beats and terminates
	Engine             // the peer is a worker: it shakes hands, beats and answers
	Client             // the peer is a service, and we are the side that connected
	Server             // the peer is a client, and we are the side that accepted
)

// Owner is told what concerns the whole channel. All calls come on the loop and must
// not block. An Owner that is also [Writable] is called with a nil session when there
// is room again after Open gave channel.ErrFull.
type Owner interface {
	// OnOpen is the first call.
	OnOpen()
	// OnInvoke hands over a session that the peer opened. It gets a Handler here, or
	// is given to a goroutine.
	OnInvoke(s *Session)
	// OnHandshake is called for the peer's handshake; uuid is borrowed.
	OnHandshake(uuid []byte)
	// OnHeartbeat is called for each heartbeat of the peer.
	OnHeartbeat()
	// OnTerminate is called when the peer asks to end; reason is borrowed.
	OnTerminate(code int64, reason []byte)
	// OnClose is the last call. Every session has ended.
	OnClose(err *channel.CloseError)
}

// Config sets up a Table. A zero field means its default, a negative one no limit.
type Config struct {
	// Channel is passed on. Its dialect is the table's. FirstSession is set, but for a
	// Client that has one: some count from 2 (protocol: channels).
	Channel channel.Config
	// Role of our end.
	Role Role
	// Owner is required.
	Owner Owner
	// MaxSessions that the peer may have open. If zero, 1024. One more is refused.
	MaxSessions int
	// MaxNameBytes of an event's name. If zero, 1 KiB.
	MaxNameBytes int
	// InboxBytes that wait for a reader before the channel stops reading; it goes on when
	// a quarter of them was read. If zero, 256 KiB. A session holds at most twice this and
	// two chunks.
	InboxBytes int
	// MaxPause is how long the channel may stand still for one reader that does not
	// read at all; then that session fails. If zero, 5 s, which is below the 10 s after
	// which our own peers give up writing.
	MaxPause time.Duration
	// MaxCancels beyond completed sessions in 10 s (rapid reset). If zero, 1000.
	MaxCancels int
	// MaxStrays in 10 s: frames for sessions that never were. Late ones, for sessions
	// that are over, are dropped without a limit. If zero, 100000.
	MaxStrays int
	// MaxHeartbeats in a second. If zero, 100.
	MaxHeartbeats int
	// Extensions beyond plain Cocaine.
	Extensions Extensions
	// OnSettled, if set, is called on the loop when a session has left the table because
	// both of its directions ended. It may come inside a Send on the loop.
	OnSettled func(s *Session)
	// Logger. If nil, slog.Default().
	Logger *slog.Logger
}

// maxEmptyChunks in a row on one session before the peer is cut.
const maxEmptyChunks = 1000

func (c *Config) setDefaults() error {
	if c.Owner == nil {
		return fmt.Errorf("session: Config.Owner is required")
	}
	for _, d := range []struct {
		p   *int
		def int
	}{
		{&c.MaxSessions, 1024}, {&c.MaxNameBytes, 1 << 10}, {&c.InboxBytes, 256 << 10},
		{&c.MaxCancels, 1000}, {&c.Extensions.SessionWindow, 4 << 20}, {&c.Extensions.ChannelWindow, 16 << 20},
		{&c.Extensions.MaxCompressed, 1 << 20}, {&c.MaxStrays, 100_000}, {&c.MaxHeartbeats, 100},
	} {
		switch {
		case *d.p == 0:
			*d.p = d.def
		case *d.p < 0:
			*d.p = int(^uint(0) >> 1)
		}
	}
	c.Extensions.MinCompress = max(cmp.Or(c.Extensions.MinCompress, 1<<10), compress.MinInputBytes)
	switch {
	case c.MaxPause == 0:
		c.MaxPause = 5 * time.Second
	case c.MaxPause < 0:
		c.MaxPause = 1<<63 - 1
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Channel.Logger == nil {
		c.Channel.Logger = c.Logger
	}
	return c.setRole()
}

// setRole sets what depends on our end of the link.
func (c *Config) setRole() error {
	first := &c.Channel.FirstSession
	switch {
	case c.Role == Client && *first >= acceptedFirst:
		return fmt.Errorf("session: Config.Channel.FirstSession is %d, want less than 1<<62", *first)
	case c.Role == Client:
		*first = max(*first, 1)
	case c.Role == Server:
		if _, ok := c.Owner.(Callee); !ok {
			return fmt.Errorf("session: Config.Owner of a Server must be a Callee")
		}
		*first = acceptedFirst
	case c.Channel.Dialect == codec.V1:
		*first = 2 // 1 is the control channel of a worker link
	default:
		*first = 1
	}
	return nil
}

// Table owns the sessions of one channel. Its methods are for the loop unless they
// say otherwise.
type Table struct {
	cfg     Config
	ch      *channel.Channel
	log     *slog.Logger
	ids     ids
	highest uint64 // number that the peer opened; on a link of workers, that either did
	shaken  bool   // the peer's handshake came (Engine)
	pause   pauses
	ext     extension
	chunk   *Slot // of the streams here; noChunk where a chunk needs a closer look
	told    told  // the present message's, or the last one's

	// where methods are called
	callee      Callee // nil: the peer may not call
	highestOurs uint64
	strict      bool // what the live runtime closes connections for, we close them for
	lenient     bool // a session was ended here before the peer ended it: frames may come late

	cancels, strays, beats budget
	counts                 counters
	faults                 faults
}

// New returns a table and the idle channel under it, to be connected or attached by
// the caller.
func New(cfg Config) (*Table, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	t := &Table{cfg: cfg, log: cfg.Logger, strict: cfg.Role == Server && cfg.Channel.Dialect == codec.V1}
	if cfg.Role == Client || cfg.Role == Server {
		t.callee, _ = cfg.Owner.(Callee)
	}
	switch t.chunk = streamChunk(cfg.Channel.Dialect); {
	case cfg.Role == Engine: // until the handshake
		t.chunk = noChunk
	case t.callee != nil && cfg.Channel.Dialect == codec.V0: // a call's number is not used again
		t.chunk = noChunk
	}
	t.cancels = budget{limit: cfg.MaxCancels, per: 10 * time.Second}
	t.strays = budget{limit: cfg.MaxStrays, per: 10 * time.Second}
	t.beats = budget{limit: cfg.MaxHeartbeats, per: time.Second}
	ch, err := channel.New(cfg.Channel, events{t})
	if err != nil {
		return nil, err
	}
	t.ch = ch
	t.pause.timer = ch.NewTimer(t.pausedLong)
	return t, nil
}

// Channel returns the channel under the table. Any goroutine.
func (t *Table) Channel() *channel.Channel { return t.ch }

// Len counts the open sessions.
func (t *Table) Len() int { return t.ids.count }

// Open invokes event at the peer on a new session that h serves; the session is
// installed when Open returns. Only the Engine's end invokes.
func (t *Table) Open(event string, headers []codec.Header, h Handler) (*Session, error) {
	s, f, err := t.prepare(event, headers, h)
	if err != nil {
		return nil, notSent(err)
	}
	return t.open(s, &f, channel.First)
}

// OpenOffLoop is Open for every other goroutine. With a nil Handler the session is read
// by Recv. It waits for room in the output until ctx ends.
func (t *Table) OpenOffLoop(ctx context.Context, event string, headers []codec.Header, h Handler) (*Session, error) {
	s, f, err := t.prepare(event, headers, h)
	if err != nil {
		return nil, notSent(err)
	}
	if err := t.ch.SendOfOffLoop(ctx, s, &f, channel.First); err != nil {
		return nil, notSent(err)
	}
	return s, nil
}

// prepare makes a session of ours and its opening frame. A worker opens none: an engine
// drops the connection of one that does (protocol: worker).
func (t *Table) prepare(event string, headers []codec.Header, h Handler) (*Session, codec.Frame, error) {
	if t.cfg.Role != Engine {
		return nil, codec.Frame{}, errNoInvokes
	}
	stream := Stream(t.ch.Dialect())
	s := t.newSession(event, stream, stream)
	s.handler = h
	return s, codec.Frame{Kind: codec.KindInvoke, Text: event, Headers: headers}, nil
}

// notSent marks an open that never reached the channel.
func notSent(err error) error {
	return &Error{Message: "the session was not opened", Delivery: NotSent, Err: err}
}

// newSession returns a session in which we may send tx and the peer rx.
func (t *Table) newSession(event string, tx, rx *Graph) *Session {
	s := &Session{t: t, event: event, rx: rx, openedAt: -1, stream: tx == Streaming || tx == StreamingV0}
	s.mixed = rx != nil && rx != Streaming && rx != StreamingV0 && rx != Primitive
	s.state.Store(tx)
	s.streamed = rx == Streaming
	if t.ext.credit.open.Load() {
		t.openAccount(s)
	}
	if rx == nil {
		s.in.ended = io.EOF
	}
	return s
}

// install puts a session into the table.
func (t *Table) install(s *Session) {
	s.installed = true
	t.ids.put(s)
	if t.ext.credit.on {
		t.openAccount(s)
		t.payQueue() // who sends on a session that was prepared before the agreement
	}
	if s.openedAt >= 0 {
		t.highestOurs = s.id
	}
	if t.cfg.Role == Engine {
		t.highest = s.id
	}
	t.counts.opened.inc()
	t.counts.open.Store(int64(t.ids.count))
	if !s.txDone {
		t.counts.sending.add(1)
	}
	if s.rx != nil {
		t.counts.receiving.add(1)
	}
}

// sentAll notes that our direction has ended.
func (s *Session) sentAll() {
	if s.installed && !s.txDone {
		s.t.counts.sending.add(-1)
	}
	s.txDone = true
}

// peerAt moves the peer's direction on to g, nil for its end.
func (s *Session) peerAt(g *Graph) {
	if g == nil && s.installed && s.rx != nil {
		s.t.counts.receiving.add(-1)
	}
	s.rx = g
}

// settle takes a session out of the table when both directions have ended.
func (t *Table) settle(s *Session) {
	if s.rx != nil || !s.txDone || !s.installed || s.cutting || s.keptEnd {
		return
	}
	s.installed = false
	t.ids.del(s.id)
	invariants.Check(t.ids.count > 0 || t.counts.sending.n.Load()|t.counts.receiving.n.Load() == 0, "a direction is open without a session")
	t.counts.open.Store(int64(t.ids.count))
	t.unpark(s)
	s.flushAtEnd()
	t.closeAccount(s)
	if s.Err() == nil {
		t.counts.completed.inc()
		t.cancels.refund()
	}
	if t.cfg.OnSettled != nil {
		t.cfg.OnSettled(s)
	}
	s.tellEnded()
}

// failSession ends a session because of what the peer did in it.
func (t *Table) failSession(s *Session, code int64, why string) {
	t.counts.failed.inc()
	t.spendCancel()
	t.endSession(s, &Error{Category: CategoryWorker, Code: code, Message: why})
}

// End fails every open session on the peer's side too, with the given error, and cuts
// it here. For an owner that stops.
func (t *Table) End(code int64, why string) {
	for _, s := range t.ids.all() {
		if s.installed { // the end of another may have ended it
			t.endSession(s, &Error{Category: CategoryWorker, Code: code, Message: why})
		}
	}
}

// endSession cuts a session: the peer gets an error if our direction is open, the reader
// or the handler a local one. What its handler then does cannot come before the error.
func (t *Table) endSession(s *Session, e *Error) {
	s.cutting = true
	t.lenient = t.lenient || s.rx != nil
	first := s.markCut(e)
	if s.SendError(e.Category, e.Code, e.Message) != nil {
		t.waive(s)
	}
	if first {
		s.tellCut(e)
	}
	s.peerAt(nil)
	s.cutting = false
	t.settle(s)
}

// cancelled counts a session that the peer failed before we had answered.
func (t *Table) cancelled(s *Session) {
	t.counts.cancelled.inc()
	if !s.txDone {
		t.spendCancel()
	}
}

func (t *Table) spendCancel() {
	if t.cancels.spend() {
		t.flood("cancelled or failed sessions")
	}
}

// stray counts a frame that belongs to no session.
func (t *Table) stray() {
	t.counts.unknown.inc()
	if t.strays.spend() {
		t.flood("frames without a session")
	}
}

func (t *Table) flood(what string) {
	t.ch.Fail(&channel.CloseError{Code: channel.CodeFlood, Reason: "too many " + what, Remote: true})
}
