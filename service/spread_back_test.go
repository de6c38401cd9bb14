package service_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/service"
)

// TestSpreadBack loses an instance for a long time. Nobody makes a call, and yet there is a
// connection to it soon after it is back.
func TestSpreadBack(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, time.Minute, time.Hour} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(t, false)
				s := spreadOf(t, c, []string{"a", "b"}, func(cfg *service.Config, _ *service.ServiceConfig) { cfg.MaxConnects = 2 })
				ask(t, s, 2)
				host := c.hostOf("a:1")
				c.host("a:1", nil)
				c.cut("a:1")
				time.Sleep(outage)
				if n := len(c.dialledTo("a:1")); n > 20+int(outage/(2*time.Second)) {
					t.Errorf("a was dialled %d times in %v", n, outage)
				}
				if n := c.resolved(); n > 3+int(outage/(20*time.Second)) {
					t.Errorf("the locator was asked %d times in %v", n, outage)
				}
				c.host("a:1", host)
				time.Sleep(backWithin)
				if st := s.Stats(); st.Connects != 3 || st.Losses != 1 {
					t.Errorf("Stats() = %+v, want a connection to a again", st)
				}
				wantCounts(t, ask(t, s, 6), map[string]int{"a": 3, "b": 3})
			})
		})
	}
}

// TestSpreadGoneForGood: what the locator does not list any more is not tried for.
func TestSpreadGoneForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		s := spreadOf(t, c, []string{"a", "b"}, nil)
		ask(t, s, 2)
		c.host("a:1", nil)
		c.cut("a:1")
		c.listWho("b")
		time.Sleep(5 * time.Minute)
		before, asked := len(c.dialledTo("a:1")), c.resolved()
		time.Sleep(time.Hour)
		if n, m := len(c.dialledTo("a:1"))-before, c.resolved()-asked; n > 0 || m > 0 {
			t.Errorf("a was dialled %d times, and the locator asked %d times, in an hour behind its end", n, m)
		}
		if st := s.Stats(); len(st.Instances) != 1 || st.State != service.Connected {
			t.Errorf("Stats() = %+v, want b alone", st)
		}
	})
}

// TestSpreadBackWithoutLocator: an instance is back although the locator is not.
func TestSpreadBackWithoutLocator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		s := spreadOf(t, c, []string{"a"}, nil)
		ask(t, s, 1)
		host := c.hostOf("a:1")
		for _, addr := range []string{locatorAddr, "a:1"} {
			c.host(addr, nil)
			c.cut(addr)
		}
		time.Sleep(time.Hour)
		c.host("a:1", host)
		time.Sleep(backWithin)
		if s.State() != service.Connected {
			t.Errorf("State() = %v, stage %v, want connected", s.State(), s.Stage())
		}
		wantCounts(t, ask(t, s, 1), map[string]int{"a": 1})
	})
}
