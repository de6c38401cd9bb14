package service

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
)

// Whatever is pushed, popped and moved in whatever order, the queue has it in order, and
// not much memory more than that.
func TestLogQueue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var q, batch logQueue
	var model []string
	for n := range 20000 {
		switch {
		case random.IntN(5) < 3:
			model = append(model, strings.Repeat(fmt.Sprint(n), random.IntN(20)))
			q.push(logEntry{level: slog.Level(n)}, &logRecord{source: "s", message: []byte(model[len(model)-1])})
			if len(q.entries) > 2*len(model)+2 {
				t.Fatalf("%d entries for %d records, want up to twice as many", len(q.entries), len(model))
			}
		case len(model) == 0:
		case random.IntN(40) == 0:
			q.moveTo(&batch, 100, 500)
			for first := true; batch.len() > 0; first = false {
				if !first && batch.bytes() > 500 {
					t.Fatalf("moveTo() took %d bytes, limit 500", batch.bytes())
				}
				model = model[1:]
				batch.pop()
			}
		default:
			_, args := q.head()
			if _, message, _, err := decodeLog(args); err != nil || message != model[0] {
				t.Fatalf("head() = %q, %v, want %q", message, err, model[0])
			}
			q.pop()
			model = model[1:]
		}
		if q.len() != len(model) {
			t.Fatalf("len() = %d, want %d", q.len(), len(model))
		}
	}
}

// What a burst needed is given back.
func TestLogQueueShrinks(t *testing.T) {
	var q logQueue
	r := &logRecord{source: "s", message: make([]byte, 1000)}
	for range 1000 {
		q.push(logEntry{}, r)
	}
	for q.len() > 0 {
		q.pop()
	}
	if cap(q.buf) > keepLogBytes || cap(q.entries) > 1000 {
		t.Errorf("an empty queue keeps %d bytes, %d entries", cap(q.buf), cap(q.entries))
	}
}

// stuckWriter is a terminal that somebody has stopped.
type stuckWriter chan struct{}

func (w stuckWriter) Write(p []byte) (int, error) {
	<-w
	return len(p), nil
}

// Who logs does not wait, even if nothing can be written anywhere.
func TestLoggerFallbackStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := make(stuckWriter)
		l := newLogger(&fakeLogging{away: errAway}, codec.V1, LoggerConfig{Fallback: w, Patience: -1, MaxQueued: 10})
		for range 100 {
			l.Info("x")
			synctest.Wait()
		}
		if s := l.Stats(); s.Queued > 11 || s.Dropped < 85 {
			t.Errorf("Stats() = %+v, want 10 queued, the others dropped", s)
		}
		close(w)
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
}
