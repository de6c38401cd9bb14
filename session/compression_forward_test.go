package session_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/codec/compress"
	"github.com/sluice-rpc/sluice/session"
)

// Through a runtime in the middle each hop keeps to its own terms.
func TestCompressionThroughForward(t *testing.T) {
	for _, hops := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		t.Run(fmt.Sprint(hops), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				on := func(yes bool) option {
					return func(c *session.Config) {
						c.Extensions = session.Extensions{Offer: true, NoCompression: !yes, Compress: session.CompressAlways, SessionWindow: 50_000}
					}
				}
				back := newCouple(t, codec.V1, channel.Script{}, on(hops[1]))
				back.wo.invoke = echoes["loop"]
				front := newClientOf(t, on(hops[0]), func(s *session.Session, _ []byte) {
					if err := s.Forward(back.engine, "echo", nil, session.Splice{}); err != nil {
						t.Error(err)
					}
				})
				s, err := front[0].CallOffLoop(t.Context(), callOf(1), nil)
				if err != nil {
					t.Fatal(err)
				}
				for i := range uint64(20) {
					want := records(i, 20_000)
					if err := s.Send(t.Context(), want); err != nil {
						t.Fatal(err)
					}
					if got, err := s.Recv(t.Context()); !bytes.Equal(got, want) || err != nil {
						t.Fatalf("Recv() = %d bytes, %v, want the echo", len(got), err)
					}
				}
				synctest.Wait() // what was sent is counted behind it
				for i, tables := range [][]*session.Table{front[:], {back.engine, back.worker}} {
					for _, table := range tables {
						if got, want := table.Stats().Compressed, map[bool]uint64{true: 20}[hops[i]]; got != want {
							t.Errorf("hop %d: Stats().Compressed = %d, want %d", i, got, want)
						}
					}
				}
			})
		})
	}
}

// newClientOf joins a client and a server that have agreed.
func newClientOf(t *testing.T, opt option, call func(*session.Session, []byte)) [2]*session.Table {
	t.Helper()
	client, _ := newTable(t, codec.V1, session.Client, opt)
	server, _ := newTable(t, codec.V1, session.Server, opt, serving(call))
	offer := client.Offer()
	a, b := channel.Pair(channel.Script{})
	if err := errors.Join(client.Channel().Attach(a), server.Channel().Attach(b)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(client); closeNow(server) })
	ping, err := client.CallOffLoop(t.Context(), &session.Call{Type: codec.V1Ping, Headers: offer, Rx: session.Primitive}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ping.Recv(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return [2]*session.Table{client, server}
}

// A policy that queues or drops what finds no room does so with the chunk as it was, and
// nothing is compressed for the bin.
func TestCompressionUnderPolicies(t *testing.T) {
	for _, policy := range []session.Policy{session.DropOldest, session.DropNewest} {
		for _, face := range []string{"loop", "goroutine"} {
			t.Run(policy.String()+"-"+face, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, s := newCompressing(t, "1 s2=65536", func(c *session.Config) { c.Channel.HighWaterBytes = 20_000 })
					r.send(r.typed(0, 0, "1 s2=65536"))
					s.SetOverflow(session.Overflow{Policy: policy, MaxBytes: 100_000})
					const n = 100
					send := func(p []byte) error { return s.Send(t.Context(), p) }
					if face == "loop" {
						send = func(p []byte) (err error) { r.loop(func() { err = s.SendChunk(p) }); return err }
					}
					for i := range uint64(n) {
						if err := send(records(i, 10_000)); err != nil {
							t.Fatal(err)
						}
					}
					if got := r.Stats().Compressed; got == 0 || got > n/2 {
						t.Errorf("%d of %d chunks were compressed before any was read, want those that found room", got, n)
					}
					dec, got, last := compress.NewDecoder(compress.Limits{}), 0, -1
					for m := r.nextMessage(time.Second); m != nil; m = r.nextMessage(time.Second) {
						p := m.Payload
						if m.Type == 64 {
							p, _ = dec.Append(nil, p, compress.S2)
						}
						i := last + 1
						for i < n && !bytes.Equal(p, records(uint64(i), 10_000)) {
							i++
						}
						if last, got = i, got+1; i == n {
							t.Fatalf("chunk %d, of type %d and %d bytes, is none that was sent behind the one before", got, m.Type, len(p))
						}
					}
					if want := n - int(s.Dropped()); got != want || s.Dropped() == 0 {
						t.Errorf("%d chunks came and %d were dropped, want %d in all", got, s.Dropped(), n)
					}
				})
			})
		}
	}
}

// A session whose chunks do not shrink is left alone, and found out when they do again.
func TestCompressionBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newCompressing(t, "1 s2=65536")
		r.send(r.typed(0, 0, "1 s2=65536"))
		send := func(p []byte) uint64 {
			before := r.Stats().Compressed
			r.loop(func() {
				if err := s.SendChunk(p); err != nil {
					t.Fatal(err)
				}
			})
			r.nextMessage(time.Second)
			return r.Stats().Compressed - before
		}
		for range 3 + 1 + 1 + 2 + 1 + 4 { // two tries, then ones that skip 1, 2, 4 and, from the last, 8 chunks
			send(noise(1, 2000))
		}
		send(noise(1, 2000))
		plain := 0
		for send(records(1, 2000)) == 0 {
			plain++
		}
		if plain != 8 {
			t.Errorf("%d chunks went plain before one was tried again, want 8", plain)
		}
		if send(records(1, 2000)) != 1 || send(noise(1, 2000)) != 0 || send(records(1, 2000)) != 1 {
			t.Error("one that does not shrink had the next one go plain")
		}
	})
}

// The frame of a compressed chunk, whole, as the document shows one.
func TestCompressedFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newCompressing(t, "1 s2=65536")
		frame, _ := hex.DecodeString("94024091a9200c7370616d6e040090")
		r.send("raw " + hex.EncodeToString(frame))
		r.told("2 chunk " + strings.Repeat("spam", 8))
	})
}
