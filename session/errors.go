package session

import (
	"errors"
	"fmt"
)

// Categories of errors on the v1 wire that this package uses (protocol: error
// categories). v0 carries no category.
const (
	CategoryWorker = 42 // the framework of a worker
	CategoryUser   = 43 // the application
)

// Codes of CategoryWorker. 100 and 200 are those that every framework sends; the
// others are ours. v0 carries them as they are.
const (
	CodePanic           = 100 // the handler panicked
	CodeNoHandler       = 200 // nobody handles the event
	CodeNameTooLong     = 201
	CodeTooManySessions = 202
	CodeOverflow        = 203 // the handler does not read what was sent
	CodeUnknownType     = 204 // a message that may not come now
	CodeTerminating     = 205 // the worker is about to end
	CodeDeadline        = 206 // not finished in time
	CodeMalformed       = 207 // a message whose arguments make no sense
	CodeFailed          = 208 // the handler returned an error without a code
	CodeNoRoom          = 209 // the peer does not read what is sent to it, see Overflow
	CodeBadCompression  = 210 // a compressed chunk that cannot be decompressed
)

// Delivery says whether a session that was cut had reached the peer.
type Delivery uint8

// What is known of a session that was cut. Only NotSent is safe to repeat.
const (
	Unknown Delivery = iota // it was handed to the network; the peer may have acted
	NotSent                 // not a byte of it left
)

// String returns "unknown" or "not sent".
func (d Delivery) String() string {
	if d == NotSent {
		return "not sent"
	}
	return "unknown"
}

// Error ends one session and nothing else.
type Error struct {
	Category int64 // v1 only; 0 in v0
	Code     int64
	Message  string
	// Remote is true if the peer sent the error; false if it was raised here.
	Remote bool
	// Delivery counts if the session was cut here before it was answered.
	Delivery Delivery
	// Err is the local cause, e.g. a *channel.CloseError; nil for remote errors.
	Err error
}

// Error returns who said what, with category and code.
func (e *Error) Error() string {
	who := "local"
	if e.Remote {
		who = "remote"
	}
	s := fmt.Sprintf("session: %s error", who)
	if e.Category != 0 || e.Code != 0 {
		s += fmt.Sprintf(" [%d, %d]", e.Category, e.Code)
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += fmt.Sprintf(": %v (%s)", e.Err, e.Delivery)
	}
	return s
}

// Unwrap returns the local cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrClosed is returned by sends behind our own last frame.
var ErrClosed = errors.New("session: our direction is closed")

// ErrGraph is wrapped by the error of a send that the dispatch graph of our direction
// does not allow now. Nothing was sent.
var ErrGraph = errors.New("session: the graph does not have this message now")

var (
	errNoInvokes = errors.New("session: only the engine's end of a link invokes events")
	errNoCalls   = errors.New("session: only a client calls methods, and in v1 the service that it is connected to")
)

// codeV0Invocation is what a v0 service answers to a call that it does not know
// (protocol: services in v0).
const codeV0Invocation = 1

// maxErrorBytes of an error's message; the rest is not sent. An error must go out
// whatever it says.
const maxErrorBytes = 16 << 10
