package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// heard is what one session's reader got: the numbers of its chunks, and its end.
type heard struct {
	mu      sync.Mutex
	numbers []int
	end     string
}

func (h *heard) read(s *session.Session) {
	for {
		p, err := s.Recv(context.Background())
		h.mu.Lock()
		var se *session.Error
		switch {
		case err == nil:
			h.numbers = append(h.numbers, int(p[0]))
		case err == io.EOF:
			h.end = "choke"
		case errors.As(err, &se):
			h.end = errText(se)
		default:
			h.end = err.Error()
		}
		h.mu.Unlock()
		if err != nil {
			_ = s.Close()
			return
		}
	}
}

func (h *heard) snapshot() ([]int, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.numbers), h.end
}

// shortage is an engine whose chunks to one session soon find no room, or no credit. After
// a minute they do.
func shortage(t *testing.T, credit bool) (c *couple, s *session.Session, h *heard) {
	t.Helper()
	h = &heard{}
	if credit {
		c = creditCouple(t, channel.Script{}, 2000, 1<<20)
	} else {
		// The first 300 bytes pass; 2,000 and a frame are held here.
		path := channel.Path{CapacityBytes: 100, Stalls: []channel.Stall{{At: 300, For: time.Minute}}}
		c = newCouple(t, codec.V1, channel.Script{AtoB: path}, func(c *session.Config) {
			c.Channel.HighWaterBytes, c.Channel.StallTimeout, c.Channel.FrameTimeout = 2000, time.Hour, time.Hour
		})
	}
	c.wo.invoke = func(s *session.Session) {
		go func() {
			if credit {
				time.Sleep(time.Minute)
			}
			h.read(s)
		}()
	}
	s = c.open("e")
	synctest.Wait()
	return c, s, h
}

// eachShortage runs f for what may be lacking, and for who sends.
func eachShortage(t *testing.T, f func(t *testing.T, credit, loop bool)) {
	for _, lack := range []string{"room", "credit"} {
		for _, face := range []string{"loop", "goroutine"} {
			t.Run(lack+"/"+face, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { f(t, lack == "credit", face == "loop") })
			})
		}
	}
}

const chunks = 20

// numbered is a chunk of 500 bytes.
func numbered(i int) []byte { return append([]byte{byte(i)}, make([]byte, 499)...) }

// sendAll sends chunks on either face, and returns what each gave.
func sendAll(t *testing.T, c *couple, s *session.Session, loop bool) (errs []error) {
	t.Helper()
	if !loop {
		for i := range chunks {
			errs = append(errs, s.Send(t.Context(), numbered(i)))
			synctest.Wait() // until the loop has written what it can
		}
		return errs
	}
	onLoop(t, c.engine, func() {
		for i := range chunks {
			errs = append(errs, s.SendChunk(numbered(i)))
		}
	})
	return errs
}

// choke ends the stream on either face.
func choke(t *testing.T, c *couple, s *session.Session, loop bool) {
	t.Helper()
	if !loop {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		return
	}
	onLoop(t, c.engine, func() {
		if err := s.SendChoke(); err != nil {
			t.Errorf("SendChoke() = %v", err)
		}
		if err := s.SendChunk(nil); err != session.ErrClosed {
			t.Errorf("SendChunk() behind the choke = %v, want ErrClosed", err)
		}
	})
}

// What becomes of the chunks that find no room, or no credit, under each policy and on
// each face.
func TestOverflow(t *testing.T) {
	for _, tt := range []struct {
		policy          session.Policy
		loop, goroutine string // what becomes of those for which there is no room
	}{
		{session.Park, "refused", "sent"},
		{session.Refuse, "refused", "refused"},
		{session.DropNewest, "dropped", "dropped"},
		{session.DropOldest, "queued", "queued"},
		{session.Cut, "cut", "cut"},
	} {
		t.Run(tt.policy.String(), func(t *testing.T) {
			eachShortage(t, func(t *testing.T, credit, loop bool) {
				want := tt.goroutine
				if loop {
					want = tt.loop
				}
				c, s, h := shortage(t, credit)
				s.SetOverflow(session.Overflow{Policy: tt.policy, MaxChunks: 3})
				start := time.Now()
				errs := sendAll(t, c, s, loop)
				if waited := time.Since(start) > 0; waited != (want == "sent") {
					t.Errorf("the sender was held up: %v, want it %s", waited, want)
				}
				if want != "cut" {
					choke(t, c, s, loop)
				}
				pass(3 * time.Minute)
				checkOverflow(t, want, errs, c, s, h)
			})
		})
	}
}

