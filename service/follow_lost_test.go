package service_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// TestFollowLost: a connection that was left and then lost is none that calls go on on,
// though their streams were never read to their ends.
func TestFollowLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 12 // more than the connections that a Service leaves
		r := newRouted(t)
		var hosts []string
		for i := range n {
			hosts = append(hosts, fmt.Sprint("h", i))
		}
		servers := r.echoes("app", hosts...)
		s := r.following().Service("app")
		now, cancel := context.WithCancel(t.Context())
		cancel()
		for i, h := range hosts {
			if r.group("app", h); i > 0 {
				wantAt(t, s, h)
				_ = servers[hosts[i-1]].Close(now)
				time.Sleep(time.Minute)
			}
			if _, err := s.Open(t.Context(), "enqueue", codec.Arguments{}); err != nil {
				t.Fatal(err)
			}
		}
		if st := s.Stats(); st.Moves != n-1 {
			t.Errorf("Moves = %d, want %d", st.Moves, n-1)
		}
	})
}
