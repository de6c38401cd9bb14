package service_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/service"
)

// backWithin is the time in which a service that was there, and is there again, has a
// connection again.
const backWithin = 30 * time.Second

// TestBackAfterOutage has clients lose the whole runtime for a long time. Nobody makes a
// call.
func TestBackAfterOutage(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, 20 * time.Second, 45 * time.Second, time.Minute, 10 * time.Minute, time.Hour} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(t, false)
				c.add("a", echo(false))
				var all []*service.Service
				for range 50 {
					s := c.client(nil).Service("echo")
					if err := s.Connect(t.Context()); err != nil {
						t.Fatal(err)
					}
					all = append(all, s)
				}
				locator, host := c.hostOf(locatorAddr), c.hostOf("a:1")
				c.host(locatorAddr, nil)
				c.host("a:1", nil)
				c.cut(locatorAddr)
				c.cut("a:1")
				time.Sleep(outage)
				c.host(locatorAddr, locator)
				c.host("a:1", host)
				time.Sleep(backWithin)
				for _, s := range all {
					if s.State() != service.Connected {
						t.Errorf("State() = %v, stage %v, %v after an outage of %v, want connected", s.State(), s.Stage(), backWithin, outage)
					}
				}
				if n := len(c.dialledTo(locatorAddr)) / len(all); n > 20+int(outage/(2*time.Second)) {
					t.Errorf("the locator was dialled %d times by each in an outage of %v", n, outage)
				}
			})
		})
	}
}

// TestBackWhenPublished comes back to a runtime whose locator is there before the service
// is: it says that there is none, and callers are told so at once.
func TestBackWhenPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		s := c.client(nil).Service("echo")
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		there := c.names["echo"]
		delete(c.names, "echo")
		c.mu.Unlock()
		c.cut("a:1")
		time.Sleep(5 * time.Second)
		for range 3 {
			began := time.Now()
			err := s.Connect(t.Context())
			if took := time.Since(began); !service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) || took != 0 {
				t.Errorf("Connect() = %v after %v, want the locator's answer at once", err, took)
			}
			time.Sleep(10 * time.Second)
		}
		c.name("echo", there)
		time.Sleep(backWithin)
		if s.State() != service.Connected {
			t.Errorf("State() = %v, stage %v, %v after the service was there, want connected", s.State(), s.Stage(), backWithin)
		}
	})
}
