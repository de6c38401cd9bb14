package channel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// silent drops the log lines that a test provokes.
var silent = slog.New(slog.DiscardHandler)

// medium is a transport and the kind of stream under it.
type medium struct {
	name    string
	virtual bool // lives in a synctest bubble: its time is virtual, its leaks are found
	noLoop  bool // Config.NoEventLoop
	join    func(t testing.TB) (a, b net.Conn)
}

// media are all that a channel can stand on.
var media = []medium{
	{name: "loop tcp", join: joinTCP},
	{name: "loop unix", join: joinUnix},
	{name: "conn tcp", noLoop: true, join: joinTCP},
	{name: "conn unix", noLoop: true, join: joinUnix},
	{name: "conn pair", noLoop: true, virtual: true, join: joinPair},
	{name: "pair", virtual: true, join: joinPair},
}

// over runs f once for each medium, in a bubble where there can be one.
func over(t *testing.T, f func(t *testing.T, m medium)) {
	t.Helper()
	for _, m := range media {
		t.Run(m.name, func(t *testing.T) { m.run(t, f) })
	}
}

// overVirtual is over for what takes long: only media whose time is virtual.
func overVirtual(t *testing.T, f func(t *testing.T, m medium)) {
	t.Helper()
	for _, m := range media {
		if m.virtual {
			t.Run(m.name, func(t *testing.T) { m.run(t, f) })
		}
	}
}

func (m medium) run(t *testing.T, f func(t *testing.T, m medium)) {
	if !m.virtual {
		f(t, m)
		return
	}
	synctest.Test(t, func(t *testing.T) { f(t, m) })
}

func joinPair(testing.TB) (a, b net.Conn) { return Pair(Script{}) }

// scripted is m over a pair with a script.
func (m medium) scripted(t testing.TB, script string) medium {
	t.Helper()
	s, err := ParseScript(script)
	if err != nil {
		t.Fatal(err)
	}
	m.join = func(testing.TB) (a, b net.Conn) { return Pair(s) }
	return m
}

// tight is m with little room on the way.
func (m medium) tight() medium {
	join := m.join
	m.join = func(t testing.TB) (a, b net.Conn) {
		a, b = join(t)
		for _, conn := range []net.Conn{a, b} {
			if c, ok := conn.(interface {
				SetReadBuffer(int) error
				SetWriteBuffer(int) error
			}); ok {
				if err := errors.Join(c.SetReadBuffer(32<<10), c.SetWriteBuffer(32<<10)); err != nil {
					t.Fatal(err)
				}
			}
		}
		return a, b
	}
	return m
}

func joinTCP(t testing.TB) (a, b net.Conn) { return joinAt(t, "tcp", "127.0.0.1:0") }

func joinUnix(t testing.TB) (a, b net.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return joinAt(t, "unix", filepath.Join(dir, "s"))
}

func joinAt(t testing.TB, network, addr string) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	dialled := make(chan error, 1)
	go func() {
		var err error
		a, err = net.Dial(network, ln.Addr().String())
		dialled <- err
	}()
	b, err = ln.Accept()
	if err = errors.Join(err, <-dialled); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// config is cfg for channels on m.
func (m medium) config(cfg Config) Config {
	cfg.NoEventLoop = m.noLoop
	if cfg.Logger == nil {
		cfg.Logger = silent
	}
	return cfg
}

// shared is cfg for channels that share one loop, where the medium has loops at all.
func (m medium) shared(t testing.TB, cfg Config) Config {
	t.Helper()
	if m.virtual || m.noLoop {
		return cfg
	}
	loops, err := NewLoops(LoopsConfig{N: 1, Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := loops.Close(ctx); err != nil {
			t.Errorf("Loops.Close() = %v", err)
		}
	})
	cfg.Loops = loops
	return cfg
}

// side is one end under test: a channel whose calls are recorded and passed on.
type side struct {
	*Channel
	t testing.TB

	onOpen     func()
	onMessage  func(m *codec.Message, headers []codec.Header)
	onWritable func()
	onClose    func(err *CloseError)

	inside   atomic.Int32 // callbacks that run
	opens    atomic.Int32
	closes   atomic.Int32
	messages atomic.Int64
}

func (s *side) enter(what string) func() {
	if s.inside.Add(1) != 1 {
		s.t.Errorf("%s runs beside another callback", what)
	}
	if s.closes.Load() > 0 {
		s.t.Errorf("%s after OnClose", what)
	}
	if what != "OnOpen" && s.opens.Load() != 1 {
		s.t.Errorf("%s after %d OnOpen", what, s.opens.Load())
	}
	return func() { s.inside.Add(-1) }
}

