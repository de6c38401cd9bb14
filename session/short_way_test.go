package session_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// TestShortWay: whatever comes, the short way of a chunk leads where the long one does.
func TestShortWay(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		for role := session.Worker; role <= session.Server; role++ {
			for _, agreed := range []bool{false, true} {
				if agreed && (d == codec.V0 || role != session.Engine && role != session.Server) {
					continue
				}
				t.Run(fmt.Sprintf("%v/%v/%v", d, role, agreed), func(t *testing.T) {
					for seed := range uint64(scaled(80)) {
						synctest.Test(t, func(t *testing.T) { bothWays(t, d, role, agreed, seed) })
					}
				})
			}
		}
	}
}

func bothWays(t *testing.T, d codec.Dialect, role session.Role, agreed bool, seed uint64) {
	short, long := newWay(t, d, role, agreed), newWay(t, d, role, agreed)
	long.loop(func() { session.TakeLongWay(long.Table) })
	random := rand.New(rand.NewPCG(seed, 1))
	var b []byte
	for range 60 {
		b = appendAny(b, random, d)
		if random.IntN(3) > 0 {
			continue
		}
		for _, r := range []*rig{short, long} {
			_, _ = r.conn.Write(b)
			synctest.Wait()
		}
		if got, want := short.owner.take(), long.owner.take(); !slices.Equal(got, want) {
			t.Fatalf("seed %d: told %q, want %q as on the long way; sent\n%x", seed, got, want, b)
		}
		if got, want := short.all(), long.all(); !slices.Equal(got, want) {
			t.Fatalf("seed %d: sent %q, want %q as on the long way; got\n%x", seed, got, want, b)
		}
		if got, want := short.Stats(), long.Stats(); got != want {
			t.Fatalf("seed %d: Stats() = %+v, want %+v as on the long way; sent\n%x", seed, got, want, b)
		}
		b = b[:0]
	}
}

// newWay is a rig whose handlers do all that handlers may, each by its session's number.
func newWay(t *testing.T, d codec.Dialect, role session.Role, agreed bool) *rig {
	var r *rig
	serve := func(s *session.Session) {
		h := brave{tracer: tracer{&r.owner.trace}}
		h.then = r.meddling(s.ID() % 9)
		s.SetHandler(h)
	}
	options := []option{quiet, func(c *session.Config) { c.InboxBytes, c.Extensions.SessionWindow = 2000, 3000 }}
	if role == session.Server || role == session.Client && d == codec.V0 {
		options = append(options, serving(func(s *session.Session, _ []byte) {
			r.owner.add("call %d %s", s.ID(), s.Event())
			serve(s)
		}))
	}
	r = newQuietRig(t, channel.Script{}, d, role, options...)
	r.owner.invoke = func(s *session.Session) {
		r.owner.add("invoke %d %s", s.ID(), s.Event())
		serve(s)
	}
	shake := "handshake u"
	switch {
	case role == session.Engine && agreed:
		shake = offering(codec.Frame{Kind: codec.KindHandshake, Text: "u"}, offerText)
	case role == session.Server && agreed:
		shake = offering(codec.Frame{Kind: codec.KindCall, Session: 1, Type: codec.V1Ping}, offerText)
	}
	if role == session.Engine || agreed {
		r.send(shake)
	}
	if agreed {
		r.send(r.typed(0, 0, offerText))
	}
	r.loop(func() {
		for i := range 8 {
			var s *session.Session
			switch role {
			case session.Engine:
				s, _ = r.Open("e", nil, nil)
			case session.Client:
				s, _ = r.Call(&session.Call{Tx: session.Stream(d), Rx: session.Stream(d), Type: uint64(i)}, nil)
			default:
				return
			}
			serve(s)
		}
	})
	return r
}

// meddling is what the handler of a session does at each chunk.
func (r *rig) meddling(number uint64) func(s *session.Session) {
	rest := func(f func(*session.Session)) {
		for id := range uint64(12) {
			if s := session.SessionOf(r.Table, id); s != nil {
				f(s)
			}
		}
	}
	return []func(s *session.Session){
		nil,
		func(s *session.Session) { r.owner.add("%v", s.SendChunk([]byte("echo"))) },
		(*session.Session).Pause,
		func(*session.Session) { rest((*session.Session).Resume) },
		func(s *session.Session) { _ = s.SendChoke() },
		func(s *session.Session) { s.Cut(1, 2, "cut") },
		(*session.Session).Ignore,
		func(s *session.Session) { s.SetHandler(tracer{&r.owner.trace}) },
		func(s *session.Session) {
			_ = s.SendChoke()
			s.Drop()
		},
	}[number]
}

// all returns what the table has sent.
func (r *rig) all() (list []string) {
	for {
		m := r.nextMessage(time.Nanosecond)
		if m == nil {
			return list
		}
		list = append(list, fmt.Sprintf("%d %d %q", m.Session, m.Type, m.Args))
	}
}

// appendAny appends a frame, most of them chunks that somebody waits for.
func appendAny(b []byte, r *rand.Rand, d codec.Dialect) []byte {
	base := uint64(0)
	if d == codec.V0 {
		base = codec.V0Chunk
	}
	typ := base
	switch r.IntN(10) {
	case 0:
		typ = []uint64{base + 1, base + 2, base + 2, 64, math.MaxUint32, codec.V1Revoke}[r.IntN(6)]
	case 1, 2:
		typ = uint64(r.IntN(6))
	}
	args := [][]any{{}, {""}, {7}, {[]any{1, 2}, "no"}, {1, "no"}, {string(make([]byte, r.IntN(900)))}}
	f := codec.Frame{Kind: codec.KindCall, Session: uint64(r.IntN(12)), Type: typ, Args: codec.Args("data").Bytes()}
	switch r.IntN(10) {
	case 0:
		f.Args = codec.Args("boom").Bytes()
	case 1, 2:
		f.Args = codec.Args(args[r.IntN(len(args))]...).Bytes()
	}
	at := len(b)
	b = codec.AppendFrame(b, d, &f)
	if r.IntN(20) == 0 { // more elements than the dialect has, or headers
		b[at] = 0x94 + byte(r.IntN(2))
		b = append(b, 0x90, 0xc0)[:len(b)+int(b[at]-0x93)]
	}
	return b
}
