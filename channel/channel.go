package channel

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/codec"
)

// Handler is told what happens on a channel. All calls come on the channel's loop,
// one at a time, and must not block. A panic in one ends the channel (CodePanic) and
// nothing else; one in OnMessage not even that if the Handler has a method
// Survive(v any) bool, is given the panic's value, and returns true: then the channel goes
// on behind that frame.
type Handler interface {
	// OnOpen is the first call: the stream is there.
	OnOpen(c *Channel)
	// OnMessage is called for each frame, in order. m and headers are borrowed.
	OnMessage(m *codec.Message, headers []codec.Header)
	// OnWritable is called when output fell to the low water mark after ErrFull.
	OnWritable()
	// OnClose is the last call, exactly once if OnOpen was called.
	OnClose(err *CloseError)
}

// Channel is one connection: frames both ways over one ordered byte stream. It is
// used once: idle, connecting, open, closing, closed.
type Channel struct {
	// immutable after New
	cfg  Config
	h    Handler
	log  *slog.Logger
	done chan struct{} // closed after OnClose

	// set once by Connect or Attach, before the loop knows the channel
	loop    *loop
	stream  stream
	private *Loops // made for this channel alone
	near    bool   // see Near

	state      atomic.Uint32 // State; written on the loop, or by Connect before it
	cancelDial atomic.Pointer[context.CancelFunc]
	o          outbound
	in         inbound

	// owned by the loop
	wasOpen  bool        // OnOpen was called; read by others after done
	broken   *CloseError // ends the channel at the end of the turn
	ending   *CloseError // given to Drain; what OnClose will say
	drain    drain
	closeErr *CloseError // what OnClose was told; read by others after done

	stats counters
}

// stream is what a channel needs of a transport. All methods but wait are called on
// the loop.
type stream interface {
	// write offers p. The transport takes n bytes at once and calls writable when it
	// takes more; or it borrows n bytes (later) and calls wrote when it is done with them.
	write(p []byte) (n int, later bool, err error)
	// setPaused stops or starts reading.
	setPaused(paused bool)
	// unread reports whether the peer sent bytes that the channel has not seen.
	unread() bool
	// poll reads once if that needs no waiting.
	poll()
	// closeWrite ends our direction.
	closeWrite()
	// close gives everything back. The transport makes no call afterwards.
	close()
	// wait returns when the transport's goroutines are gone. Any goroutine but theirs.
	wait()
}

// New returns an idle channel. It starts nothing.
func New(cfg Config, h Handler) (*Channel, error) {
	if h == nil {
		return nil, fmt.Errorf("channel: New needs a Handler")
	}
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	c := &Channel{cfg: cfg, h: h, log: cfg.Logger, done: make(chan struct{})}
	c.o.nextID = cfg.FirstSession
	c.in.init(&cfg)
	return c, nil
}

// Connect dials network ("tcp", "unix", …) and addr, and opens the channel on the
// connection. It returns when OnOpen has run, or with the error of the dial, in which
// case no callback is made; Close ends the dial with net.ErrClosed. Any goroutine but
// a loop, once.
func (c *Channel) Connect(ctx context.Context, network, addr string) error {
	if !c.fire(Idle, evConnect) {
		return ErrUsed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.cancelDial.Store(&cancel)
	if c.State() != Connecting { // Close has not seen it
		cancel()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		if !c.fail(Connecting, &CloseError{Code: CodeIO, Err: err}) {
			err = net.ErrClosed
		}
		return fmt.Errorf("channel: connect %s %s: %w", network, addr, err)
	}
	return c.attach(conn)
}

// Attach opens the channel on a connection that is already there, and owns it from
// then on. TCP and unix sockets go to the event loop, where there is one; an [*End] of
// a local pair to its own transport; everything else (TLS) to the net.Conn transport.
// It returns when OnOpen has run. Any goroutine but a loop, once.
func (c *Channel) Attach(conn net.Conn) error {
	if !c.fire(Idle, evConnect) {
		_ = conn.Close()
		return ErrUsed
	}
	return c.attach(conn)
}

func (c *Channel) attach(conn net.Conn) error {
	c.near = sameMachine(conn)
	opened := make(chan struct{})
	open := func() { // the loop's own post: it runs on a closed channel too
		defer close(opened)
		defer c.guard()
		if !c.fire(Connecting, evAttach) { // Close came first
			c.stream.close()
			return
		}
		c.wasOpen = true
		c.watchFirstFrame()
		c.h.OnOpen(c)
	}
	err := c.choose(conn, open)
	if err == nil {
		<-opened
		if c.wasOpen {
			return nil
		}
		err = net.ErrClosed
	}
	_ = conn.Close()
	c.fail(Connecting, &CloseError{Code: CodeIO, Err: err})
	c.wait()
	return fmt.Errorf("channel: attach: %w", err)
}

// wait returns when the goroutines that serve the channel alone are gone.
func (c *Channel) wait() {
	if c.stream != nil {
		c.stream.wait()
	}
	if c.private != nil {
		_ = c.private.Close(context.Background())
	}
}

// choose picks the transport and has it run open on the loop before anything else.
func (c *Channel) choose(conn net.Conn, open func()) error {
	if e, ok := conn.(*End); ok && !c.cfg.NoEventLoop {
		startLocal(c, e, open)
		return nil
	}
	if eventLoops && !c.cfg.NoEventLoop {
		if ok, err := c.choosePoll(conn, open); ok || err != nil {
			return err
		}
	}
	startConn(c, conn, open)
	return nil
}

// choosePoll puts TCP and unix sockets on the event loop; ok is false for others.
func (c *Channel) choosePoll(conn net.Conn, open func()) (ok bool, err error) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return false, nil
	}
	loops := c.cfg.Loops
	if loops == nil {
		if loops, err = NewLoops(LoopsConfig{N: 1, Logger: c.log}); err != nil {
			return false, err
		}
		c.private = loops
	}
	return true, loops.attach(c, conn, open)
}

