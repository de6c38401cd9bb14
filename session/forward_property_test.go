package session_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// TestForwardProperty runs random conversations through a runtime that forwards, over
// random links, with credit on both hops or on one or on none. Whatever happens, every
// session ends once at each side and leaves every table; where nothing was lost every
// channel lives and no credit is missing.
func TestForwardProperty(t *testing.T) {
	for seed := range scaled(2000) {
		ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newRelay(t, uint64(seed)).run() })
		})
		if !ok {
			t.Fatalf("seed %d failed", seed)
		}
	}
}

// relay is a chain whose parts are drawn from a seed.
type relay struct {
	chain
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	lossy   bool   // links may be cut
	clean   bool   // everybody is polite, so all data comes back
	windows [2]int // of the channels of both hops; 0: plain
	tables  []*session.Table

	opened atomic.Int32 // forwarded sessions
	ends   endings
}

// endings are the handlers that were given to sessions.
type endings struct {
	mu  sync.Mutex
	all []*ending
}

// ending is a Handler that counts its ends. A session that is cut behind the choke of its
// peer has one.
type ending struct {
	echoLoop
	echo   bool
	choked bool
	ends   atomic.Int32
}

func (e *endings) handler(echo bool) *ending {
	c := &ending{echo: echo}
	e.add(c)
	return c
}

func (e *endings) add(c *ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, c)
}

func (c *ending) OnChunk(s *session.Session, p []byte) {
	if c.echo {
		c.echoLoop.OnChunk(s, p)
	}
}

func (c *ending) OnChoke(s *session.Session) {
	c.choked = true
	c.ends.Add(1)
	c.echoLoop.OnChoke(s)
}

func (c *ending) OnError(s *session.Session, e *session.Error) {
	if !c.choked {
		c.ends.Add(1)
	}
	c.choked = false
	c.echoLoop.OnError(s, e)
}

func newRelay(t *testing.T, seed uint64) *relay {
	r := &relay{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 7))}
	r.lossy, r.clean = seed%3 == 0, seed%3 == 1
	r.splice = session.Splice{
		OnAnswered: func() { r.answered.Add(1) },
		OnEnd:      func() { r.ended.Add(1) },
	}
	limits := func(hop int) option {
		perSession, perChannel := 1+r.rnd.IntN(3000), 1+r.rnd.IntN(6000)
		mark, inbox, none := 1+r.rnd.IntN(20_000), 1+r.rnd.IntN(20_000), r.rnd.IntN(4) == 0
		compressed := r.rnd.IntN(2) == 0
		if !none {
			r.windows[hop] = perChannel
		} else { // two plain ends that are both full stand still until one is cut
			mark, inbox = 0, 0
		}
		return func(c *session.Config) {
			windows(perSession, perChannel)(c)
			c.Extensions.NoCredit, c.Extensions.NoCancel, c.Extensions.NoCompression = none, none, !compressed
			c.Extensions.Compress, c.Extensions.MinCompress = session.CompressAlways, -1
			c.Channel.HighWaterBytes, c.InboxBytes, c.Channel.StallTimeout = mark, inbox, time.Hour
			c.Channel.FrameTimeout = time.Hour
			quiet(c)
		}
	}
	first, second := limits(0), limits(1)
	r.client, _ = newTable(t, codec.V1, session.Client, first)
	r.server, _ = newTable(t, codec.V1, session.Server, serving(func(s *session.Session, _ []byte) { r.forward(s) }), first)
	r.engine, _ = newTable(t, codec.V1, session.Engine, second)
	var wo *owner
	r.worker, wo = newTable(t, codec.V1, session.Worker, second)
	wo.invoke, wo.terminate = r.serve, nil
	r.tables = []*session.Table{r.client, r.server, r.engine, r.worker}
	r.attach()
	return r
}

