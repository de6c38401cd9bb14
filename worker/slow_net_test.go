package worker_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// A slow reader of one session among a thousand, over a socket: session.TestSlowReaderCredit
// and TestSlowReaderPlain have the exact figures, this one has a real network and both
// faces of a worker.

const (
	slowWindow = 256 << 10 // of a session
	slowMark   = 1 << 20   // of the output
	slowChunk  = 16 << 10
	slowCount  = 2000 // chunks that are streamed: 32 MiB
	slowPause  = time.Second
)

// slowCrowd is a worker with a thousand sessions, and one that is not read as it should.
type slowCrowd struct {
	t       *testing.T
	w       *worker.Worker
	p       *peer
	all     []*session.Session
	release chan struct{} // closed when the slow reader may go on at full speed
	served  chan error    // how the slow handler ended
}

func newSlowCrowd(t *testing.T, agreed bool) *slowCrowd {
	k := &slowCrowd{t: t, release: make(chan struct{}), served: make(chan error, 1)}
	cfg := worker.Config{Sessions: session.Config{
		InboxBytes: slowWindow, MaxPause: slowPause, MaxSessions: 2000, Channel: channel.Config{HighWaterBytes: slowMark},
		Extensions: session.Extensions{Offer: agreed, SessionWindow: slowWindow, ChannelWindow: 16 * slowWindow},
	}}
	k.w, k.p = serve(t, cfg, codec.V1, func(w *worker.Worker) {
		w.Handle("read", func(ctx context.Context, s *worker.Session) error {
			err := k.readSlowly(ctx, s.Recv)
			k.served <- err
			return err
		})
		w.Handle("deaf", func(ctx context.Context, _ *worker.Session) error {
			<-ctx.Done()
			k.served <- context.Cause(ctx)
			return nil
		})
		w.Handle("pour", func(ctx context.Context, s *worker.Session) error {
			err := pour(ctx, s)
			k.served <- err
			return err
		})
	}, func(c *session.Config) {
		c.Channel.HighWaterBytes, c.InboxBytes = slowMark, slowWindow
		c.Extensions.SessionWindow, c.Extensions.ChannelWindow = slowWindow, 16*slowWindow
	})
	for range 1000 {
		k.all = append(k.all, k.p.open(t, "echo"))
	}
	return k
}

// readSlowly reads a chunk in 20 ms until it is released, all there is from then on, and
// wants every chunk in order.
func (k *slowCrowd) readSlowly(ctx context.Context, recv func(context.Context) ([]byte, error)) error {
	for i := range slowCount {
		p, err := recv(ctx)
		if err != nil {
			return err
		}
		if len(p) != slowChunk || binary.BigEndian.Uint32(p) != uint32(i) {
			return worker.Errorf(1, "chunk %d is %x", i, p[:4])
		}
		select {
		case <-k.release:
		case <-time.After(20 * time.Millisecond):
		}
	}
	if _, err := recv(ctx); err != io.EOF {
		return worker.Errorf(2, "%v behind the last chunk, want the end", err)
	}
	return nil
}

// pour sends the numbered chunks.
func pour(ctx context.Context, s *session.Session) error {
	for i := range slowCount {
		if err := s.Send(ctx, binary.BigEndian.AppendUint32(make([]byte, 0, slowChunk), uint32(i))[:slowChunk]); err != nil {
			return err
		}
	}
	return nil
}

