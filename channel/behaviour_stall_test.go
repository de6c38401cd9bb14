package channel

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// stall (C1): a peer that stops reading is cut when it is due, the producer waited
// until then, and what was held is counted.
func stall(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		s, _ := m.faced(t, Config{})
		start := time.Now()
		err, sent := error(nil), 0
		for ; err == nil; sent++ {
			err = s.SendOffLoop(t.Context(), chunk(1, sent, 10_000))
		}
		var ce *CloseError
		if took := time.Since(start); took != 10*time.Second || !errors.As(err, &ce) || ce.Code != CodeSlowPeer {
			t.Errorf("cut after %v with %v, want slow_peer after 10 s", took, err)
		}
		got := s.wantOver(CodeSlowPeer)
		if !got.Remote || got.Undelivered < 1<<20-128<<10 || got.Undelivered > 1<<20+10_100 {
			t.Errorf("%+v, want 1 MiB undelivered", got)
		}
		s.end()
	})
	for _, m := range media {
		if m.virtual {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			s, _ := m.faced(t, Config{StallTimeout: 50 * time.Millisecond})
			start := time.Now()
			err := error(nil)
			for err == nil {
				err = s.SendOffLoop(t.Context(), chunk(1, 0, 10_000))
			}
			s.wantOver(CodeSlowPeer)
			if took := time.Since(start); took < 50*time.Millisecond {
				t.Errorf("cut after %v", took)
			}
			s.end()
		})
	}
}

// progress (C2): while output is above the low mark the peer must take 64 KiB in
// 10 s. One that does is not cut, however large the frames are.
func progress(t *testing.T) {
	for _, tt := range []struct {
		what    string
		each    int
		every   time.Duration
		frame   int
		wantCut bool
	}{
		{"1 B/s", 1, time.Second, 10_000, true},
		{"63 KiB in 10 s", 6451, time.Second, 10_000, true},
		{"130 KiB in 10 s", 13_312, time.Second, 10_000, false},
		{"130 KiB in 10 s of one frame", 13_312, time.Second, 2 << 20, false},
		{"all the time a little", 1331, time.Second / 10, 1 << 20, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			overVirtual(t, func(t *testing.T, m medium) {
				m = m.scripted(t, "a>b capacity=1000")
				s, w := m.faced(t, Config{})
				stop := make(chan struct{})
				go func() {
					for err := error(nil); err == nil; {
						err = s.SendOffLoop(t.Context(), chunk(1, 0, tt.frame))
					}
					close(stop)
				}()
				start := time.Now()
				for alive := true; alive && time.Since(start) < 100*time.Second; {
					if _, err := io.ReadFull(w, make([]byte, tt.each)); err != nil {
						break
					}
					select {
					case <-time.After(tt.every):
					case <-stop:
						alive = false
					}
				}
				switch took := time.Since(start); {
				case tt.wantCut && (took < 10*time.Second || took > 21*time.Second):
					t.Errorf("cut after %v, want 10 to 20 s", took)
				case !tt.wantCut && took < 100*time.Second:
					t.Errorf("cut after %v: %v", took, s.Err())
				}
				s.end()
				<-stop
			})
		})
	}
}

// TestStallBeginsAnew: the time runs while output is above the low mark, and only then.
func TestStallBeginsAnew(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		m = m.scripted(t, "a>b capacity=1")
		s, w := m.faced(t, Config{HighWaterBytes: 40_000, LowWaterBytes: 1000})
		if err := s.SendOffLoop(t.Context(), chunk(1, 0, 2000)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		elapse(time.Second)
		w.mustNext() // below the low mark again
		synctest.Wait()
		elapse(8900 * time.Millisecond)
		if err := s.SendOffLoop(t.Context(), chunk(1, 0, 30_000)); err != nil {
			t.Fatal(err)
		}
		takes(t, "the cut", 10*time.Second, func() { s.wantOver(CodeSlowPeer) })
		s.end()
	})
}
