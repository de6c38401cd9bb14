package channel

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

// survivors is a side that takes a panic in OnMessage on itself, or not.
type survivors struct {
	*side
	takes bool
	saw   []any
}

func (s *survivors) Survive(v any) bool {
	s.saw = append(s.saw, v)
	return s.takes
}

// TestSurvive: a panic in OnMessage that the Handler survives costs that message; what was
// read with it comes in order, and once.
func TestSurvive(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		for _, takes := range []bool{true, false} {
			s := newSide(t, m, Config{})
			h := &survivors{side: s, takes: takes}
			s.h = h
			var got []uint64
			s.onMessage = func(m *codec.Message, _ []codec.Header) {
				got = append(got, m.Session)
				if m.Session%2 == 0 {
					panic(m.Session)
				}
			}
			w := m.face(t, s)
			p := w.frames(chunk(1, 0, 8), chunk(2, 1, 8), chunk(4, 2, 8), chunk(5, 3, 1<<10), chunk(6, 4, 8), chunk(7, 5, 8))
			w.put(p[:len(p)-500]) // in the middle of 5
			if !takes {
				if err := s.wantOver(CodePanic); !strings.Contains(err.Reason, "2") {
					t.Errorf("Reason = %q, want the panic's value", err.Reason)
				}
				if len(got) != 2 || len(h.saw) != 1 {
					t.Errorf("got %d, asked about %v, want nothing behind the panic", got, h.saw)
				}
				continue
			}
			eventually(t, "three messages", func() bool { return s.messages.Load() == 3 })
			w.put(p[len(p)-500:])
			eventually(t, "all messages", func() bool { return s.messages.Load() == 6 })
			s.do(func() {
				if want := "1 2 4 5 6 7"; words(got) != want {
					t.Errorf("got %s, want %s", words(got), want)
				}
				if want := "2 4 6"; words(h.saw) != want {
					t.Errorf("asked about %s, want %s", words(h.saw), want)
				}
			})
			s.end()
		}
	})
}

// words writes a list without its brackets.
func words(list any) string { return strings.Trim(fmt.Sprint(list), "[]") }
