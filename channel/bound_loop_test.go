package channel

import "testing"

// lateFiller is a party whose output somebody fills while the loop is about to send for it.
type lateFiller struct {
	tx   Direction
	fill func()
}

func (p *lateFiller) Direction() *Direction {
	p.fill()
	return &p.tx
}
func (p *lateFiller) Assigned(uint64) {}
func (p *lateFiller) Opened(int64)    {}
func (p *lateFiller) Finished()       {}

// TestFilledMeanwhile: a frame of the loop whose room another goroutine takes while it is
// being sent is refused, leaves nothing behind, and there is word of room.
func TestFilledMeanwhile(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		a, b := m.pair(t, Config{HighWaterBytes: 50_000, LowWaterBytes: 1})
		told := make(chan struct{})
		a.onWritable = func() { close(told) }
		others := int64(0)
		p := &lateFiller{fill: func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for a.SendOffLoop(NoWait, chunk(1, int(others), 5000)) == nil {
					others++
				}
			}()
			<-done
		}}
		a.do(func() {
			before := a.outEnd()
			if err := a.SendOf(p, chunk(2, 0, 20_000), 0); err != ErrFull {
				t.Errorf("SendOf() = %v, want %v", err, ErrFull)
			}
			if held := a.o.queued.Load(); held > 50_000+6000 {
				t.Errorf("%d bytes are held, want at most the high mark and one frame", held)
			}
			if after := a.outEnd(); after != before {
				t.Errorf("the loop's output ends at %d, want %d as before", after, before)
			}
		})
		<-told
		eventually(t, "the frames of others", func() bool { return b.messages.Load() == others })
		if got := a.queuedSoon(); got != 0 {
			t.Errorf("%d bytes are queued, want 0", got)
		}
		a.end()
		b.end()
	})
}
