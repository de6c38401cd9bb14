package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/worker"
)

// body is the body of a request: what was in the tuple, and then the chunks that the
// proxy streams, each read when the one before has been. Nothing is copied but into the
// reader's slice. Any goroutine, one at a time.
type body struct {
	s      *worker.Session
	packed bool // v0: each chunk is a msgpack string
	limit  int64
	wait   deadline

	mu    sync.Mutex // guards the following; held while a Read waits, so that stop wakes it first
	piece []byte     // lent by Recv
	left  int64      // of the declared length; negative if unknown
	taken int64
	err   error // behind the piece

	tooLarge atomic.Bool
}

func (b *body) init(x *exchange, ctx context.Context, length int64) {
	b.s, b.packed, b.limit, b.left = x.s, x.isV0(), x.a.cfg.MaxBodyBytes, length
	b.wait.parent = ctx
}

// Read returns io.EOF at the end of the body, io.ErrUnexpectedEOF if the proxy ended
// before the declared length, an *http.MaxBytesError beyond the limit,
// os.ErrDeadlineExceeded after the read deadline, or why the session was cut.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.piece) == 0 && len(p) > 0 {
		if b.err != nil {
			return 0, b.err
		}
		if err := b.fillLocked(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.piece)
	b.piece = b.piece[n:]
	return n, nil
}

// fillLocked waits for the next piece. An error that may pass is returned, any other is
// kept.
func (b *body) fillLocked() error {
	if b.left == 0 {
		b.err = io.EOF
		return nil
	}
	chunk, err := b.s.Recv(b.wait.context())
	if err == nil && b.packed {
		chunk, err = unpack(chunk)
	}
	switch {
	case err == nil:
		b.addLocked(chunk)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case err == io.EOF && b.left > 0:
		b.err = io.ErrUnexpectedEOF
	default:
		b.err = err
	}
	return nil
}

// unpack returns the string that a piece of a body is in v0.
func unpack(chunk []byte) ([]byte, error) {
	r := codec.NewValueReader(chunk)
	p := r.Bytes()
	switch surplus := len(r.Rest()); {
	case r.Err() != nil:
		return nil, fmt.Errorf("gateway: a piece of the body: %w", r.Err())
	case surplus > 0:
		return nil, fmt.Errorf("gateway: a piece of the body: %d bytes behind the string", surplus)
	}
	return p, nil
}

func (b *body) add(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addLocked(p)
}

// addLocked puts a piece in front of the reader, without what is beyond the declared
// length or the limit.
func (b *body) addLocked(p []byte) {
	if b.left >= 0 {
		p = p[:min(int64(len(p)), b.left)]
		b.left -= int64(len(p))
	}
	if room := b.limit - b.taken; int64(len(p)) > room {
		p = p[:room]
		b.tooLarge.Store(true)
		b.err = &http.MaxBytesError{Limit: b.limit}
	}
	b.taken += int64(len(p))
	b.piece = p
}

// Close lets nobody read any more. What the proxy still sends is dropped when the handler
// has returned.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.piece, b.err = nil, http.ErrBodyReadAfterClose
	return nil
}

// stop is the end of the handler: who still reads is woken.
func (b *body) stop() {
	b.wait.stop(http.ErrBodyReadAfterClose)
	_ = b.Close()
}
