package channel

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// Frames that do not come as they should: late, cut, or none at all.

// slowFrame (A2): a begun frame gains 64 KiB in 10 s, or is whole in 30 s if it is
// smaller than that.
func slowFrame(t *testing.T) {
	for _, tt := range []struct {
		what       string
		frame      int
		each       int
		every      time.Duration
		until, cut time.Duration // nothing is written from then on; it is cut then
	}{
		{"1 B/s", 1000, 1, time.Second, time.Hour, 30 * time.Second},
		{"nothing more", 1000, 1, time.Second, 1, 30 * time.Second},
		{"small in time", 1000, 35, time.Second, time.Hour, 0},
		{"large in time", 1 << 20, 7300, time.Second, time.Hour, 0},
		{"large and slow", 1 << 20, 5000, time.Second, time.Hour, 20 * time.Second},
		{"large and late", 1 << 20, 66_000, 9 * time.Second, 45 * time.Second, 50 * time.Second},
	} {
		t.Run(tt.what, func(t *testing.T) {
			overVirtual(t, func(t *testing.T, m medium) {
				s, w := m.faced(t, Config{})
				whole := w.frames(chunk(1, 0, 8))
				w.put(whole) // and a frame before it
				elapse(time.Minute)
				start := time.Now()
				for p := w.frames(chunk(1, 1, tt.frame)); len(p) > 0 && time.Since(start) < tt.until; {
					n := min(tt.each, len(p))
					if _, err := w.Write(p[:n]); err != nil {
						break
					}
					p = p[n:]
					select {
					case <-time.After(tt.every):
					case <-s.Done():
					}
				}
				if tt.cut == 0 {
					elapse(time.Hour)
					if s.State() != Open || s.messages.Load() != 2 {
						t.Errorf("State() = %v after %d messages, want open after 2: %v", s.State(), s.messages.Load(), s.Err())
					}
					s.end()
					return
				}
				err := s.wantOver(CodeSlowFrame)
				if took := time.Since(start); took < tt.cut-time.Second || took > tt.cut {
					t.Errorf("cut after %v, want %v", took, tt.cut)
				}
				if err.Offset != int64(len(whole)) || !err.Remote {
					t.Errorf("%+v, want byte %d, remote", err, len(whole))
				}
				s.end()
			})
		})
	}
}

// TestSlowFrameAside: neither many frames in a row, each begun, nor a pause is a slow
// frame.
func TestSlowFrameAside(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		p := w.frames(chunk(1, 0, 8))
		w.put(p[:1])
		for range 100 { // always a frame on the way
			elapse(9 * time.Second)
			w.put(p[1:])
			w.put(p[:1])
		}
		w.put(p[1:])
		w.put(p[:5])
		synctest.Wait()
		s.do(s.Pause)
		elapse(time.Hour)
		s.do(s.Resume)
		w.put(p[5:])
		synctest.Wait()
		if s.State() != Open || s.messages.Load() != 102 {
			t.Errorf("State() = %v after %d messages, want open after 102: %v", s.State(), s.messages.Load(), s.Err())
		}
		s.end()
	})
}

// firstFrame (A1): the time for the first whole frame, and its size.
func firstFrame(t *testing.T) {
	cfg := Config{FirstFrameTimeout: 5 * time.Second, FirstFrameBytes: 200}
	overVirtual(t, func(t *testing.T, m medium) {
		for _, begun := range []int{0, 1, 50} {
			s, w := m.faced(t, cfg)
			w.put(w.frames(chunk(1, 0, 100))[:begun])
			takes(t, "the cut", 5*time.Second, func() { s.wantOver(CodeHandshakeTimeout) })
			s.end()
		}
		s, w := m.faced(t, cfg)
		elapse(4900 * time.Millisecond)
		w.put(w.frames(chunk(1, 0, 100)))
		synctest.Wait()
		w.put(w.frames(chunk(1, 1, 1000))) // only the first one is small
		elapse(time.Hour)
		if s.State() != Open || s.messages.Load() != 2 {
			t.Errorf("State() = %v after %d messages, want open after 2: %v", s.State(), s.messages.Load(), s.Err())
		}
		s.end()

		s, w = m.faced(t, cfg)
		w.put(w.frames(chunk(1, 0, 100), chunk(1, 1, 1000))) // also in one read
		synctest.Wait()
		if s.State() != Open || s.messages.Load() != 2 {
			t.Errorf("in one read: State() = %v after %d messages: %v", s.State(), s.messages.Load(), s.Err())
		}
		s.end()

		s, w = m.faced(t, cfg)
		w.put(w.frames(chunk(1, 0, 201))[:10]) // refused when it is declared
		s.wantOver(CodeTooLarge)
		s.end()
	})
}

