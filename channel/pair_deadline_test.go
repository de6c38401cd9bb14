package channel

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPairDeadlines(t *testing.T) {
	inPair(t, "a<>b capacity=1", func(t *testing.T, a, b *End) {
		soon := func() time.Time { return time.Now().Add(time.Second) }
		_ = a.SetReadDeadline(soon())
		mustWrite(t, a, []byte{1}) // not the write deadline
		takes(t, "Read", time.Second, func() { wantReadErr(t, a, os.ErrDeadlineExceeded) })
		_ = a.SetReadDeadline(time.Time{})
		_ = a.SetWriteDeadline(soon())
		takes(t, "Write", time.Second, func() { wantWriteErr(t, a, os.ErrDeadlineExceeded) })

		_ = a.SetDeadline(time.Now().Add(-1))
		_, err := a.Read(make([]byte, 1))
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Read() past the deadline: %v, want a timeout", err)
		}
		_ = a.SetDeadline(soon()) // a later one replaces it, also for a waiting Read
		var wg sync.WaitGroup
		wg.Go(func() { takes(t, "moved", 3*time.Second, func() { wantReadErr(t, a, os.ErrDeadlineExceeded) }) })
		elapse(time.Second / 2)
		_ = a.SetReadDeadline(time.Now().Add(5 * time.Second / 2))
		wg.Wait()
		wantRead(t, b, "\x01")
		wg.Go(func() { wantReadErr(t, b, os.ErrDeadlineExceeded) })
		synctest.Wait()
		_ = b.SetReadDeadline(time.Now())
		wg.Wait()
	})
}

// TestPairDeadlineMoved sets a deadline anew while the old one is going off.
func TestPairDeadlineMoved(t *testing.T) {
	inPair(t, "", func(t *testing.T, a, b *End) {
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		a.link.Lock()
		elapse(time.Second) // the timer's function waits for the lock
		a.readBy.set(a, time.Now().Add(time.Second))
		a.link.Unlock()
		takes(t, "Read", time.Second, func() { wantReadErr(t, a, os.ErrDeadlineExceeded) })
	})
}
