package session_test

import (
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Row C14 over a socket, plain and with credit. The stream goes on until the last ping has
// its answer, so that a ping which waited for its end would wait for ever. How long they
// take is up to the machine: testC14 has the figures, in virtual time.
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
			if streamed == 0 {
				t.Errorf("%s, agreed %v: nothing was streamed", network, agreed)
			}
			closeNow(c.engine)
			closeNow(c.worker)
		}
	}
}