// fail ends a channel that never opened, if it still is in the given state.
func (c *Channel) fail(from State, err *CloseError) bool {
	c.o.mu.Lock() // whoever sees the state waits here for the reason
	ok := c.fire(from, evFail)
	if ok {
		c.o.sealed = err
	}
	c.o.mu.Unlock()
	if !ok {
		return false
	}
	if cancel := c.cancelDial.Load(); cancel != nil {
		(*cancel)()
	}
	c.closeErr = err
	close(c.done)
	return true
}

// fire moves the state machine from the given state.
func (c *Channel) fire(from State, e event) bool {
	to, ok := table.Next(from, e)
	return ok && c.state.CompareAndSwap(uint32(from), uint32(to))
}

// SameLoop reports whether two channels that were connected or attached are owned by one
// loop: then code that runs on it may use both.
func (c *Channel) SameLoop(other *Channel) bool { return c.loop == other.loop }

// Near reports whether the peer is on this machine, where moving bytes costs less than
// making them fewer: a local pair, a pipe, a unix socket, or TCP to an address of our own.
// On the loop, or after Connect or Attach.
func (c *Channel) Near() bool { return c.near }

// Full reports whether the output is above its high water mark, so that what is sent now
// waits or is refused. Any goroutine; it may change at any time.
func (c *Channel) Full() bool { return c.o.held() >= c.cfg.HighWaterBytes }

// sameMachine is Near of a connection. One that does not say where it leads leads away.
func sameMachine(conn net.Conn) bool {
	remote, local := conn.RemoteAddr(), conn.LocalAddr()
	if remote == nil {
		return false
	}
	switch remote.Network() {
	case "unix", "unixpacket", "pipe", "pair":
		return true
	}
	peer, ok := remote.(*net.TCPAddr)
	if !ok {
		return false
	}
	self, ok := local.(*net.TCPAddr)
	return peer.IP.IsLoopback() || ok && self.IP.Equal(peer.IP)
}

// State returns the present state. Any goroutine.
func (c *Channel) State() State { return State(c.state.Load()) }

// Dialect returns the dialect of both directions. Any goroutine.
func (c *Channel) Dialect() codec.Dialect { return c.cfg.Dialect }

// MaxPayloadBytes returns the bound of one payload in either direction. Any goroutine.
func (c *Channel) MaxPayloadBytes() int { return c.cfg.Limits.MaxPayloadBytes }

// Done is closed when the channel is over and OnClose has returned. Any goroutine.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Post has f run on the loop soon, in order. Any goroutine. It reports false, and f
// does not run, if the channel is not open or over; f never runs after OnClose. Use it
// once per wake-up and not per message: post again only after the last post ran.
func (c *Channel) Post(f func()) bool {
	if s := c.State(); s != Open && s != Closing {
		return false
	}
	return c.loop.post(c, f)
}

// guard, deferred around callbacks, ends the channel if one panics.
func (c *Channel) guard() {
	if v := recover(); v != nil {
		c.panicked(v)
	}
}

// panicked ends the channel because a callback of it panicked.
func (c *Channel) panicked(v any) {
	if c == nil {
		panic(v)
	}
	c.loop.delivering = false
	c.log.Error("channel: a callback panicked; the channel ends", "panic", v, "stack", string(debug.Stack()))
	c.Fail(&CloseError{Code: CodePanic, Reason: fmt.Sprint(v)})
}
