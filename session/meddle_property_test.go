package session_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/session"
)

// TestMeddleProperty has both ends of each session send as they like, change what becomes of
// chunks without room while they do, pause and resume, and give the session up at any
// moment: while the other ends it, too, or has. Nothing comes twice or out of order, what is
// missing was dropped and counted, every session ends, and no credit is lost or made.
func TestMeddleProperty(t *testing.T) {
	for seed := range scaled(3000) {
		ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { meddle(t, uint64(seed)) })
		})
		if !ok {
			t.Fatalf("seed %d failed", seed)
		}
	}
}

// party is one end of a session, whose chunks are numbered.
type party struct {
	t    *testing.T
	s    *session.Session
	loop bool // it reads by a handler

	mu   sync.Mutex // guards the following
	sent int        // chunks that were taken, or dropped at once
	next int        // the lowest number that may come now
	got  int
	end  string // of the peer's direction
}

// OnChunk and the rest are for the session.
func (p *party) OnChunk(_ *session.Session, b []byte) { p.came(b) }
func (p *party) OnChoke(*session.Session)             { p.ended("choke") }
func (p *party) OnError(_ *session.Session, e *session.Error) {
	p.ended("error")
}

func (p *party) came(b []byte) {
	n := int(binary.BigEndian.Uint32(b))
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < p.next || p.end != "" {
		p.t.Errorf("session %d: chunk %d came behind %d chunks and %q, want none before %d", p.s.ID(), n, p.got, p.end, p.next)
	}
	p.next = n + 1
	p.got++
}

func (p *party) ended(how string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end == "" || how == "error" { // a session may be cut behind its choke
		p.end = how
	}
}

// send sends numbered chunks, changes the policy now and then, and ends.
func (p *party) send(rnd *rand.Rand, giveUp bool) {
	ctx, release := p.s.Bind(p.t.Context())
	defer release()
	for i := range rnd.IntN(25) {
		if rnd.IntN(4) == 0 {
			p.s.SetOverflow(session.Overflow{Policy: session.Policy(rnd.IntN(4)), MaxBytes: 1 + rnd.IntN(3000), MaxChunks: 1 + rnd.IntN(4)})
		}
		switch err := p.s.Send(ctx, append(binary.BigEndian.AppendUint32(nil, uint32(i)), pattern(i, rnd.IntN(1200))...)); err {
		case nil:
			p.mu.Lock()
			p.sent++
			p.mu.Unlock()
		case channel.ErrFull:
		default:
			_ = p.s.Close() // the peer's error leaves our direction open
			return
		}
		if rnd.IntN(3) == 0 {
			pass(time.Duration(rnd.IntN(40)) * ms)
		}
	}
	if giveUp {
		p.s.Channel().Post(func() { p.s.Cancel(42, 1, "enough") })
		if rnd.IntN(2) == 0 { // at the same time
			_ = p.s.Close()
		}
		return
	}
	_ = p.s.Close()
}

// read reads to the end, by a handler that is paused and resumed, or by itself.
func (p *party) read(rnd *rand.Rand) {
	for range rnd.IntN(10) {
		pass(time.Duration(rnd.IntN(40)) * ms)
		if p.loop {
			p.s.PauseOffLoop()
			pass(time.Duration(rnd.IntN(40)) * ms)
			p.s.ResumeOffLoop()
		}
	}
	for !p.loop {
		b, err := p.s.Recv(p.t.Context())
		if err != nil {
			var e *session.Error
			p.ended(map[bool]string{true: "error", false: "choke"}[errors.As(err, &e)])
			return
		}
		p.came(b)
		if rnd.IntN(4) == 0 {
			pass(time.Duration(rnd.IntN(30)) * ms)
		}
	}
}

