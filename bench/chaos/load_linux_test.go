package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

const (
	// callTimeout of each call of the load.
	callTimeout = 45 * time.Second
	// lateness is how far behind its deadline a call may return on a slow machine.
	lateness = 15 * time.Second
	// maxFaults that are told of one tally.
	maxFaults = 20
)

// tally counts how calls ended, by what was called and the kind of the end.
type tally struct {
	mu      sync.Mutex // guards the following
	counts  map[string]int
	faults  []string // ends that must not be
	longest time.Duration
	slowest string            // what that was
	fault   func(text string) // told of each fault, if set
}

func newTally() *tally { return &tally{counts: make(map[string]int)} }

// end counts the end of a call.
func (t *tally) end(what string, err error, took time.Duration) {
	kind, fine := kindOf(err)
	t.mu.Lock()
	t.counts[what+": "+kind]++
	if took > t.longest {
		t.longest, t.slowest = took, what+", "+kind
	}
	t.mu.Unlock()
	if !fine {
		t.wrong("%s: after %v: %v", what, took, err)
	} else if took > callTimeout+lateness {
		t.wrong("%s took %v, with a deadline of %v: %v", what, took, callTimeout, err)
	}
}

// wrong notes what must not be.
func (t *tally) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.mu.Lock()
	t.counts["faults"]++
	if len(t.faults) < maxFaults {
		t.faults = append(t.faults, text)
	}
	t.mu.Unlock()
	if t.fault != nil {
		t.fault(text)
	}
}

// add takes over a count of another tally.
func (t *tally) add(kind string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[kind] += n
}

func (t *tally) total() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.counts {
		n += c
	}
	return n
}

// lines returns the counts for people.
func (t *tally) lines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(t.counts)) {
		fmt.Fprintf(&b, "\n  %7d  %s", t.counts[k], k)
	}
	return b.String()
}

// errWrong is in the error of a call that was answered, but not with what it should be.
var errWrong = errors.New("wrong answer")

// kindOf names the end of a call, and reports whether it may be one: an answer, an error
// of the service, or a local error that says whether the call was sent. A deadline is
// none, since nothing is away for so long, but for a wait for a connection.
func kindOf(err error) (kind string, fine bool) {
	var e *session.Error
	var unresolved *service.ResolveError
	switch {
	case err == nil:
		return "answered", true
	case errors.Is(err, errWrong):
		return "WRONG", false
	case errors.As(err, &e) && e.Remote:
		return fmt.Sprintf("remote error [%s, %s]", service.CategoryName(e.Category), service.CodeName(e.Category, e.Code)), true
	case errors.As(err, &unresolved):
		return "local error, no connection, so not sent", true
	case errors.Is(err, context.DeadlineExceeded):
		return "LATE", false
	case e != nil:
		return "local error, " + e.Delivery.String(), true
	}
	return "OTHER", false
}

// load is one client and its callers.
type load struct {
	v0     bool
	client *service.Client
	logger *service.Logger
	tally  *tally
	note   func(key string, n int, acked bool) // of a write, before and after
	know   func(key string) entry
	stop   chan struct{} // closed to have the callers end
	once   sync.Once     // of closing it
	wg     sync.WaitGroup

	mu   sync.Mutex // guards the following
	last time.Time  // when both the application and the storage had answered since the last time
	echo bool       // it did
	logs uint64     // records given to the logger
}

// startLoad connects in its own time, and starts callers.
func startLoad(locator string, v0 bool, t *tally, callers int, seed uint64, prefix string, note func(string, int, bool), know func(string) entry) (*load, error) {
	quiet := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := service.Connect(ctx, service.Config{
		Locators: []string{locator}, V0: v0, Logger: quiet, MaxConnects: -1,
		Backoff: service.Backoff{Base: 20 * time.Millisecond, Max: 500 * time.Millisecond},
	})
	if err != nil {
		return nil, err
	}
	logger, err := c.NewLogger(service.LoggerConfig{Source: "app/chaos", Fallback: io.Discard, Patience: 100 * time.Millisecond})
	if err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	l := &load{v0: v0, client: c, logger: logger, tally: t, note: note, know: know, stop: make(chan struct{})}
	for i := range callers {
		who := &caller{load: l, random: rand.New(rand.NewPCG(seed, uint64(i))), prefix: fmt.Sprintf("%s.%d", prefix, i)}
		l.wg.Go(who.run)
	}
	return l, nil
}

// rest ends the callers, and keeps the connections. The second one does nothing.
func (l *load) rest() {
	l.once.Do(func() { close(l.stop) })
	l.wg.Wait()
}

// finish ends the client, behind rest. Each record is accounted for.
func (l *load) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := l.client.Close(ctx)
	s := l.logger.Stats()
	if sum := s.Sent + s.Fallback + s.Dropped + s.Suppressed + s.Filtered + uint64(s.Queued); sum != l.logs {
		l.tally.wrong("%d records were logged, and the logger accounts for %d: %+v", l.logs, sum, s)
	}
	l.tally.add("log: sent", int(s.Sent))
	l.tally.add("log: to the fallback, or dropped and counted", int(l.logs-s.Sent))
	return err
}

