package service

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

var errAway = errors.New("nobody there")

// fakeLogging is a logging service that remembers what it got.
type fakeLogging struct {
	mu    sync.Mutex
	level int           // verbosity
	conn  uint64        // number of the connection
	away  error         // of both methods, if not nil
	mute  error         // of verbosity only
	cut   error         // of emit only
	stall chan struct{} // emit waits for it, if not nil
	hold  chan struct{} // verbosity waits for it, if not nil
	asked int           // calls of verbosity
	got   [][]byte      // arguments of emit
}

func (f *fakeLogging) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeLogging) emit(ctx context.Context, args []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waitLocked(ctx, f.stall)
	if err := errors.Join(ctx.Err(), f.away, f.cut); err != nil {
		return err
	}
	f.got = append(f.got, bytes.Clone(args))
	return nil
}

// waitLocked lets go of the lock until the channel is closed, if there is one.
func (f *fakeLogging) waitLocked(ctx context.Context, c chan struct{}) {
	if c == nil {
		return
	}
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-c:
	case <-ctx.Done():
	}
}

func (f *fakeLogging) verbosity(ctx context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	f.waitLocked(ctx, f.hold)
	return f.level, errors.Join(ctx.Err(), f.away, f.mute)
}

func (f *fakeLogging) connection() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn
}

// asks returns how often the verbosity was asked for.
func (f *fakeLogging) asks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// lines returns the messages that came, with their attributes, and forgets them.
func (f *fakeLogging) lines(t testing.TB) string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, args := range f.got {
		_, message, attrs, err := decodeLog(args)
		if err != nil {
			t.Errorf("emit(%x): %v", args, err)
		}
		for _, a := range attrs {
			message += " " + a.String()
		}
		lines = append(lines, message)
	}
	f.got = nil
	return strings.Join(lines, ";")
}

// lockedBuffer is a Fallback.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// take returns what was written, and forgets it.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

// loggerOn returns a logger that ends with the test.
func loggerOn(t testing.TB, f *fakeLogging, d codec.Dialect, cfg LoggerConfig) (*Logger, *lockedBuffer) {
	t.Helper()
	out := new(lockedBuffer)
	cfg.Fallback = out
	if cfg.Source == "" {
		cfg.Source = "app/test"
	}
	l := newLogger(f, d, cfg)
	t.Cleanup(func() { l.Close(context.Background()) })
	return l, out
}

func wantText(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %q, want %q", what, got, want)
	}
}
