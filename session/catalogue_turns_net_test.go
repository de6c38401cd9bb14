package session_test

import (
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Row C14 over a socket, plain and with credit. How fast the machine is nobody knows, so
// the bound is that of a stall and not of a wait.
func TestPingsBesideStream(t *testing.T) {
	for _, agreed := range []bool{false, true} {
		for _, network := range []string{"tcp", "unix"} {
			a, b := sockets(t, network)
			c := joinTables(t, codec.V1, a, b, func(c *session.Config) {
				c.Channel.HighWaterBytes, c.Extensions.Offer = 256<<10, agreed
			})
			if agreed { // an engine opens nothing before the handshake
				eventually(t, func() (ok bool) {
					onLoop(t, c.engine, func() { ok = session.Confirmed(c.engine) })
					return ok
				})
			}
			took, streamed := streamAndPings(t, c, 20, max(5, scaled(25)))
			t.Logf("%s, agreed %v: pings of %v, %v and %v at most beside %d MiB", network, agreed,
				percentile(took, 50), percentile(took, 99), percentile(took, 100), streamed>>20)
			if p := percentile(took, 99); p > 2*time.Second {
				t.Errorf("%s, agreed %v: the 99th percentile of pings is %v, want them not to wait for the stream", network, agreed, p)
			}
			if streamed == 0 {
				t.Errorf("%s, agreed %v: nothing was streamed", network, agreed)
			}
			closeNow(c.engine)
			closeNow(c.worker)
		}
	}
}
