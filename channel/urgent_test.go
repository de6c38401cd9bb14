package channel

import (
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
)

// TestUrgentBound: urgent frames that wait are counted and bounded; those that have left do
// not count, also if there never was a moment without any.
func TestUrgentBound(t *testing.T) {
	const size, ahead, n = 30_000, 20, 120
	overVirtual(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{Dialect: codec.V1})
		send := func(i int) (err error) {
			s.do(func() { err = s.SendUrgent(chunk(1, i, size)) })
			return err
		}
		for i := range n {
			if err := send(i); err != nil {
				t.Fatalf("SendUrgent() of frame %d = %v, with %d bytes that wait", i, err, s.Stats().UrgentBytes)
			}
			if i >= ahead {
				w.between(i-ahead, i-ahead)
			}
			synctest.Wait()
			if st := s.Stats(); st.UrgentBytes > (ahead+2)*size || st.QueuedBytes != 0 {
				t.Fatalf("Stats() = %+v behind frame %d, want at most %d urgent bytes", st, i, (ahead+2)*size)
			}
		}
		if st := s.Stats(); st.UrgentBytes < (ahead-5)*size {
			t.Errorf("UrgentBytes = %d, want about %d", st.UrgentBytes, ahead*size)
		}
		w.between(n-ahead, n-1)
		synctest.Wait()
		if st := s.Stats(); st.UrgentBytes != 0 {
			t.Errorf("UrgentBytes = %d when all was read, want 0", st.UrgentBytes)
		}
		full := 0
		for ; full < 100 && send(full) == nil; full++ {
		}
		synctest.Wait()
		if st := s.Stats(); full == 100 || st.UrgentBytes < 1<<20 || st.UrgentBytes > 1<<20+2*size {
			t.Errorf("Stats() = %+v behind %d frames, want 1 MiB and one frame of urgent bytes", st, full)
		}
		s.do(func() { s.Fail(&CloseError{Code: CodeClosed}) })
		s.wantOver(CodeClosed)
		if st := s.Stats(); st.UrgentBytes != 0 {
			t.Errorf("UrgentBytes = %d behind the end, want 0", st.UrgentBytes)
		}
		s.end()
	})
}
