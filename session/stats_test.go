package session_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// TestHalves counts the directions that are open, whichever way they end.
func TestHalves(t *testing.T) {
	type counts struct{ open, sending, receiving int }
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, d, session.Worker)
			var list []*session.Session
			r.owner.invoke = func(s *session.Session) {
				s.SetHandler(tracer{&r.owner.trace})
				list = append(list, s)
			}
			step := func(what string, want counts, f func()) {
				t.Helper()
				f()
				synctest.Wait()
				st := r.Stats()
				if got := (counts{st.Open, st.Sending, st.Receiving}); got != want {
					t.Errorf("%v: %s: Stats() has %+v, want %+v", d, what, got, want)
				}
			}
			step("six sessions", counts{6, 6, 6}, func() {
				r.send("invoke 2 a", "invoke 3 b", "invoke 4 c", "invoke 5 d", "invoke 6 e", "invoke 7 f")
			})
			step("a chunk", counts{6, 6, 6}, func() { r.send("chunk 2 x") })
			step("the peer's end", counts{6, 6, 5}, func() { r.send("choke 2") })
			step("and ours", counts{5, 5, 5}, func() { r.loop(func() { _ = list[0].SendChoke() }) })
			step("our end", counts{5, 4, 5}, func() { _ = list[1].Close() })
			step("and the peer's", counts{4, 4, 4}, func() { r.send("choke 3") })
			step("the peer's error", counts{4, 4, 3}, func() { r.send("error 4 42 1 no") })
			step("and our end", counts{3, 3, 3}, func() { r.loop(func() { _ = list[2].SendChoke() }) })
			step("our error, and nobody listens", counts{2, 2, 2}, func() {
				r.loop(func() {
					_ = list[3].SendError(42, 1, "no")
					list[3].Ignore()
				})
			})
			step("a cut", counts{1, 1, 1}, func() { r.loop(func() { list[4].Cut(42, 1, "no") }) })
			step("the end of the channel", counts{}, func() { _ = r.conn.Close() })
			step("what is sent behind it", counts{}, func() { _ = list[5].Send(context.Background(), []byte("x")) })
		})
	}
}
