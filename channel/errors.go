package channel

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/sluice-rpc/sluice/codec"
)

// Errors that callers branch on.
var (
	// ErrFull says that the output is above its high water mark and the frame was
	// not taken. OnWritable tells when there is room again.
	ErrFull = errors.New("channel: output is full")
	// ErrTooLarge says that a frame is larger than the peer may take; nothing was sent.
	ErrTooLarge = errors.New("channel: frame is larger than the limit")
	// ErrExhausted says that this channel has opened as many sessions as it can
	// number; connect anew.
	ErrExhausted = errors.New("channel: session numbers are exhausted")
	// ErrFinished says that the session's direction has sent its last frame.
	ErrFinished = errors.New("channel: the session has sent its last frame")
	// ErrNotOpen says that the channel has not been connected yet.
	ErrNotOpen = errors.New("channel: not open")
	// ErrUsed says that Connect or Attach was called a second time.
	ErrUsed = errors.New("channel: already connected once; make a new one")
)

// Code says in one word why a channel closed.
type Code uint8

// The reasons for which a channel closes.
const (
	CodeClosed           Code = iota // we closed it
	CodeEOF                          // the peer closed it between two frames
	CodeTruncated                    // the peer closed it inside a frame
	CodeReset                        // the peer or the network reset it
	CodeIO                           // another error of the socket; see Errno
	CodeBadFrame                     // the bytes are no frame
	CodeBadHeader                    // the headers of a frame are no headers
	CodeTooLarge                     // a declared size passes a limit
	CodeTooManyItems                 // a declared count passes a limit
	CodeSlowFrame                    // a frame was begun and not finished in time
	CodeSlowPeer                     // the peer does not read what we send
	CodeHandshakeTimeout             // no first frame in time
	CodeBadHandshake                 // the first frame is not the expected one
	CodeBadSession                   // a session number that the protocol forbids
	CodeBadType                      // a message type that the protocol forbids
	CodeExhausted                    // the peer used the last session number
	CodeFlood                        // the peer passed a budget (cancels, control frames, empty chunks)
	CodeDisowned                     // the peer was silent for too long
	CodeTerminated                   // the peer asked us to end
	CodePanic                        // a callback panicked
	CodeBadCredit                    // the peer keeps other accounts than we do
	CodeBadCompression               // the peer sends compressed chunks that cannot be decompressed
)

var codeNames = [...]string{
	"closed", "eof", "truncated", "reset", "io", "bad_frame", "bad_header", "too_large", "too_many_items",
	"slow_frame", "slow_peer", "handshake_timeout", "bad_handshake", "bad_session", "bad_type",
	"session_exhausted", "flood", "disowned", "terminated", "panic",
	"bad_credit", "bad_compression",
}

// String returns the code's name, e.g. "bad_frame".
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("Code(%d)", uint8(c))
}

// CloseError says why a channel ended. It breaks one channel and all of its
// sessions, and nothing else.
type CloseError struct {
	Code   Code
	Offset int64  // bytes received before the offending frame, if Code is about a frame
	Reason string // for people; may be empty
	Errno  syscall.Errno
	Err    error // the cause; may be nil
	// Undelivered counts the bytes that Send took and the transport did not.
	Undelivered int64
	// Remote is true if the peer or the network is the cause, false if we are.
	Remote bool
}

// Error returns code, offset, reason and cause in one line.
func (e *CloseError) Error() string {
	s := "channel: " + e.Code.String()
	if e.Offset > 0 {
		s += fmt.Sprintf(" at byte %d", e.Offset)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil && e.Code != CodeEOF {
		s += ": " + e.Err.Error()
	}
	if e.Undelivered > 0 {
		s += fmt.Sprintf(" (%d bytes undelivered)", e.Undelivered)
	}
	return s
}

// Unwrap returns the cause.
func (e *CloseError) Unwrap() error { return e.Err }

// frameError turns what the scanner or the header decoder found into the error that
// closes the channel. offset is where the frame begins.
func frameError(err error, offset int64) *CloseError {
	e := &CloseError{Code: CodeBadFrame, Offset: offset, Err: err, Remote: true}
	var fe *codec.FrameError
	if errors.As(err, &fe) {
		e.Reason, e.Err = fe.Detail, nil
		switch fe.Code {
		case codec.CodeBadHeader:
			e.Code = CodeBadHeader
		case codec.CodeTooLarge:
			e.Code = CodeTooLarge
		case codec.CodeTooManyItems:
			e.Code = CodeTooManyItems
		case codec.CodeBadSession:
			e.Code = CodeBadSession
		case codec.CodeBadType:
			e.Code = CodeBadType
		}
		if e.Reason == "" {
			e.Reason = fe.Code.String()
		}
	}
	return e
}

// ioError classifies an error of the transport. partial says that a frame was begun.
func ioError(err error, partial bool, offset int64) *CloseError {
	e := &CloseError{Code: CodeIO, Err: err, Remote: true}
	errors.As(err, &e.Errno)
	switch {
	case errors.Is(err, io.EOF) && partial:
		e.Code, e.Offset, e.Reason, e.Err = CodeTruncated, offset, "the peer closed inside a frame", io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		e.Code = CodeEOF
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		e.Code = CodeReset
	}
	return e
}
