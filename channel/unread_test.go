package channel

import "testing"

// TestUnreadOfLateReader: what lies in a connection is life, too, while nobody comes to read
// it, as on a machine that is busy: here a turn is in the way.
func TestUnreadOfLateReader(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		if m.noLoop && !m.virtual && !eventLoops {
			t.Skip("nothing tells here how much is in a socket")
		}
		s := newSide(t, m, Config{})
		came := s.inOrder()
		w := m.face(t, s)
		s.do(func() {
			if s.Unread() {
				t.Error("Unread() = true with nothing on the way")
			}
			w.put(w.frames(chunk(1, 0, 8)))
			eventually(t, "Unread()", s.Unread)
			if came() != 0 {
				t.Errorf("%d chunks came in a turn, want none", came())
			}
		})
		eventually(t, "the chunk", func() bool { return came() == 1 })
		s.do(func() {
			if s.Unread() {
				t.Error("Unread() = true when all was delivered")
			}
		})
		s.end()
		if s.Unread() {
			t.Error("Unread() = true at a channel that is over")
		}
	})
}
