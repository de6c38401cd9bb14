package service

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// What callers branch on.
var (
	// ErrClosed is the error of calls on a Service, Locator or Client that was closed.
	ErrClosed = errors.New("service: closed")
	// ErrTooManyPending: as many callers as MaxPending wait for a connection already.
	ErrTooManyPending = errors.New("service: too many calls wait for a connection")
	// ErrDialect: the peer's version of the protocol does not have this.
	ErrDialect = errors.New("service: not in this version of the protocol")
	// ErrState is wrapped by the error of a Connect that came when connecting or connected.
	ErrState = errors.New("service: not in this state")
)

// maxTries that a ResolveError lists; of more, the first are left out.
const maxTries = 64

// Try is one step to a connection that failed.
type Try struct {
	Stage    Stage    // what was being done
	Endpoint Endpoint // to which one; zero if that is not the point
	Err      error
}

// String returns for example "dial 10.0.0.1:10053: connection refused".
func (t Try) String() string {
	if t.Endpoint == (Endpoint{}) {
		return fmt.Sprintf("%v: %v", t.Stage, t.Err)
	}
	return fmt.Sprintf("%v %v: %v", t.Stage, t.Endpoint, t.Err)
}

// ResolveError says why there is no connection to a service. Unless there is a
// *session.Error around it, nothing of the call was sent, and it may be repeated.
type ResolveError struct {
	Name  string // of the service
	Tries []Try  // what was tried and how it failed, oldest first, at most 64
	// Err is what ended the wait, if not the last of Tries: the cause of a context,
	// ErrTooManyPending or ErrClosed.
	Err error
}

// Error lists every try with its cause.
func (e *ResolveError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "service %q: no connection", e.Name)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	sep := ": "
	for i := 0; i < len(e.Tries); {
		text, n := e.Tries[i].String(), 1
		for i++; i < len(e.Tries) && e.Tries[i].String() == text; i++ {
			n++
		}
		b.WriteString(sep + text)
		if n > 1 {
			fmt.Fprintf(&b, " (%d times)", n)
		}
		sep = "; "
	}
	return b.String()
}

// Unwrap returns Err and the cause of each try.
func (e *ResolveError) Unwrap() []error {
	list := make([]error, 0, 1+len(e.Tries))
	if e.Err != nil {
		list = append(list, e.Err)
	}
	for _, t := range e.Tries {
		list = append(list, t.Err)
	}
	return list
}

// keepTries appends more to tries and drops the oldest beyond maxTries.
func keepTries(tries, more []Try) []Try {
	tries = append(tries, more...)
	if n := len(tries) - maxTries; n > 0 {
		tries = append(tries[:0:0], tries[n:]...)
	}
	return tries
}

// VersionError says that a service has another version than the wanted one.
type VersionError struct {
	Name       string
	Have, Want uint32
}

// Error says both versions, and how to take any.
func (e *VersionError) Error() string {
	return fmt.Sprintf("service %q has version %d, want %d (0 takes any)", e.Name, e.Have, e.Want)
}

// MethodError says that a method cannot be called like that.
type MethodError struct {
	Service, Method string
	// Names of the methods that there are, if there is none of that name, in the order of
	// their numbers.
	Names []string
	// Hint says what to do, if the method is there but not of this kind.
	Hint string
}

// Error lists the methods that there are.
func (e *MethodError) Error() string {
	if e.Hint != "" {
		return fmt.Sprintf("service %q: method %q %s", e.Service, e.Method, e.Hint)
	}
	if len(e.Names) == 0 {
		return fmt.Sprintf("service %q has no method %q, nor any other", e.Service, e.Method)
	}
	return fmt.Sprintf("service %q has no method %q; there are: %s", e.Service, e.Method, strings.Join(e.Names, ", "))
}

// ReplyError says that an answer came and could not be read. The call was carried out.
type ReplyError struct {
	Service, Method string
	Err             error
}

// Error returns what was called and what is wrong with the answer.
func (e *ReplyError) Error() string {
	return fmt.Sprintf("service %q: the answer of %q: %v", e.Service, e.Method, e.Err)
}

// Unwrap returns Err.
func (e *ReplyError) Unwrap() error { return e.Err }

// Errno returns the number of the socket's error in err, 0 if there is none.
func Errno(err error) syscall.Errno {
	var closed *channel.CloseError
	if errors.As(err, &closed) && closed.Errno != 0 {
		return closed.Errno
	}
	var no syscall.Errno
	errors.As(err, &no)
	return no
}

// cutError is the error of a call whose caller gave up before it was opened.
func cutError(cause error) error {
	return &session.Error{Message: "the call was given up", Delivery: session.NotSent, Err: cause}
}

// definite reports whether err is an answer, and not a failure to get one: the next try
// would be told the same.
func definite(err error) bool {
	var remote *session.Error
	if errors.As(err, &remote) && remote.Remote {
		full := remote.Code == session.CodeTooManySessions || remote.Code == session.CodeTerminating
		return !full || remote.Category != session.CategoryWorker // a peer of ours that is busy may be free soon
	}
	var version *VersionError
	var graph *GraphError
	var read *codec.ReadError
	return errors.As(err, &version) || errors.As(err, &graph) || errors.As(err, &read) || errors.Is(err, ErrDialect)
}
