package service

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/fsm"
	"github.com/sluice-rpc/sluice/session"
)

// BaseConfig sets up a BaseService. The zero value works.
type BaseConfig struct {
	// V0 has the old version of the protocol spoken, that of runtimes 0.10 and 0.11.
	V0 bool
	// Loops that own the channel. If nil, a private one.
	Loops *channel.Loops
	// Sessions are the limits of the channel and its sessions. With Extensions.Offer, which
	// is for services of our kind, credit, cancel, deadlines and compression are agreed on.
	// Role, Owner, and of its Channel the Dialect and the Loops are set here; MaxCancels of
	// zero is no limit.
	Sessions session.Config
	// DialTimeout of one try of one address, and of looking up a name. If zero, 5 s. If
	// negative, no limit.
	DialTimeout time.Duration
	// Dial connects to an address of network "tcp"; the host may be a name. If nil, names
	// are looked up, and each of their addresses is dialled in turn.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// OnState, if set, is told of each change of the state, in order and one at a time. It
	// is called by a loop or by whoever calls Connect or Close. It must not block, which
	// Close does.
	OnState func(c Change)
	// Logger. If nil, slog.Default().
	Logger *slog.Logger

	pace *pace // of dials; nil for none
}

// Change is a change of the state of a BaseService.
type Change struct {
	From, To State
	Endpoint Endpoint      // the connection's, if one was there or has come
	Err      error         // why To is Errored
	Errno    syscall.Errno // of the socket's error in Err, 0 if there is none
}

// BaseService is one channel to the first of several endpoints that takes it. It has a
// state and is told what the channel is told; it neither resolves a name nor comes back
// by itself: Service does. All methods may be called by any goroutine but a loop.
type BaseService struct {
	cfg   BaseConfig
	stage atomic.Uint32
	link  atomic.Pointer[link] // nil unless connected

	mu       sync.Mutex // guards the following; no user code runs under it
	machine  fsm.Machine[State, event]
	cancel   context.CancelFunc // of a Connect that is under way
	attempt  uint64             // number of that Connect
	last     *link              // the connection that was there last
	err      error              // why the state is Errored
	changes  []Change           // not told yet
	telling  bool               // somebody tells them
	connects uint64             // connections so far
}

// link is one connection: the Owner of its table.
type link struct {
	base     *BaseService
	table    *session.Table
	endpoint Endpoint
	number   uint64      // of the connection, from 1
	since    time.Time   // when it was there
	resolved Resolved    // what is at the other end; set by who connected
	lost     func(*link) // called once when it is gone, on the loop; set before it is used
	gone     error       // why it is over; guarded by the base's mu

	uses atomic.Int64  // by calls under way, as far as a single counts them
	left atomic.Bool   // no call uses it any more
	idle chan struct{} // of who has left it: uses may be 0; set before left
}

// use counts a call on the connection; false if that was left. Whoever leaves it first says
// so and then looks at the count, so that one of the two sees the other.
func (l *link) use() bool {
	l.uses.Add(1)
	if l.left.Load() {
		l.unuse()
		return false
	}
	return true
}

// unuse is the end of a call.
func (l *link) unuse() {
	if l.uses.Add(-1) == 0 && l.left.Load() {
		select {
		case l.idle <- struct{}{}:
		default:
		}
	}
}

