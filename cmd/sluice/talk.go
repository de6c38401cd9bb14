package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

const stdinBytes = 64 << 10 // of stdin that make one chunk

// dialogue is one event's two directions: chunks and a choke each way.
type dialogue interface {
	Send(ctx context.Context, p []byte) error
	Close() error
	Chunks(ctx context.Context) iter.Seq2[[]byte, error]
	Fail(category, code int64, message string) error
}

// talk is what the command line says in a dialogue, and how the answer is printed.
type talk struct {
	p      *program
	chunks []string
	stdin  bool // chunks are what comes there
	json   bool // each chunk of the answer is one string of JSON on a line
	silent bool // nothing is sent: the call had it all

	hint  string      // what a person is told who has waited for hintAfter
	heard atomic.Bool // something came
}

// hintAfter is how long an answer may take before a person is told where to look.
const hintAfter = 5 * time.Second

// newTalk takes the words behind an event's name: - alone is stdin.
func newTalk(p *program, words []string) *talk {
	return &talk{p: p, chunks: words, stdin: len(words) == 1 && words[0] == "-"}
}

// over converses over s and, if that stops in the middle, tells the handler.
func (t *talk) over(ctx context.Context, s dialogue) error {
	err := t.converse(ctx, s)
	var se *session.Error
	if err != nil && !errors.As(err, &se) {
		// We stop in the middle: a handler should end now, not with the worker's grace. If
		// our choke has been sent, the protocol has no word for that any more.
		go func() {
			_ = s.Fail(session.CategoryWorker, session.CodeDeadline, "the caller does not wait any longer")
		}()
	}
	return err
}

// converse sends the chunks and prints the answer, until that has ended. It leaves two
// goroutines behind if our stdin and stdout do, which no context can interrupt.
func (t *talk) converse(ctx context.Context, s dialogue) error {
	sent, printed := make(chan error, 1), make(chan error, 1)
	go func() { sent <- t.send(ctx, s) }()
	go func() {
		printed <- t.print(ctx, s)
		for range s.Chunks(context.Background()) { // the worker waits for a reader
		}
	}()
	patience := time.NewTimer(hintAfter)
	defer patience.Stop()
	for {
		select {
		case <-patience.C:
			if t.hint != "" && t.p.terminal && !t.heard.Load() {
				_, _ = fmt.Fprintln(t.p.err, t.hint)
			}
		case err := <-printed:
			return err
		case err := <-sent:
			if err != nil {
				return err
			}
			sent = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send sends the chunks and the choke. A session that is over is no error: what ended it
// comes with the answer.
func (t *talk) send(ctx context.Context, s dialogue) error {
	if t.silent {
		return nil
	}
	err := t.sendChunks(ctx, s)
	if err == nil {
		err = s.Close()
	}
	var se *session.Error
	if errors.Is(err, session.ErrClosed) || errors.As(err, &se) || ctx.Err() != nil {
		return nil
	}
	return err
}

func (t *talk) sendChunks(ctx context.Context, s dialogue) error {
	if t.stdin {
		return sendAll(ctx, s, t.p.in)
	}
	for _, c := range t.chunks {
		if err := s.Send(ctx, []byte(c)); err != nil {
			return err
		}
	}
	return nil
}

// body returns all chunks as one, for a call of v0, which has no stream of the caller.
func (t *talk) body(ctx context.Context) ([]byte, error) {
	if t.stdin {
		return t.p.readBounded(ctx, "-")
	}
	return []byte(strings.Join(t.chunks, "")), nil
}

// sendAll sends what r gives, as it comes.
func sendAll(ctx context.Context, s dialogue, r io.Reader) error {
	buf := make([]byte, stdinBytes)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := s.Send(ctx, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read stdin: %w", err)
		}
	}
}

// print writes the answer to stdout.
func (t *talk) print(ctx context.Context, s dialogue) error {
	last := byte('\n')
	var err error
	var line, value []byte // of JSON
	for chunk, failed := range s.Chunks(ctx) {
		t.heard.Store(true)
		if err = failed; err != nil {
			break
		}
		if t.json {
			value = codec.AppendRaw(value[:0], chunk)
			line = append(codec.AppendJSONValue(line[:0], value), '\n')
			chunk = line
		}
		if len(chunk) == 0 {
			continue
		}
		last = chunk[len(chunk)-1]
		if err := t.write(chunk); err != nil {
			return err
		}
	}
	if last != '\n' && !t.stdin {
		if err := t.write([]byte("\n")); err != nil {
			return err
		}
	}
	return err
}

func (t *talk) write(p []byte) error {
	if _, err := t.p.out.Write(p); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}