// attach joins the tables and has both hops agree.
func (r *relay) attach() {
	offers := [][]codec.Header{r.client.Offer(), r.worker.Offer()}
	var links [2][2]net.Conn
	for i := range links {
		script := gentle(2*r.seed + uint64(i))
		if r.lossy {
			script = channel.RandomScript(2*r.seed + uint64(i))
		}
		links[i][0], links[i][1] = channel.Pair(script)
	}
	if err := errors.Join(r.client.Channel().Attach(links[0][0]), r.server.Channel().Attach(links[0][1]),
		r.engine.Channel().Attach(links[1][0]), r.worker.Channel().Attach(links[1][1])); err != nil {
		r.t.Fatal(err)
	}
	_ = r.worker.Channel().SendOffLoop(context.Background(), &codec.Frame{Kind: codec.KindHandshake, Text: "u", Headers: offers[1]})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ping := &session.Call{Type: codec.V1Ping, Headers: offers[0], Rx: session.Primitive}
	if s, err := r.client.CallOffLoop(ctx, ping, nil); err == nil {
		_, _ = s.Recv(ctx)
	}
	pass(10 * time.Second)
}

// forward joins a call at once or later, if it can.
func (r *relay) forward(s *session.Session) {
	r.overflow(s, rand.New(rand.NewPCG(r.seed, s.ID()+200)))
	var again *channel.Timer
	try := func() {
		switch err := s.Forward(r.engine, "echo", nil, r.splice); {
		case errors.Is(err, channel.ErrFull):
			again.Reset(10 * time.Millisecond)
		case err != nil:
			_ = s.SendError(1, 2, "not forwarded")
			s.Ignore()
		default:
			r.opened.Add(1)
			r.meddle(s)
			r.engine.Channel().Post(func() {
				for id := range uint64(100) {
					if callee := session.SessionOf(r.engine, id+2); callee != nil {
						r.overflow(callee, rand.New(rand.NewPCG(r.seed, id+300)))
					}
				}
			})
		}
	}
	again = s.Channel().NewTimer(try)
	s.Pause()
	if s.ID()%2 == 0 {
		try()
		return
	}
	again.Reset(time.Duration(s.ID()) * time.Millisecond)
}

// meddle pauses and resumes a session that was joined, or only resumes it.
func (r *relay) meddle(s *session.Session) {
	rnd := rand.New(rand.NewPCG(r.seed, s.ID()+400))
	n, pause := rnd.IntN(8), rnd.IntN(2) == 0
	go func() {
		for range n {
			pass(time.Duration(rnd.IntN(50)) * time.Millisecond)
			if pause {
				s.PauseOffLoop()
				pass(time.Duration(rnd.IntN(50)) * time.Millisecond)
			}
			s.ResumeOffLoop()
		}
	}()
}

// overflow gives a session a policy, for the polite one that loses nothing.
func (r *relay) overflow(s *session.Session, rnd *rand.Rand) {
	switch {
	case !r.clean:
		s.SetOverflow(session.Overflow{Policy: session.Policy(rnd.IntN(5)), MaxBytes: 1 + rnd.IntN(4000), MaxChunks: 1 + rnd.IntN(5)})
	case rnd.IntN(2) == 0:
		s.SetOverflow(session.Overflow{Policy: session.DropOldest, MaxBytes: -1, MaxChunks: -1})
	}
}

// serve is the worker's end.
func (r *relay) serve(s *session.Session) {
	rnd := rand.New(rand.NewPCG(r.seed, s.ID()+100))
	r.overflow(s, rnd)
	kind := rnd.IntN(9)
	if r.clean {
		kind %= 2
	}
	timer := func(f func()) { s.Channel().NewTimer(f).Reset(time.Duration(rnd.IntN(200)) * time.Millisecond) }
	switch kind {
	case 0:
		s.SetHandler(r.ends.handler(true))
	case 1:
		go func() {
			echoSlowly(s, rnd)
			_ = s.Close() // after an error
			s.CloseRead()
		}()
	case 2: // answers, and reads no more
		_ = s.SendChunk(pattern(1, rnd.IntN(2000)))
		timer(func() { _ = s.SendChoke(); s.Ignore() })
	case 3: // fails
		s.SetHandler(r.ends.handler(false))
		timer(func() { _ = s.SendError(42, 1, "no") })
	case 4: // gives up
		s.SetHandler(r.ends.handler(true))
		timer(func() { s.Cancel(42, 1, "no") })
	case 5: // stops for a while
		s.SetHandler(r.ends.handler(true))
		s.Pause()
		timer(s.Resume)
	case 7: // stops and goes on, from elsewhere
		s.SetHandler(r.ends.handler(true))
		go func() {
			for range 5 {
				s.PauseOffLoop()
				pass(time.Duration(rnd.IntN(100)) * time.Millisecond)
				s.ResumeOffLoop()
			}
		}()
	case 8: // looks now and then, and then no more
		go func() {
			for range rnd.IntN(100) {
				if _, ok, err := s.TryRecv(); err != nil {
					break
				} else if !ok {
					pass(time.Duration(rnd.IntN(20)) * time.Millisecond)
				}
			}
			s.CloseRead()
			_ = s.Send(s.Context(), pattern(1, rnd.IntN(2000)))
			_ = s.Close()
		}()
	case 6: // pours, and ends when all is out
		go func() {
			ctx, cancel := s.Bind(context.Background())
			defer cancel()
			for i := range 30 {
				if s.Send(ctx, pattern(i, rnd.IntN(1500))) != nil {
					break
				}
			}
			_ = s.Close()
			s.Channel().Post(s.Ignore)
		}()
	}
}

