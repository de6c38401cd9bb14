package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// lastLook is the time between the deadline and the verdict.
const lastLook = 50 * time.Millisecond

// The worker gives up when the engine has been silent for too long, to the nanosecond.
func TestDisown(t *testing.T) {
	type step struct { // of the engine
		at   time.Duration // from the first heartbeat
		send string
	}
	const ever = time.Hour
	for _, tt := range []struct {
		name  string
		cfg   worker.Config
		steps []step
		want  time.Duration // when the worker gives up
	}{
		{"silence", worker.Config{}, nil, 30 * time.Second},
		{"an answer just in time", worker.Config{}, []step{{29900 * time.Millisecond, "heartbeat"}}, 60 * time.Second},
		{"an answer too late", worker.Config{}, []step{{30100 * time.Millisecond, "heartbeat"}}, 30 * time.Second},
		// The deadline has passed, the verdict has not: the next one is set by the beat at 35 s.
		{"an answer in the last look", worker.Config{}, []step{{30020 * time.Millisecond, "heartbeat"}}, 65 * time.Second},
		{"a byte in the last look", worker.Config{}, []step{{30020 * time.Millisecond, "chunk 9 late"}}, 65 * time.Second},
		{"any byte is life", worker.Config{}, []step{{29 * time.Second, "chunk 9 late"}}, 60 * time.Second},
		// The byte at 1 s clears the deadline of the beat at 0; the next is set at 5 s.
		{"the next beat sets it", worker.Config{}, []step{{time.Second, "chunk 9 late"}}, 35 * time.Second},
		{"later beats do not move it", worker.Config{Heartbeat: time.Second}, nil, 30 * time.Second},
		{"strict: bytes are not enough", worker.Config{StrictDisown: true}, []step{{time.Second, "chunk 9 late"}}, 30 * time.Second},
		{"strict: a heartbeat is", worker.Config{StrictDisown: true}, []step{{time.Second, "heartbeat"}}, 35 * time.Second},
		{"short", worker.Config{Disown: 2 * time.Second}, nil, 2 * time.Second},
		{"short, one answer", worker.Config{Disown: 2 * time.Second}, []step{{1999 * time.Millisecond, "heartbeat"}}, 7 * time.Second},
		{"never", worker.Config{Disown: -1}, nil, ever},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, d codec.Dialect) {
				var o watched
				tt.cfg.Observer = o.observer()
				l := connect(t, d, options{mute: true, cfg: tt.cfg}, nil)
				start := time.Now()
				step := func(late bool) {
					for _, s := range tt.steps {
						if late != (s.at > tt.want) {
							continue
						}
						time.Sleep(s.at - time.Since(start))
						for _, p := range l.parse(s.send) {
							_, _ = l.conn.Write(p)
						}
					}
				}
				step(false)
				time.Sleep(tt.want - time.Since(start) - 1)
				l.wantRunning()
				if tt.want == ever {
					return
				}
				time.Sleep(lastLook)
				l.wantRunning()
				time.Sleep(1 * time.Nanosecond)
				l.wantResult(worker.ErrDisowned)
				step(true)
				o.want(t, "connect", "disown")
				l.wantLog("disowned")
				if s := l.w.State(); s != worker.Closed {
					t.Errorf("State() = %v, want closed", s)
				}
			})
		})
	}
}

// The deadline and a heartbeat of ours may come in one turn of the loop, as after a stop
// of the process. What is found unread then clears the deadline, and the heartbeat sets
// a new one: that one is not over.
func TestDisownAfterStop(t *testing.T) {
	for range 10 { // in either order
		both(t, func(t *testing.T, d codec.Dialect) {
			l, release := stopped(t, d)
			time.Sleep(40 * time.Second)
			l.send(codec.Frame{Kind: codec.KindHeartbeat})
			close(release)
			time.Sleep(29 * time.Second)
			l.wantRunning()
			time.Sleep(10 * time.Second)
			l.wantResult(worker.ErrDisowned)
		})
	}
}

// A long message that takes longer than the deadline is life all the while.
func TestDisownBigMessage(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{mute: true}, nil)
		chunk := encode(d, codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 1<<20)})
		l.play("< heartbeat\n > invoke 1 echo")
		for len(chunk) > 0 {
			n := min(len(chunk), 80<<10)
			l.write(chunk[:n])
			chunk = chunk[n:]
			time.Sleep(9 * time.Second)
		}
		l.wantRunning()
		got := 0
		for f := l.take(); f != nil; f = l.take() {
			got = max(got, len(f))
		}
		if got < 1<<20 {
			t.Errorf("the longest frame of the worker has %d bytes, want the echo of 1 MiB", got)
		}
	})
}

// While reading is paused, bytes that wait in the socket are life.
func TestDisownPaused(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		release := make(chan struct{})
		cfg := worker.Config{Sessions: session.Config{InboxBytes: 1 << 10, MaxPause: time.Hour}}
		l := connect(t, d, options{mute: true, cfg: cfg}, func(w *worker.Worker) {
			w.Handle("slow", func(ctx context.Context, s *worker.Session) error {
				<-release
				return echo(ctx, s)
			})
		})
		l.play("< heartbeat\n > invoke 1 slow")
		l.send(codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 2<<10)})
		synctest.Wait()
		if got := l.w.Stats().Sessions.Parked; got != 1 {
			t.Fatalf("Stats().Sessions.Parked = %d, want 1", got)
		}
		l.send(codec.Frame{Kind: codec.KindHeartbeat}) // never read
		time.Sleep(10 * time.Minute)
		l.wantRunning()
		close(release)
		l.wantRunning()
	})
}