// leave has no call use the connection any more, and waits for those under way until they
// have ended, the connection is lost, or ctx ends. To be called once.
func (l *link) leave(ctx context.Context) {
	l.idle = make(chan struct{}, 1)
	l.left.Store(true)
	for l.uses.Load() > 0 {
		select {
		case <-l.idle:
		case <-l.table.Channel().Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// NewBaseService returns a BaseService that is closed. It starts nothing.
func NewBaseService(cfg BaseConfig) *BaseService {
	orElse(&cfg.DialTimeout, 5*time.Second, 0)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &BaseService{cfg: cfg, machine: baseTable.Machine()}
}

// State returns the present state.
func (b *BaseService) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.machine.State()
}

// Stage returns what is being done to get connected.
func (b *BaseService) Stage() Stage { return Stage(b.stage.Load()) }

// Err returns why the state is Errored, nil if it is not: a *ResolveError without a name,
// or the *channel.CloseError of the connection that was lost.
func (b *BaseService) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Table returns the sessions of the connection, nil if there is none.
func (b *BaseService) Table() *session.Table {
	if l := b.link.Load(); l != nil {
		return l.table
	}
	return nil
}

// Endpoint returns where the connection leads, the zero Endpoint if there is none.
func (b *BaseService) Endpoint() Endpoint {
	if l := b.link.Load(); l != nil {
		return l.endpoint
	}
	return Endpoint{}
}

// Connect tries the endpoints in their order until one takes the connection. The error is
// a *ResolveError that lists how each of them failed; it is ErrState if there is a
// connection, or another Connect is under way, and ErrClosed if Close came meanwhile.
func (b *BaseService) Connect(ctx context.Context, endpoints []Endpoint) error {
	_, err := b.connect(ctx, Resolved{Endpoints: endpoints}, nil)
	return err
}

// connect is Connect to r, whose link calls lost when it is gone.
func (b *BaseService) connect(ctx context.Context, r Resolved, lost func(*link)) (*link, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attempt, err := b.begin(cancel)
	if err != nil {
		return nil, err
	}
	b.tell()
	defer b.tell()
	defer b.setStage(StageNone)
	failed := &ResolveError{}
	for _, e := range r.Endpoints {
		l, tries := b.try(ctx, e)
		failed.Tries = keepTries(failed.Tries, tries)
		if l != nil {
			l.resolved, l.lost = r, lost
			if err := b.install(attempt, l); err == nil {
				return l, nil
			} else if b.discard(l); err == ErrClosed {
				return nil, err
			} else {
				failed.Tries = keepTries(failed.Tries, []Try{{Stage: StageDial, Endpoint: e, Err: err}})
			}
		}
		if ctx.Err() != nil {
			failed.Err = context.Cause(ctx)
			break
		}
	}
	if len(r.Endpoints) == 0 {
		failed.Tries = []Try{{Stage: StageDial, Err: fmt.Errorf("there is no endpoint")}}
	}
	return nil, b.fail(attempt, failed)
}

func (b *BaseService) setStage(s Stage) { b.stage.Store(uint32(s)) }

// begin moves to Connecting and returns the number of the attempt.
func (b *BaseService) begin(cancel context.CancelFunc) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.machine.State()
	if !b.fireLocked(evConnect, Change{}) {
		return 0, fmt.Errorf("%w: connect when %v", ErrState, state)
	}
	b.attempt++
	b.cancel, b.err = cancel, nil
	return b.attempt, nil
}

// install makes l the connection, unless it has broken or Close came.
func (b *BaseService) install(attempt uint64, l *link) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.attempt != attempt || b.machine.State() != Connecting {
		return ErrClosed
	}
	if l.gone != nil {
		return fmt.Errorf("closed at once: %w", l.gone)
	}
	b.connects++
	l.number, l.since = b.connects, time.Now()
	b.cancel, b.last = nil, l
	b.link.Store(l)
	b.fireLocked(evOpen, Change{Endpoint: l.endpoint})
	return nil
}

// discard ends a connection that nobody has used, and waits for it.
func (b *BaseService) discard(l *link) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.table.Channel().Close(ctx)
}

// fail ends an attempt, and returns ErrClosed if Close had ended it already.
func (b *BaseService) fail(attempt uint64, err *ResolveError) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.attempt != attempt || b.machine.State() != Connecting {
		return ErrClosed
	}
	b.cancel, b.err = nil, err
	b.fireLocked(evFail, Change{Err: err, Errno: Errno(err)})
	return err
}

// refuse notes why there is nothing to connect to. Only who connects calls it.
func (b *BaseService) refuse(err error) {
	b.mu.Lock()
	b.err = err
	b.fireLocked(evFail, Change{Err: err, Errno: Errno(err)}) // no change if it was so before
	b.mu.Unlock()
	b.tell()
}

// lose is told that l is gone and why, by its channel or by a caller who has seen it
// first. Only the first counts.
func (b *BaseService) lose(l *link, err error) {
	b.mu.Lock()
	if l.gone != nil {
		b.mu.Unlock()
		return
	}
	l.gone = err
	mine := b.link.CompareAndSwap(l, nil)
	if mine {
		b.err = err
		b.fireLocked(evFail, Change{Endpoint: l.endpoint, Err: err, Errno: Errno(err)})
	}
	b.mu.Unlock()
	if mine && l.lost != nil {
		l.lost(l)
	}
	b.tell()
}

// Close ends the connection, once what was sent has left or ctx ends, and a Connect that
// is under way. Sessions that are open end with an error. The BaseService can connect
// again. It returns what the channel's Close does.
func (b *BaseService) Close(ctx context.Context) error {
	b.mu.Lock()
	l, last, cancel := b.link.Swap(nil), b.last, b.cancel
	b.cancel, b.err, b.last = nil, nil, nil
	var c Change
	if l != nil {
		l.gone, c.Endpoint = ErrClosed, l.endpoint
	}
	b.fireLocked(evClose, c)
	b.mu.Unlock()
	b.tell()
	if cancel != nil {
		cancel()
	}
	switch {
	case l != nil:
		return l.table.Channel().Close(ctx)
	case last != nil: // lost: only its goroutines may be left
		b.discard(last)
	}
	return nil
}

