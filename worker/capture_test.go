package worker_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// difference is a frame of a captured worker that is not ours, and why.
type difference struct {
	captured string // hex
	ours     *codec.Frame
	reason   string
}

const (
	texts     = "the words for an unknown event and for a panic are our own"
	errorEnds = "in v1 an error ends the direction; a live engine drops the connection for the choke behind it"
	answers   = "a terminate is answered; the captured worker closes first"
)

// capture is a recorded conversation between an engine and a worker of another
// framework.
type capture struct {
	file        string
	dialect     codec.Dialect
	short       bool // the worker wrote 3 elements; we write 4
	differences []difference
}

var captures = []capture{
	{
		file: "go11-worker-v0.txt", dialect: codec.V0,
		differences: []difference{
			{
				"93050492d09cda00295468657265206973206e6f206576656e742068616e646c657220666f72206e6f737563686576656e74",
				&codec.Frame{Kind: codec.KindError, Session: 4, Code: 200, Text: `there is no handler for the event "nosuchevent"`},
				texts + "; 200 is the code that the later frameworks agreed on",
			},
		},
	},
	{
		file: "go12-worker-v1.txt", dialect: codec.V1,
		differences: []difference{
			{
				"94050192922a64da00314576656e743a202770616e6963272c207265636f7665723a20746f6c6420746f2070616e69632c20737461636b3a200a0a90",
				&codec.Frame{Kind: codec.KindError, Session: 5, Category: 42, Code: 100, Text: `the handler of "panic" panicked: told to panic`},
				texts,
			},
			{
				"94070192922accc8da002c5468657265206973206e6f2068616e646c657220666f7220616e206576656e74206e6f737563686576656e7490",
				&codec.Frame{Kind: codec.KindError, Session: 7, Category: 42, Code: 200, Text: `there is no handler for the event "nosuchevent"`},
				texts,
			},
		},
	},
	{
		file: "go12-worker-v1-3elem.txt", dialect: codec.V1, short: true,
		differences: []difference{
			{
				"93050192922a64da002f4576656e743a202770616e6963272c207265636f7665723a20746f6c6420746f2070616e69632c20737461636b3a20",
				&codec.Frame{Kind: codec.KindError, Session: 5, Category: 42, Code: 100, Text: `the handler of "panic" panicked: told to panic`},
				texts,
			},
			{
				"93070192922accc8da002c5468657265206973206e6f2068616e646c657220666f7220616e206576656e74206e6f737563686576656e74",
				&codec.Frame{Kind: codec.KindError, Session: 7, Category: 42, Code: 200, Text: `there is no handler for the event "nosuchevent"`},
				texts,
			},
			{"93040290", nil, errorEnds},
			{"93050290", nil, errorEnds},
			{"93060290", nil, errorEnds},
			{"93070290", nil, errorEnds},
		},
	},
	{file: "core-node-worker-headers.txt", dialect: codec.V1},
}

// TestCaptures plays the engine's side of each capture to a worker whose handlers do
// what the captured ones did. Heartbeats are compared apart: their times are our own.
func TestCaptures(t *testing.T) {
	for _, c := range captures {
		t.Run(c.file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.replay(t) })
		})
	}
}

func (c *capture) replay(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "codec", "testdata", "golden", "captures", c.file))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	l := connect(t, c.dialect, options{raw: true, bare: true, cfg: commandLine(t, lines[0], c.dialect)}, capturedHandlers(c.dialect))
	used := make([]bool, len(c.differences))
	sent := 0
	for i, line := range lines {
		from, rest, _ := strings.Cut(line, "\t")
		digits, comment, _ := strings.Cut(rest, "\t")
		frame, err := hex.DecodeString(digits)
		switch {
		case strings.HasPrefix(line, "#") || line == "":
		case err != nil:
			t.Fatalf("line %d: %v", i+1, err)
		case strings.Contains(comment, "heartbeat"):
			c.wantBeat(t, from, frame)
		case from == "engine>worker":
			if sent++; strings.Contains(comment, "terminate") {
				l.write(frame)
				l.wantTerminate(c.dialect, frame)
				continue
			}
			l.write(frame)
		case !c.differs(l, digits, used):
			if c.short {
				frame = append(append([]byte{0x94}, frame[1:]...), 0x90)
			}
			l.wantBytes(frame)
		}
	}
	if sent < 10 {
		t.Errorf("the engine sent %d frames: the capture was not read", sent)
	}
	for i, u := range used {
		if !u {
			t.Errorf("difference %d (%s) was not met", i, c.differences[i].reason)
		}
	}
	l.play("< nothing")
	_ = l.conn.Close()
	l.wantResult(nil)
}

// commandLine is the configuration from the flags in a capture's first line.
func commandLine(t *testing.T, line string, d codec.Dialect) worker.Config {
	_, flags, _ := strings.Cut(line, "<path> ") // the program
	flags, _, _ = strings.Cut(flags, " ; env")
	cfg := worker.FromArgs(strings.Fields(flags))
	if cfg.App != "echo" || cfg.Endpoint != "<path>" || len(cfg.UUID) != 36 || len(cfg.Locators) != 1 || cfg.Dialect != d {
		t.Fatalf("FromArgs(%q) = %+v", flags, cfg)
	}
	return cfg
}

