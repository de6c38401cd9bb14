package service_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

// testG12 logs without a service: how fast, and where the records go.
func testG12(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V1, codec.V0} {
		inBubble(t, fmt.Sprintf("down from the start, %v", d), func(t *testing.T) {
			n := newLoggingNode(t, d, map[codec.Dialect]int{codec.V0: 3}[d]) // in either version all but debug
			defer n.close()
			n.stop()
			testG12Down(t, n)
		})
		inBubble(t, fmt.Sprintf("verbosity fails, %v", d), func(t *testing.T) { testG12Verbosity(t, d) })
	}
	inBubble(t, "a fallback that is stuck", func(t *testing.T) {
		n := newLoggingNode(t, codec.V1, 0)
		defer n.close()
		n.stop()
		c := n.client()
		r, w := io.Pipe()
		l, err := c.NewLogger(service.LoggerConfig{Source: "app/a", MaxQueued: 100, Fallback: w})
		if err != nil {
			t.Fatal(err)
		}
		logFast(t, l, 1000)
		time.Sleep(time.Minute)
		logFast(t, l, 1000)
		if s := l.Stats(); s.Dropped == 0 || s.Queued > 100+128 {
			t.Errorf("Stats() = %+v, want a queue of 100 and a batch, and the rest dropped", s)
		}
		_ = r.Close()
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
}

// testG12Down: a second of records at a time goes to the fallback, and it says how many
// do not; the service gets what comes when it is back.
func testG12Down(t *testing.T, n *loggingNode) {
	const rate = 20
	c := n.client()
	var out linesWriter
	l, err := c.NewLogger(service.LoggerConfig{Source: "app/a", Fallback: &out, FallbackRate: rate})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		logFast(t, l, 100)
		time.Sleep(time.Second)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	s := l.Stats()
	if s.Fallback == 0 || s.Suppressed == 0 || s.Fallback+s.Suppressed != 1000 || !s.Away || s.Sent != 0 {
		t.Errorf("Stats() = %+v, want 1000 records at the fallback or suppressed", s)
	}
	for second, lines := range out.perSecond() {
		if lines > 2*rate+1 { // a full bucket, and what comes during that second
			t.Errorf("%d lines in second %d, want at most %d", lines, second, 2*rate+1)
		}
	}
	n.restart()
	time.Sleep(time.Minute)
	l.Error("back")
	synctest.Wait()
	if got := n.took(); !strings.Contains(got, "back") || l.Stats().Away {
		t.Errorf("the service got %q, want the record that came when it was back", got)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if text := out.text(); !strings.Contains(text, "the logging service is away") || !strings.Contains(text, "suppressed=") {
		t.Errorf("fallback = %.300q, want it to say what happened", text)
	}
}

// testG12Verbosity: a service that does not say its verbosity gets the configured level.
func testG12Verbosity(t *testing.T, d codec.Dialect) {
	n := newLoggingNode(t, d, map[codec.Dialect]int{codec.V0: 3}[d])
	defer n.close()
	declared := n.declaration()
	declared.Methods[1].OnLoop = func(c *service.Call) { _ = c.Fail(42, 1, "no verbosity today") }
	n.mu.Lock()
	_ = n.logging.Close(t.Context())
	n.logging = testServer(t, service.ServerConfig{V0: d == codec.V0, Declaration: declared})
	n.mu.Unlock()
	c := n.client()
	var out linesWriter
	l, err := c.NewLogger(service.LoggerConfig{Source: "app/a", Fallback: &out})
	if err != nil {
		t.Fatal(err)
	}
	logFast(t, l, 50)
	l.Debug("nobody asked for it")
	synctest.Wait()
	if got := strings.Count(n.took(), "record"); got != 50 || l.Enabled(-4) {
		t.Errorf("the service got %d records, want the 50 that are not debug", got)
	}
	if err := c.Close(t.Context()); err != nil || out.text() != "" {
		t.Errorf("Close() = %v, fallback = %q, want nothing", err, out.text())
	}
}

// logFast logs, and checks that it took no time.
func logFast(t *testing.T, l *service.Logger, records int) {
	t.Helper()
	began := time.Now()
	for k := range records {
		l.Error(fmt.Sprint("record ", k))
	}
	if took := time.Since(began); took != 0 {
		t.Errorf("%d records took %v, want no wait", records, took)
	}
}

// linesWriter keeps lines and when they came.
type linesWriter struct {
	mu    sync.Mutex
	lines []string
	at    []time.Time
}

func (w *linesWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines, w.at = append(w.lines, string(p)), append(w.at, time.Now())
	return len(p), nil
}

func (w *linesWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "")
}

// perSecond returns how many lines came in each second.
func (w *linesWriter) perSecond() map[int64]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	seconds := map[int64]int{}
	for _, at := range w.at {
		seconds[at.Unix()]++
	}
	return seconds
}
