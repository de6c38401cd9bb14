package channel

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
)

// LoopsConfig sets up Loops. The zero value works.
type LoopsConfig struct {
	// N event loops. If zero, half of GOMAXPROCS, at least one: keep GOMAXPROCS above
	// N, a loop without a processor of its own waits for the scheduler. A second loop
	// brought nothing on two processors that the peers shared.
	N int
	// Logger for errors of the poller. If nil, slog.Default().
	Logger *slog.Logger
}

// Loops is a set of event loops that channels may share: thousands of connections on
// a few goroutines. A channel stays on one loop for life; channels are dealt out in
// turn. Where there is no event loop (outside Linux) it owns nothing and channels use
// the net.Conn transport.
type Loops struct {
	log   *slog.Logger
	next  atomic.Uint32
	wg    sync.WaitGroup
	once  sync.Once
	loops []*pollLoop
}

// NewLoops opens the pollers and starts their goroutines, which Close ends.
func NewLoops(cfg LoopsConfig) (*Loops, error) {
	n := cfg.N
	if n <= 0 {
		n = max(1, runtime.GOMAXPROCS(0)/2)
	}
	l := &Loops{log: cfg.Logger}
	if l.log == nil {
		l.log = slog.Default()
	}
	if !eventLoops {
		return l, nil
	}
	for range n {
		p, err := openPollLoop(l.log)
		if err != nil {
			_ = l.Close(context.Background())
			return nil, err
		}
		l.loops = append(l.loops, p)
		l.wg.Go(p.run)
	}
	return l, nil
}

// attach puts a socket on one of the loops.
func (l *Loops) attach(c *Channel, conn net.Conn, open func()) error {
	if len(l.loops) == 0 {
		startConn(c, conn, open)
		return nil
	}
	return l.loops[l.next.Add(1)%uint32(len(l.loops))].attach(c, conn, open)
}

// Close ends the channels that are still on the loops (CodeClosed, what was queued is
// dropped and counted) and then the loops. It waits for their goroutines until ctx
// ends. Close channels that should be drained first. Any goroutine but the loops.
func (l *Loops) Close(ctx context.Context) error {
	l.stop()
	done := make(chan struct{})
	go func() {
		l.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop has the loops end, and does not wait.
func (l *Loops) stop() {
	l.once.Do(func() {
		for _, p := range l.loops {
			p.stop()
		}
	})
}
