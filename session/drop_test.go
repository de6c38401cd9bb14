package session_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// A client drops a call, failed by the service or not: nothing is sent, nothing kept, and
// what still comes is late.
func TestDrop(t *testing.T) {
	for _, failed := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var peer *session.Session
			client, server := callPair(t, codec.V1, func(s *session.Session, _ []byte) {
				if peer = s; failed {
					_ = s.SendError(9, 3, "denied")
				}
			})
			s, err := client.CallOffLoop(t.Context(), callOf(1), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(t.Context(), []byte("before")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			sent := client.Channel().Stats().FramesOut
			onLoop(t, client, s.Drop)
			onLoop(t, client, s.Drop)
			if err := s.Send(t.Context(), []byte("behind")); !errors.Is(err, session.ErrClosed) {
				t.Errorf("Send() = %v, want ErrClosed", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
			if !failed {
				onLoop(t, server, func() { _ = peer.SendChunk([]byte("late")) })
			}
			synctest.Wait()
			if st := client.Stats(); st.Open != 0 || client.Channel().Stats().FramesOut != sent || failed != (st.Late == 0) {
				t.Errorf("Stats() = %+v, want no session, no frame, and the late one", st)
			}
		})
	}
}