// exchange has each session send a chunk and get it back, four at a time, and returns how
// long each took, in order.
func (k *slowCrowd) exchange() []time.Duration {
	k.t.Helper()
	took := make([]time.Duration, len(k.all))
	var callers sync.WaitGroup
	var next atomic.Int64
	for range 4 {
		callers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(k.all)); i = next.Add(1) - 1 {
				start := time.Now()
				if _, err := k.all[i].Write([]byte("ping")); err != nil {
					k.t.Errorf("Write() = %v", err)
					return
				}
				if p, err := k.all[i].Recv(k.t.Context()); string(p) != "ping" || err != nil {
					k.t.Errorf("Recv() = %q, %v", p, err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	callers.Wait()
	slices.Sort(took)
	return took
}

// percentile99 of a sorted list.
func percentile99(list []time.Duration) time.Duration { return list[len(list)*99/100] }

// pauses counts how often reading was paused, on either side. While it is paused everybody
// waits; otherwise nobody waits for another's reader.
func (k *slowCrowd) pauses() uint64 {
	return k.p.t.Channel().Stats().Pauses + k.w.Stats().Channel.Pauses
}

// wantBounded checks what both sides hold.
func (k *slowCrowd) wantBounded(before int64) {
	k.t.Helper()
	for name, q := range map[string]int64{"engine": k.p.t.Channel().Stats().QueuedBytes, "worker": k.w.Stats().Channel.QueuedBytes} {
		if q > slowMark+slowChunk+100 {
			k.t.Errorf("the %s has %d bytes queued, want at most the water mark and a chunk", name, q)
		}
	}
	// The reader's window, and the one in whose batch it was read; the sender's output, and
	// the buffer that is being written; each in what append makes of it, at most twice the
	// size; and what the exchanges leave. Without bounds it would be the 32 MiB that are
	// streamed, in buffers of up to twice that.
	wantHeap(k.t, before, 2*2*slowWindow+2*2*slowMark+18<<20)
}

func TestSlowReaderAmongMany(t *testing.T) {
	for _, event := range []string{"read", "pour"} {
		t.Run(event, func(t *testing.T) {
			k := newSlowCrowd(t, true)
			k.exchange() // what is made once
			calm := percentile99(k.exchange())
			before := heap()
			s := k.p.open(t, event)
			streamed := make(chan error, 1)
			go func() {
				if event == "pour" {
					streamed <- k.readSlowly(context.Background(), s.Recv)
					return
				}
				streamed <- errors.Join(pour(context.Background(), s), s.Close())
			}()
			for range 5 {
				beside := percentile99(k.exchange())
				t.Logf("99th percentile %v, beside a slow reader %v", calm, beside)
			}
			k.wantBounded(before)
			if n := k.pauses(); n > 0 {
				t.Errorf("reading was paused %d times for one slow reader, want never", n)
			}
			close(k.release)
			if err := errors.Join(<-streamed, <-k.served); err != nil {
				t.Error(err)
			}
			_ = s.Close()
			if st := k.w.Stats().Sessions; st.Parked != 0 || st.Failed != 0 {
				t.Errorf("Stats() = %+v, want no pause and no failure", st)
			}
			k.leave(1001)
		})
	}
}

// Without credit the socket is paused for a reader that does not read: not for longer than
// MaxPause, then its session fails and the others go on.
func TestDeafReaderAmongMany(t *testing.T) {
	k := newSlowCrowd(t, false)
	k.exchange()
	before := heap()
	s := k.p.open(t, "deaf")
	streamed := make(chan error, 1)
	go func() { streamed <- pour(context.Background(), s) }()
	start := time.Now()
	for ended := false; !ended; {
		k.exchange()
		k.wantBounded(before)
		select {
		case err := <-k.served:
			var e *session.Error
			if !errors.As(err, &e) || e.Remote || e.Code != session.CodeOverflow {
				t.Errorf("the deaf handler ended with %v, want the overflow", err)
			}
			ended = true
		default:
			if time.Since(start) > patience {
				t.Fatalf("the deaf handler goes on for %v", patience)
			}
		}
	}
	_, err := s.Recv(t.Context())
	var e *session.Error
	if !errors.As(err, &e) || !e.Remote || e.Code != session.CodeOverflow {
		t.Errorf("Recv() = %v, want the overflow", err)
	}
	<-streamed // it ends, with an error or without: nobody reads it
	_ = s.Close()
	k.exchange()
	if st := k.w.Stats().Sessions; st.Failed != 1 || st.Parked != 1 || k.pauses() != 1 { // and not one pause after the other
		t.Errorf("Stats() = %+v and %d pauses, want one, and one failure", st, k.pauses())
	}
	k.leave(1000)
}

// leave ends all exchanges; so many sessions have ended well then.
func (k *slowCrowd) leave(completed uint64) {
	for _, s := range k.all {
		_ = s.Close()
		wantEOF(k.t, s)
	}
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(time.Millisecond); k.w.Stats().Sessions.Open > 0 && time.Now().Before(deadline); <-tick.C {
	}
	if st := k.w.Stats().Sessions; st.Open != 0 || st.Completed != completed {
		k.t.Errorf("Stats() = %+v, want none open and %d completed", st, completed)
	}
}