func (s *side) OnOpen(c *Channel) {
	defer s.enter("OnOpen")()
	if s.opens.Add(1) != 1 {
		s.t.Error("OnOpen comes twice")
	}
	if c != s.Channel {
		s.t.Error("OnOpen is called with another channel")
	}
	if s.onOpen != nil {
		s.onOpen()
	}
}

func (s *side) OnMessage(m *codec.Message, headers []codec.Header) {
	defer s.enter("OnMessage")()
	s.messages.Add(1)
	if s.onMessage != nil {
		s.onMessage(m, headers)
	}
}

func (s *side) OnWritable() {
	defer s.enter("OnWritable")()
	if s.onWritable != nil {
		s.onWritable()
	}
}

func (s *side) OnClose(err *CloseError) {
	defer s.enter("OnClose")()
	defer s.closes.Add(1)
	if s.onClose != nil {
		s.onClose(err)
	}
}

// newSide makes an idle channel on m; set its functions before it is opened. The end
// of the test closes it.
func newSide(t testing.TB, m medium, cfg Config) *side {
	t.Helper()
	s := &side{t: t}
	c, err := New(m.config(cfg), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Channel = c
	return s
}

// open attaches the side.
func (s *side) open(conn net.Conn) *side {
	s.t.Helper()
	if err := s.Attach(conn); err != nil {
		s.t.Fatalf("Attach() = %v", err)
	}
	return s
}

// pair makes two open channels that are each other's peer.
func (m medium) pair(t testing.TB, cfg Config) (a, b *side) {
	t.Helper()
	a, b = newSide(t, m, cfg), newSide(t, m, cfg)
	m.connect(t, a, b)
	return a, b
}

// connect opens two sides on one stream.
func (m medium) connect(t testing.TB, a, b *side) {
	t.Helper()
	x, y := m.join(t)
	a.open(x)
	b.open(y)
}

// faced makes an open channel whose peer is a wire.
func (m medium) faced(t testing.TB, cfg Config) (*side, *wire) {
	t.Helper()
	s := newSide(t, m, cfg)
	return s, m.face(t, s)
}

// face opens s against a wire.
func (m medium) face(t testing.TB, s *side) *wire {
	t.Helper()
	x, y := m.join(t)
	s.open(x)
	return newWire(t, y, s.cfg.Dialect)
}

// patience is how long a test waits for what must come; long, so that a slow machine
// is no failure. In a bubble it is virtual.
const patience = 60 * time.Second

// await waits for c.
func await[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v = <-c:
	case <-timer.C:
		t.Fatalf("%s did not come in %v", what, patience)
	}
	return v
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(patience); !cond(); <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// do runs f on the channel's loop and waits for it.
func (s *side) do(f func()) {
	s.t.Helper()
	done := make(chan struct{})
	if !s.Post(func() { defer close(done); f() }) {
		s.t.Fatalf("Post() = false in state %v", s.State())
	}
	await(s.t, "a posted function", done)
}

// end gets rid of the channel: it drops what is queued and waits for the goroutines.
func (s *side) end() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Close(ctx)
}

// over waits for the end of the channel and returns the cause.
func (s *side) over() *CloseError {
	s.t.Helper()
	await(s.t, "the end of the channel", s.Done())
	return s.Err()
}

// wantOver waits for the end and checks its cause.
func (s *side) wantOver(want Code) *CloseError {
	s.t.Helper()
	err := s.over()
	if err.Code != want {
		s.t.Errorf("the channel ended with %v (%v), want %v", err.Code, err, want)
	}
	if got := s.closes.Load(); got != 1 {
		s.t.Errorf("OnClose was called %d times, want 1", got)
	}
	return err
}

// party is a session of a test.
type party struct {
	dir      Direction
	id       uint64
	at       int64
	opened   atomic.Bool
	finished atomic.Int32
	onOpened func()
	onFinish func()
}

func (p *party) Direction() *Direction { return &p.dir }
func (p *party) Assigned(id uint64)    { p.id = id }
func (p *party) Finished() {
	p.finished.Add(1)
	if p.onFinish != nil {
		p.onFinish()
	}
}
func (p *party) Opened(at int64) {
	p.at = at
	p.opened.Store(true)
	if p.onOpened != nil {
		p.onOpened()
	}
}

// tally collects values of several goroutines.
type tally[T any] struct {
	mu   sync.Mutex
	list []T
}

func (l *tally[T]) add(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, v)
}

func (l *tally[T]) all() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.list...)
}

// elapse lets virtual time pass.
func elapse(d time.Duration) { <-time.NewTimer(d).C }

// takes checks how much virtual time f needs.
func takes(t *testing.T, what string, want time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if got := time.Since(start); got != want {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}
