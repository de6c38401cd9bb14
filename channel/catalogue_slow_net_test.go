package channel

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// slowAmongMany (C3): peers that read nothing, their output full, cost the others on the
// same loop nothing, since nobody tries to write to them meanwhile, and hold no more than
// their water marks. How long the others take is up to the machine, and only logged.
func slowAmongMany(t *testing.T) {
	for _, m := range media {
		if !m.virtual {
			t.Run(m.name, func(t *testing.T) { slowAmong(t, m) })
		}
	}
}

func slowAmong(t *testing.T, m medium) {
	const quiet, slow, high, frame = 100, 10, 256 << 10, 10_000
	cfg := m.shared(t, Config{HighWaterBytes: high, StallTimeout: -1})
	var wires []*wire
	for range quiet {
		s, w := m.faced(t, cfg)
		s.do(func() {
			s.onMessage = func(m *codec.Message, _ []codec.Header) {
				_ = s.Send(&codec.Frame{Kind: codec.KindChunk, Session: m.Session, Payload: m.Payload})
			}
		})
		wires = append(wires, w)
	}
	before := percentile99(wires)
	var stuck []*side
	for range slow {
		s, _ := m.faced(t, cfg)
		for i := 0; ; i++ {
			err := s.SendOffLoop(NoWait, chunk(1, i, frame))
			if s.do(func() {}); errors.Is(err, ErrFull) && s.Stats().BlockedNow {
				break
			}
		}
		stuck = append(stuck, s)
	}
	held := int64(0)
	for _, s := range stuck {
		held += s.Stats().QueuedBytes
	}
	if held == 0 || held > slow*(high+2*frame) {
		t.Errorf("%d bytes are held for %d slow peers, want at most %d each", held, slow, high+2*frame)
	}
	tried := writes(stuck)
	after := percentile99(wires)
	if n := writes(stuck) - tried; n > slow { // the system may have found a little room
		t.Errorf("%d writes to %d slow peers were tried while %d others had their turns, want none", n, slow, quiet)
	}
	t.Logf("99th percentile %v without slow peers, %v with; %d bytes held", before, after, held)
	for _, s := range stuck {
		s.end()
	}
}

// writes counts the writes that were tried.
func writes(sides []*side) (n uint64) {
	for _, s := range sides {
		n += s.Stats().Writes
	}
	return n
}

// percentile99 is that of round trips, ten over each of the wires.
func percentile99(wires []*wire) time.Duration {
	var took []time.Duration
	for i := range 10 {
		for _, w := range wires {
			start := time.Now()
			w.put(w.frames(chunk(1, i, 64)))
			w.mustNext()
			took = append(took, time.Since(start))
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}