// fireLocked moves the machine and notes the change.
func (b *BaseService) fireLocked(e event, c Change) bool {
	from, to, ok := b.machine.Fire(e)
	if ok && b.cfg.OnState != nil {
		c.From, c.To = from, to
		b.changes = append(b.changes, c)
	}
	return ok
}

// tell tells OnState what was noted, unless somebody is at it: one at a time, in order.
func (b *BaseService) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.telling {
		return
	}
	b.telling = true
	defer func() { b.telling = false }()
	for len(b.changes) > 0 {
		c := b.changes[0]
		b.changes = b.changes[1:]
		b.tellOne(c)
	}
}

// tellOne gives the lock up for the call, and has it back even behind a panic.
func (b *BaseService) tellOne(c Change) {
	b.mu.Unlock()
	defer b.mu.Lock()
	b.cfg.OnState(c)
}

// try dials one endpoint, all of its addresses in turn.
func (b *BaseService) try(ctx context.Context, e Endpoint) (*link, []Try) {
	addrs := []string{e.String()}
	if _, err := netip.ParseAddr(e.Host); err != nil && b.cfg.Dial == nil {
		b.setStage(StageLookUp)
		ips, err := b.lookUp(ctx, e.Host)
		if err != nil {
			return nil, []Try{{StageLookUp, e, err}}
		}
		addrs = addrs[:0]
		for _, ip := range ips[:min(len(ips), MaxEndpoints)] {
			addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), e.Port).String())
		}
	}
	b.setStage(StageDial)
	var tries []Try
	for _, addr := range addrs {
		err := b.cfg.pace.wait(ctx)
		var l *link
		if err == nil {
			l, err = b.dial(ctx, e, addr)
		}
		if err == nil {
			return l, tries
		}
		tries = append(tries, Try{StageDial, e, err})
		if ctx.Err() != nil {
			break
		}
	}
	return nil, tries
}

// bound returns a context that ends after the DialTimeout.
func (b *BaseService) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if b.cfg.DialTimeout > 0 {
		return context.WithTimeout(ctx, b.cfg.DialTimeout)
	}
	return context.WithCancel(ctx)
}

// lookUp returns the addresses of a host.
func (b *BaseService) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := b.bound(ctx)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// dial opens a channel to one address.
func (b *BaseService) dial(ctx context.Context, e Endpoint, addr string) (*link, error) {
	ctx, cancel := b.bound(ctx)
	defer cancel()
	dial := b.cfg.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &link{base: b, endpoint: e}
	cfg := b.cfg.Sessions
	cfg.Role, cfg.Owner = session.Client, l
	cfg.Channel.Dialect, cfg.Channel.Loops = dialectOf(b.cfg.V0), b.cfg.Loops
	if cfg.Logger == nil {
		cfg.Logger = b.cfg.Logger
	}
	if cfg.MaxCancels == 0 {
		cfg.MaxCancels = -1 // errors are answers, however many calls get one
	}
	if l.table, err = session.New(cfg); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := l.table.Channel().Attach(conn); err != nil {
		return nil, err
	}
	return l, nil
}

func dialectOf(v0 bool) codec.Dialect {
	if v0 {
		return codec.V0
	}
	return codec.V1
}

// OnOpen is for the table. If the user knows that the peer is of our kind, the first call
// is a ping that offers extensions; others wait for nothing meanwhile.
func (l *link) OnOpen() {
	if offer := l.table.Offer(); offer != nil {
		c := session.Call{Name: "ping", Type: codec.V1Ping, Headers: offer, Rx: session.Primitive}
		_, _ = l.table.Call(&c, offered{l.table}) // or the channel is over at once
	}
}

// offered waits for the answer to an offer. Terms come before the ping's own answer; a
// plain service sends none.
type offered struct{ table *session.Table }

// OnChunk is for the session.
func (o offered) OnChunk(*session.Session, []byte) {}

// OnChoke is for the session.
func (o offered) OnChoke(*session.Session) { o.table.Withdraw() }

// OnError is for the session.
func (o offered) OnError(*session.Session, *session.Error) { o.table.Withdraw() }

// OnInvoke is for the table: a service never invokes.
func (l *link) OnInvoke(*session.Session) {}

// OnHandshake is for the table.
func (l *link) OnHandshake([]byte) {}

// OnHeartbeat is for the table.
func (l *link) OnHeartbeat() {}

// OnTerminate is for the table.
func (l *link) OnTerminate(int64, []byte) {}

// OnClose is for the table.
func (l *link) OnClose(err *channel.CloseError) { l.base.lose(l, err) }