// answered notes that the application or the storage has answered.
func (l *load) answered(echo bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if echo {
		l.echo = true
	} else if l.echo {
		l.last, l.echo = time.Now(), false
	}
}

// since reports whether the application has answered after a moment, and behind it the
// storage.
func (l *load) since(begin time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.After(begin)
}

// caller makes one call after the other.
type caller struct {
	*load
	random *rand.Rand
	prefix string
	writes [4]int // how many, by key
}

func (c *caller) run() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-pause.C:
		}
		c.call()
		pause.Reset(time.Duration(c.random.Int64N(int64(3 * time.Millisecond))))
	}
}

// call makes one call, of any kind, and counts how it ends.
func (c *caller) call() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var what string
	var err error
	begin := time.Now()
	switch c.random.IntN(8) {
	case 0, 1, 2:
		what, err = "echo", c.echoes(ctx)
	case 3, 4:
		what, err = "write", c.write(ctx)
	case 5:
		what, err = "read", c.read(ctx)
	case 6:
		what = "resolve"
		_, err = c.client.Locator().Resolve(ctx, []string{"echo", "storage", "node"}[c.random.IntN(3)])
	default:
		c.mu.Lock()
		c.logs++
		c.mu.Unlock()
		c.logger.Info("a record of the load", slog.String("caller", c.prefix))
		return
	}
	c.tally.end(what, err, time.Since(begin))
}

// echoes sends a few chunks to a worker, and compares what comes back.
func (c *caller) echoes(ctx context.Context) error {
	var sent, got []byte
	args := codec.Args("echo")
	if c.v0 { // a call has all that there is to say
		sent = c.chunk()
		args = codec.Args("echo", sent)
	}
	stream, err := c.client.Service("echo").Open(ctx, "enqueue", args)
	if err != nil {
		return err
	}
	defer stream.Discard()
	if !c.v0 {
		if sent, err = c.send(ctx, stream); err != nil {
			return err
		}
	}
	for {
		chunk, err := stream.Recv(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		got = append(got, chunk...)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%w: %d bytes came back, want the %d that were sent", errWrong, len(got), len(sent))
	}
	c.answered(true)
	return nil
}

func (c *caller) chunk() []byte {
	return bytes.Repeat([]byte{byte(c.random.Uint32())}, 1+c.random.IntN(4<<10))
}

// send sends a few chunks, and ends our stream.
func (c *caller) send(ctx context.Context, stream *service.Stream) (sent []byte, err error) {
	for range 1 + c.random.IntN(4) {
		chunk := c.chunk()
		if err := stream.Send(ctx, chunk); err != nil {
			return nil, err
		}
		sent = append(sent, chunk...)
	}
	return sent, stream.Close()
}

// write puts the next value under one of the caller's keys.
func (c *caller) write(ctx context.Context) error {
	i := c.random.IntN(len(c.writes))
	c.writes[i]++
	key, n := fmt.Sprintf("%s.%d", c.prefix, i), c.writes[i]
	c.note(key, n, false)
	_, err := c.client.Service("storage").Call(ctx, "write", codec.Args(collection, key, blobOf(key, n), []string{"chaos"}))
	if err == nil {
		c.note(key, n, true)
		c.answered(false)
	}
	return err
}

// read compares one of the caller's keys.
func (c *caller) read(ctx context.Context) error {
	return check(ctx, c.client.Service("storage"), fmt.Sprintf("%s.%d", c.prefix, c.random.IntN(len(c.writes))), c.know)
}

// check reads a key, and compares it with what is known of it.
func check(ctx context.Context, storage *service.Service, key string, know func(string) entry) error {
	before := know(key)
	reply, err := storage.Call(ctx, "read", codec.Args(collection, key))
	switch missing := isMissing(err); {
	case missing && before.acked == 0:
		return nil
	case missing:
		return fmt.Errorf("%w: %q is not there, want value %d: %w", errWrong, key, before.acked, err)
	case err != nil:
		return err
	}
	r := reply.Reader()
	n, err := numberOf(key, r.Bytes())
	if err != nil {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	after := know(key)
	for begin := time.Now(); n > after.tried && time.Since(begin) < patience; time.Sleep(10 * time.Millisecond) {
		after = know(key) // what another process has tried is told by a pipe, which may be behind
	}
	if n < before.acked || n > after.tried {
		return fmt.Errorf("%w: %q has value %d, want %d to %d", errWrong, key, n, before.acked, after.tried)
	}
	return nil
}

// isMissing reports whether the storage said that there is nothing under a key.
func isMissing(err error) bool {
	return service.Is(err, service.CategoryGeneric, int64(syscall.ENOENT)) ||
		service.Is(err, service.CategoryV0, service.V0Invocation) && strings.Contains(err.Error(), "not been found")
}