// talk is the client's end.
func (r *relay) talk(i int) {
	rnd := rand.New(rand.NewPCG(r.seed, uint64(i)+1000))
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	kind := rnd.IntN(5)
	if r.clean {
		kind = 0
	}
	var h session.Handler
	if kind == 4 {
		h = new(ending)
	}
	s, err := r.client.CallOffLoop(ctx, callOf(1), h)
	if err != nil {
		return
	}
	if h != nil {
		r.ends.add(h.(*ending))
	}
	r.overflow(s, rnd)
	if r.clean {
		converse(r.t, s, rnd)
		return
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		ctx, cancel := s.Bind(ctx)
		defer cancel()
		for j := range rnd.IntN(30) {
			if s.Send(ctx, pattern(j, rnd.IntN(1500))) != nil {
				break
			}
			if rnd.IntN(4) == 0 {
				pass(time.Duration(rnd.IntN(50)) * time.Millisecond)
			}
		}
		switch kind {
		case 0, 4:
			_ = s.Close()
		case 1:
			_ = s.Fail(42, 1, "no more")
		case 2:
			pass(time.Duration(rnd.IntN(100)) * time.Millisecond)
			s.Channel().Post(func() { s.Cancel(42, 1, "enough") })
		case 3: // as many clients do
			pass(2 * time.Minute)
			_ = s.Close()
		}
	})
	for h == nil {
		if _, err := s.Recv(ctx); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				r.t.Errorf("session %d of kind %d has no end", s.ID(), kind)
			}
			break
		}
	}
	writer.Wait()
}

func (r *relay) run() {
	var all sync.WaitGroup
	for i := range 1 + r.rnd.IntN(6) {
		all.Go(func() { r.talk(i) })
	}
	if r.lossy {
		pass(10 * time.Minute)
		for _, table := range r.tables {
			closeNow(table)
		}
	}
	all.Wait()
	pass(5 * time.Minute)
	synctest.Wait()
	if !r.lossy {
		r.checkWhole()
		for _, table := range r.tables {
			closeNow(table)
		}
	}
	synctest.Wait()
	for i, table := range r.tables {
		if n := table.Stats().Open; n != 0 {
			r.t.Errorf("table %d has %d sessions, want none", i, n)
		}
	}
	for i, h := range r.ends.all {
		if n := h.ends.Load(); n != 1 {
			r.t.Errorf("handler %d was told of %d ends, want 1", i, n)
		}
	}
	if o, a, e := r.opened.Load(), r.answered.Load(), r.ended.Load(); a != o || e != o {
		r.t.Errorf("%d were forwarded, %d answered, %d ended", o, a, e)
	}
}

// checkWhole is for links that lost nothing.
func (r *relay) checkWhole() {
	for i, table := range r.tables {
		if err := table.Channel().Err(); err != nil {
			r.t.Errorf("channel %d ended: %v; %s", i, err, session.Describe(r.server))
			continue
		}
		if n := table.Stats().Open; n != 0 {
			r.t.Errorf("table %d still has %d sessions: %s", i, n, session.Describe(table))
		}
		onLoop(r.t, table, func() {
			if n := session.Waiting(table); n != 0 {
				r.t.Errorf("table %d: %d bytes wait, want none", i, n)
			}
		})
	}
	for hop, window := range r.windows {
		if a, b := r.tables[2*hop], r.tables[2*hop+1]; window > 0 {
			wantWhole(r.t, a, b, int64(window))
			wantWhole(r.t, b, a, int64(window))
		}
	}
}
