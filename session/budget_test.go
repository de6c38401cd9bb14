package session

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{limit: 3, per: time.Second}
		spend := func(want ...bool) {
			t.Helper()
			for i, w := range want {
				if got := b.spend(); got != w {
					t.Fatalf("spend() %d = %v, want %v", i, got, w)
				}
			}
		}
		spend(false, false, false, true, true)
		time.Sleep(time.Second) // virtual
		spend(false)            // a new window
		spend(false, false, false, true)
		time.Sleep(time.Second)
		for range 100 { // three a second are within it for ever
			spend(false, false, false)
			time.Sleep(time.Second)
		}
		b = budget{limit: 2, per: time.Second}
		for range 100 { // what is refunded does not count
			spend(false, false)
			b.refund()
			b.refund()
			b.refund()
		}
	})
}