func meddle(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 11))
	perSession, perChannel := 1+rnd.IntN(3000), 1+rnd.IntN(6000)
	mark, packed := 1+rnd.IntN(10_000), rnd.IntN(2) == 0
	c := creditCouple(t, gentle(seed), perSession, perChannel, quiet, func(cfg *session.Config) {
		cfg.Channel.HighWaterBytes, cfg.Channel.StallTimeout, cfg.Channel.FrameTimeout = mark, time.Hour, time.Hour
		cfg.Extensions.NoCompression, cfg.Extensions.Compress, cfg.Extensions.MinCompress = !packed, session.CompressAlways, -1
		cfg.MaxCancels = -1
	})
	atWorker, atEngine := rnd.IntN(2) == 0, rnd.IntN(2) == 0
	var all sync.WaitGroup
	var mu sync.Mutex
	var parties []*party
	begin := func(p *party, rnd *rand.Rand, giveUp bool) {
		other := rand.New(rand.NewPCG(rnd.Uint64(), 13)) // of the other goroutine
		mu.Lock()
		parties = append(parties, p)
		mu.Unlock()
		all.Go(func() { p.send(rnd, giveUp) })
		all.Go(func() { p.read(other) })
	}
	gaveUp := map[uint64]bool{}
	c.wo.invoke = func(s *session.Session) {
		own := rand.New(rand.NewPCG(seed, s.ID()))
		p := &party{t: t, s: s, loop: atWorker}
		if p.loop {
			s.SetHandler(p)
		}
		giveUp := own.IntN(4) == 0
		gaveUp[s.ID()] = gaveUp[s.ID()] || giveUp
		begin(p, own, giveUp)
	}
	for i := range 1 + rnd.IntN(5) {
		own := rand.New(rand.NewPCG(seed, uint64(i)+1000))
		p := &party{t: t, loop: atEngine}
		var h session.Handler
		if p.loop {
			h = p
		}
		s, err := c.engine.OpenOffLoop(t.Context(), "e", nil, h)
		if err != nil {
			t.Fatal(err)
		}
		p.s = s
		giveUp := own.IntN(4) == 0
		onLoop(t, c.worker, func() { gaveUp[s.ID()] = gaveUp[s.ID()] || giveUp })
		begin(p, own, giveUp)
	}
	pass(time.Minute)
	all.Wait()
	pass(time.Minute)
	c.wantEmpty()
	byID := map[uint64][]*party{}
	for _, p := range parties {
		byID[p.s.ID()] = append(byID[p.s.ID()], p)
	}
	for id, pair := range byID {
		if len(pair) != 2 {
			t.Errorf("session %d has %d ends, want 2", id, len(pair))
			continue
		}
		for i, p := range pair {
			p.check(pair[1-i], gaveUp[id])
		}
	}
	for _, table := range []*session.Table{c.engine, c.worker} {
		if err := table.Channel().Err(); err != nil {
			t.Errorf("the channel ended: %v", err)
		}
		onLoop(t, table, func() {
			if n := session.Waiting(table); n != 0 {
				t.Errorf("%d bytes wait, want none: %s", n, session.Describe(table))
			}
		})
	}
	wantWhole(t, c.engine, c.worker, int64(perChannel))
	wantWhole(t, c.worker, c.engine, int64(perChannel))
	if t.Failed() {
		t.Logf("engine %s\nworker %s", session.Describe(c.engine), session.Describe(c.worker))
	}
}

// check holds what p has got against what its peer has sent.
func (p *party) check(peer *party, gaveUp bool) {
	switch {
	case p.end == "":
		p.t.Errorf("session %d: no end of the peer's direction", p.s.ID())
	case gaveUp:
		if p.got > peer.sent {
			p.t.Errorf("session %d: %d chunks came of %d", p.s.ID(), p.got, peer.sent)
		}
	case p.end != "choke":
		p.t.Errorf("session %d ended by an %s that nobody sent: %v", p.s.ID(), p.end, p.s.Err())
	case p.got+int(peer.s.Dropped()) != peer.sent:
		p.t.Errorf("session %d: %d chunks came and %d were dropped of %d", p.s.ID(), p.got, peer.s.Dropped(), peer.sent)
	}
}