// checkOverflow holds what the sends gave, what came and what was counted against each
// other.
func checkOverflow(t *testing.T, want string, errs []error, c *couple, s *session.Session, h *heard) {
	t.Helper()
	got, end := h.snapshot()
	st := c.engine.Stats()
	passed := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	rest, wantEnd := error(nil), "choke"
	var numbers []int
	var newest, oldest, overruns, refusals uint64
	switch want {
	case "sent":
		passed = chunks
		if st.Shortages+c.engine.Channel().Stats().Waits == 0 {
			t.Error("nobody is counted as one who has waited")
		}
	case "refused":
		rest = channel.ErrFull
		refusals = uint64(len(errs) - passed)
	case "dropped":
		passed = len(got)
		newest = uint64(chunks - passed)
	case "queued":
		passed = len(got) - 3
		numbers = []int{chunks - 3, chunks - 2, chunks - 1}
		oldest = uint64(chunks - passed - 3)
	case "cut":
		rest, overruns, wantEnd = s.Err(), 1, "remote 209"
	}
	if passed < 2 || passed > chunks/2 && want != "sent" {
		t.Fatalf("%d of %d chunks found room: this test is of no use", passed, chunks)
	}
	for i, err := range errs {
		switch {
		case i < passed && err != nil:
			t.Errorf("chunk %d: %v, want nil", i, err)
		case i >= passed && want == "cut":
			var e *session.Error
			if !errors.As(err, &e) || e.Remote || e.Code != session.CodeNoRoom {
				t.Errorf("chunk %d: %v, want a local error 209", i, err)
			}
		case i >= passed && err != rest:
			t.Errorf("chunk %d: %v, want %v", i, err, rest)
		}
	}
	var all []int
	for i := range passed {
		all = append(all, i)
	}
	numbers = append(all, numbers...)
	if want == "cut" { // where a cancel overtakes them, some are not seen
		numbers = numbers[:min(len(got), len(numbers))]
	}
	if !slices.Equal(got, numbers) || end != wantEnd {
		t.Errorf("the peer read %v and %s, want %v and %s", got, end, numbers, wantEnd)
	}
	if st.DroppedNewest != newest || st.DroppedOldest != oldest || st.Overruns != overruns || s.Dropped() != newest+oldest {
		t.Errorf("Stats() = %d newest, %d oldest, %d cut, Dropped() = %d, want %d, %d, %d, %d",
			st.DroppedNewest, st.DroppedOldest, st.Overruns, s.Dropped(), newest, oldest, overruns, newest+oldest)
	}
	if st.Refusals != refusals {
		t.Errorf("Stats().Refusals = %d, want %d", st.Refusals, refusals)
	}
	if want != "cut" { // the other end has ended, too
		c.wantEmpty()
	}
}

// An error overtakes what is queued, and drops it.
func TestOverflowError(t *testing.T) {
	eachShortage(t, func(t *testing.T, credit, loop bool) {
		c, s, h := shortage(t, credit)
		s.SetOverflow(session.Overflow{Policy: session.DropOldest, MaxChunks: 5})
		sendAll(t, c, s, loop)
		if loop {
			onLoop(t, c.engine, func() { _ = s.SendError(session.CategoryUser, 7, "enough") })
		} else if err := s.Fail(session.CategoryUser, 7, "enough"); err != nil {
			t.Errorf("Fail() = %v", err)
		}
		pass(3 * time.Minute)
		got, end := h.snapshot()
		if n := len(got); n == 0 || got[n-1] != n-1 || end != "remote 7" {
			t.Errorf("the peer read %v and %s, want the first chunks and the error", got, end)
		}
		if n := s.Dropped(); n != uint64(chunks-len(got)) {
			t.Errorf("Dropped() = %d, want %d", n, chunks-len(got))
		}
	})
}

