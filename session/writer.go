package session

import (
	"context"
	"io"
)

// pieceBytes are the most that Writer and ReadFrom send as one chunk. Other sessions get
// their turn between two chunks and not within one, so a large one costs them its time on
// the wire.
const pieceBytes = 64 << 10

func (s *Session) piece() int { return min(pieceBytes, s.t.ch.MaxPayloadBytes()) }

// Writer returns an io.Writer that sends what it is given as chunks of at most 64 KiB, with
// ctx: unlike Session.Write, whose every call is one chunk. An empty Write sends nothing.
// Bytes and errors as for Send; the count is of what was taken before the error. Any
// goroutine but the loop, one at a time if the bytes of two are not to mix.
func (s *Session) Writer(ctx context.Context) io.Writer { return &writer{s: s, ctx: ctx} }

type writer struct {
	s   *Session
	ctx context.Context
}

func (w *writer) Write(p []byte) (n int, err error) {
	for piece := w.s.piece(); n < len(p); {
		end := min(n+piece, len(p))
		if err := w.s.Send(w.ctx, p[n:end]); err != nil {
			return n, err
		}
		n = end
	}
	return n, nil
}

// ReadFrom sends what r gives until io.EOF, each Read of at most 64 KiB as one chunk, with
// the bound context; io.Copy uses it. It returns how many bytes were taken, and the first
// error of either side. It ends neither direction. Any goroutine but the loop.
func (s *Session) ReadFrom(r io.Reader) (n int64, err error) {
	ctx, p := s.Context(), make([]byte, s.piece())
	for {
		got, readErr := r.Read(p)
		if got > 0 {
			if err := s.Send(ctx, p[:got]); err != nil {
				return n, err
			}
			n += int64(got)
		}
		switch {
		case readErr == io.EOF:
			return n, nil
		case readErr != nil:
			return n, readErr
		}
	}
}