// refuses checks that bytes which are no frame end the channel at the frame where they
// are, at the beginning of a stream and behind whole frames, which are delivered (A27).
func refuses(t *testing.T, d codec.Dialect, bytes []byte, want Code, why string) {
	t.Helper()
	over(t, func(t *testing.T, m medium) {
		for _, before := range []int{0, 2} {
			if before > 0 && strings.HasPrefix(why, "looks like") {
				continue // only the first bytes are taken for another protocol's
			}
			s, w := m.faced(t, Config{Dialect: d})
			var p []byte
			for i := range before {
				p = append(p, w.frames(chunk(2, i, 10))...)
			}
			w.put(append(p, bytes...))
			err := s.wantOver(want)
			if err.Offset != int64(len(p)) || !err.Remote || !strings.Contains(err.Reason, why) || err.Reason == "" {
				t.Errorf("%+v, want byte %d, remote, because of %q", err, len(p), why)
			}
			if got := int(s.messages.Load()); got != before {
				t.Errorf("%d messages came, want %d", got, before)
			}
			s.end()
		}
	})
}

// TestBadHeaders: a frame whose headers cannot be understood ends the channel, since the
// tables of the two ends no longer agree.
func TestBadHeaders(t *testing.T) {
	for what, headers := range map[string][]byte{
		"none":       {0x01},
		"no table":   {0x91, 0xcd, 0xff, 0xff},
		"too many":   append([]byte{0xdc, 0, 33}, slices.Repeat([]byte{0x02}, 33)...),
		"no headers": {0x91, 0xc0},
	} {
		t.Run(what, func(t *testing.T) {
			refuses(t, codec.V1, append([]byte{0x94, 5, 0, 0x90}, headers...), CodeBadHeader, "")
		})
	}
}

// anySplit (A4): a stream means the same however it is cut into reads.
func anySplit(t *testing.T) {
	var events []string
	s := &side{}
	record := func(m *codec.Message, headers []codec.Header) {
		e := fmt.Sprintf("%d %d %x", m.Session, m.Type, m.Args)
		for _, h := range headers {
			e += fmt.Sprintf(" %s=%x", h.Name, h.Value)
		}
		events = append(events, e)
	}
	var p []byte
	for _, f := range conversation() {
		p = codec.AppendFrame(p, codec.V1, f)
	}
	feed := func(cuts ...int) []string {
		events = nil
		c, _ := newFake(t, Config{Dialect: codec.V1}, s)
		s.onMessage = record
		from := 0
		for _, to := range append(cuts, len(p)) {
			c.feed(p[from:to])
			from = to
		}
		return events
	}
	want := feed()
	if len(want) != len(conversation()) {
		t.Fatalf("%d events, want %d", len(want), len(conversation()))
	}
	every := make([]int, len(p))
	for at := range p {
		every[at] = at
		if got := feed(at); !slices.Equal(got, want) {
			t.Fatalf("cut at byte %d: %q, want %q", at, got, want)
		}
	}
	if got := feed(every...); !slices.Equal(got, want) {
		t.Fatalf("byte by byte: %q, want %q", got, want)
	}
}

// conversation is one frame of each kind, with headers.
func conversation() []*codec.Frame {
	headers := []codec.Header{{Name: []byte("x-trace"), Value: []byte("0123456789")}, {Name: []byte("k"), Value: nil}}
	return []*codec.Frame{
		{Kind: codec.KindHandshake, Text: "0123-4567"},
		{Kind: codec.KindHeartbeat},
		{Kind: codec.KindInvoke, Session: 2, Text: "event", Headers: headers},
		chunk(2, 0, 40), chunk(2, 1, 8),
		{Kind: codec.KindCall, Session: 300, Type: 7, Args: []byte{0x93, 1, 0xa1, 'a', 0x81, 1, 2}},
		{Kind: codec.KindError, Session: 2, Category: 42, Code: -5, Text: "no", Headers: headers},
		{Kind: codec.KindChoke, Session: 70_000},
		{Kind: codec.KindTerminate, Code: 1, Text: "bye"},
	}
}