// A policy that is changed keeps the order, and loses nothing that was queued.
func TestOverflowChanged(t *testing.T) {
	eachShortage(t, func(t *testing.T, credit, loop bool) {
		c, s, h := shortage(t, credit)
		s.SetOverflow(session.Overflow{Policy: session.DropOldest})
		sendAll(t, c, s, loop)
		s.SetOverflow(session.Overflow{})
		told := make(chan struct{}, 9)
		if loop {
			onLoop(t, c.engine, func() {
				s.SetHandler(onRoom{func(s *session.Session) {
					told <- struct{}{}
					if s.SendChunk(numbered(chunks)) == nil {
						_ = s.SendChoke()
					}
				}})
				if err := s.SendChunk(numbered(chunks)); err != channel.ErrFull {
					t.Errorf("SendChunk() behind the queue = %v, want ErrFull", err)
				}
			})
		} else if err := errors.Join(s.Send(t.Context(), numbered(chunks)), s.Close()); err != nil {
			t.Error(err)
		}
		pass(3 * time.Minute)
		var want []int
		for i := range chunks + 1 {
			want = append(want, i)
		}
		if got, end := h.snapshot(); !slices.Equal(got, want) || end != "choke" {
			t.Errorf("the peer read %v and %s, want all in order and the choke", got, end)
		}
		if n := len(told); loop && (n < 1 || n > 2) { // it takes what the flush has left of the credit
			t.Errorf("the handler was told %d times, want once or twice", n)
		}
	})
}

// What is queued ends with its session, and who waits behind it goes on.
func TestOverflowEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(c *couple, s *session.Session)
	}{
		{"cut", func(_ *couple, s *session.Session) { s.Cut(42, 1, "never mind") }},
		{"cancelled", func(_ *couple, s *session.Session) { s.Cancel(42, 1, "never mind") }},
		{"dropped", func(_ *couple, s *session.Session) { s.Drop() }},
		{"lost", func(c *couple, _ *session.Session) { c.engine.Channel().Fail(&channel.CloseError{Reason: "test"}) }},
		{"failed, then lost", func(c *couple, s *session.Session) {
			_ = s.SendError(42, 1, "never mind")
			c.engine.Channel().Fail(&channel.CloseError{Reason: "test"})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachShortage(t, func(t *testing.T, credit, loop bool) {
				c, s, _ := shortage(t, credit)
				s.SetOverflow(session.Overflow{Policy: session.DropOldest, MaxChunks: 3})
				sendAll(t, c, s, loop)
				closed := make(chan error, 1)
				go func() { closed <- s.Close() }()
				synctest.Wait()
				onLoop(t, c.engine, func() { tt.end(c, s) })
				pass(time.Second) // within the shortage
				if n := session.Backlog(s); n != 0 {
					t.Errorf("%d chunks are queued, want none", n)
				}
				if err := s.Send(t.Context(), numbered(0)); err == nil {
					t.Error("Send() = nil, want that the session is over")
				}
				pass(2 * time.Minute)
				select {
				case <-closed:
				default:
					t.Error("Close() still waits")
				}
			})
		})
	}
}

// The queue is bounded in bytes and chunks; one chunk is queued whatever its size.
func TestOverflowBounds(t *testing.T) {
	for _, tt := range []struct {
		o    session.Overflow
		size int
		want int
	}{
		{session.Overflow{MaxChunks: 4}, 100, 4},
		{session.Overflow{MaxBytes: 5 * 516}, 500, 5},
		{session.Overflow{MaxBytes: 100}, 500, 1},
		{session.Overflow{}, 500, 256},
		{session.Overflow{MaxChunks: -1}, 10_000, 26}, // 256 KiB
		{session.Overflow{MaxBytes: -1, MaxChunks: -1}, 100, 1000},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, s, _ := shortage(t, false)
			tt.o.Policy = session.DropOldest
			s.SetOverflow(tt.o)
			for session.Backlog(s) == 0 {
				if err := s.Send(t.Context(), make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if tt.o.MaxBytes < 0 { // and the first
				tt.want++
			}
			for range 1000 {
				if err := s.Send(t.Context(), make([]byte, tt.size)); err != nil {
					t.Fatal(err)
				}
			}
			got := session.Backlog(s)
			if got != tt.want {
				t.Errorf("%+v: %d chunks of %d bytes are queued, want %d", tt.o, got, tt.size, tt.want)
			}
			if err := s.Send(t.Context(), make([]byte, 100<<20)); err != channel.ErrTooLarge {
				t.Errorf("Send() of a chunk too large = %v, want ErrTooLarge", err)
			}
		})
	}
	defer func() {
		if recover() == nil {
			t.Error("SetOverflow() of a policy that is none did not panic")
		}
	}()
	new(session.Session).SetOverflow(session.Overflow{Policy: 9})
}

// String names the policies.
func TestPolicyString(t *testing.T) {
	if got := fmt.Sprint(session.Park, session.Refuse, session.DropNewest, session.DropOldest, session.Cut, session.Policy(9)); got !=
		"park refuse drop_newest drop_oldest cut policy 9" {
		t.Errorf("String() = %s", got)
	}
}