// capturedHandlers do what those of the captured workers did. The framework of v0
// packed each chunk once more, as its peers expect: here that is the handler's business.
func capturedHandlers(d codec.Dialect) func(w *worker.Worker) {
	write := func(s *worker.Session, p []byte) error {
		if d == codec.V0 {
			p = codec.AppendRaw(nil, p)
		}
		_, err := s.Write(p)
		return err
	}
	return func(w *worker.Worker) {
		w.Handle("echo", func(ctx context.Context, s *worker.Session) error {
			for chunk, err := range s.Chunks(ctx) {
				var se *session.Error
				if errors.As(err, &se) {
					return worker.Errorf(999, "[%d] [%d] %s", se.Category, se.Code, se.Message)
				}
				if err := write(s, chunk); err != nil || d == codec.V0 { // that one echoed one chunk
					return err
				}
			}
			return nil
		})
		w.Handle("ping", func(_ context.Context, s *worker.Session) error { return write(s, []byte("pong")) })
		w.Handle("fail", func(context.Context, *worker.Session) error { return worker.Errorf(7, "told to fail") })
		w.Handle("panic", func(context.Context, *worker.Session) error { panic("told to panic") })
	}
}

// differs deals with a frame that is not ours.
func (c *capture) differs(l *link, digits string, used []bool) bool {
	l.t.Helper()
	for i, d := range c.differences {
		if d.captured == digits {
			if used[i] = true; d.ours != nil {
				l.want(*d.ours)
			}
			return true
		}
	}
	return false
}

func (c *capture) wantBeat(t *testing.T, from string, frame []byte) {
	t.Helper()
	want := encode(c.dialect, codec.Frame{Kind: codec.KindHeartbeat})
	if c.short {
		want = append([]byte{0x93}, want[1:len(want)-1]...)
	}
	if from == "worker>engine" && !bytes.Equal(frame, want) {
		t.Errorf("the captured worker beats %x, ours %x", frame, want)
	}
}

// wantTerminate wants the answer, which no captured worker gives.
func (l *link) wantTerminate(d codec.Dialect, frame []byte) {
	l.t.Helper()
	var m codec.Message
	if _, err := codec.NewScanner(d, codec.Limits{}).Next(frame, &m); err != nil {
		l.t.Fatal(err)
	}
	r := m.Reader()
	f := codec.Frame{Kind: codec.KindTerminate, Code: r.Int64(), Text: r.String()}
	if r.Err() != nil {
		l.t.Fatal(r.Err())
	}
	l.want(f)
	l.t.Logf("difference: %s", answers)
}

// TestIndexedHeaders plays frames of a runtime that still wrote headers by their
// numbers and stored them: every frame moves the table, whoever it is for.
func TestIndexedHeaders(t *testing.T) {
	frames := []struct{ name, hex string }{
		{"SEQ1 traced", "94010091a4687474709393c3cf0000000000000050a8080706050403020193c3cf0000000000000051a8181716151413121193c3cf0000000000000052a82827262524232221"},
		{"SEQ2 same trace again", "94020091a4687474709393c3cf0000000000000050a8080706050403020193c3cf0000000000000051a8181716151413121193c3cf0000000000000052a82827262524232221"},
		{"SEQ3 + authorization", "94030091a4687474709493c3cf0000000000000050a8080706050403020193c3cf0000000000000051a8181716151413121193c3cf0000000000000052a8282726252423222193c3cf0000000000000017a84265617265722078"},
		{"SEQ4 + authorization again", "94040091a4687474709493c3cf0000000000000050a8080706050403020193c3cf0000000000000051a8181716151413121193c3cf0000000000000052a82827262524232221cf0000000000000056"},
		{"SEQ5 + custom", "94050091a4687474709493c3cf0000000000000050a8080706050403020193c3cf0000000000000051a8181716151413121193c3cf0000000000000052a8282726252423222193c3a8782d637573746f6da131"},
		{"SEQ6 + custom new value", "94060091a4687474709493c3cf0000000000000050a8080706050403020193c3cf0000000000000051a8181716151413121193c3cf0000000000000052a8282726252423222193c3cf0000000000000056a132"},
		{"SEQ7 other trace", "94070091a4687474709393c3cf0000000000000050a8990000000000000093c3cf0000000000000051a8980000000000000093c3cf0000000000000052a89700000000000000"},
		{"heartbeat, no trace", "9401009093cf0000000000000050cf0000000000000051cf0000000000000052"},
	}
	synctest.Test(t, func(t *testing.T) {
		seen := make(chan map[string]string, 1)
		l := connect(t, codec.V1, options{}, func(w *worker.Worker) {
			w.Handle("http", func(_ context.Context, s *worker.Session) error {
				if trace, ok := codec.TraceOf(s.Headers()); !ok || trace.Span == 0 {
					t.Errorf("session %d: TraceOf() = %v, %v", s.ID(), trace, ok)
				}
				headers := make(map[string]string)
				for _, h := range s.Headers()[3:] {
					headers[string(h.Name)] = string(h.Value)
				}
				seen <- headers
				return nil
			})
		})
		for i, f := range frames {
			frame, err := hex.DecodeString(f.hex)
			if err != nil {
				t.Fatal(err)
			}
			l.write(frame)
			if frame[1] == codec.V1ControlSession {
				continue // on a worker link these are heartbeats
			}
			want := map[int]map[string]string{
				2: {"authorization": "Bearer x"}, 3: {"authorization": "Bearer x"}, 4: {"x-custom": "1"}, 5: {"x-custom": "2"},
			}[i]
			l.wantBytes([]byte{0x94, frame[1], 0x02, 0x90, 0x90})
			if got := <-seen; !maps.Equal(got, want) {
				t.Errorf("%s: the handler saw %q, want %q", f.name, got, want)
			}
		}
		l.play("< nothing")
	})
}
