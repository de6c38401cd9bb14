package service

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluice-rpc/sluice/session"
)

// Declaration describes a service as a Go value: what it is called, and what its methods
// take, answer and do. The graph that a locator tells of it follows from the declaration,
// byte for byte as a C++ runtime writes it for the same methods.
type Declaration struct {
	// Name that the service is found by, of 1 to MaxNameBytes bytes.
	Name string
	// Version of its protocol. Clients that ask for 0 take any.
	Version uint32
	// Methods in any order, each with its number.
	Methods []Handled
}

// Handled is a method and what serves it. Exactly one of OnLoop, Serve and Unbound is
// set.
type Handled struct {
	Method
	// Args are checked before the method is called: what is too few or of another kind
	// is answered as by [Call.BadArgs], what is beyond them is left to the method. If
	// nil, anything is taken. Optional ones come last.
	Args []Arg
	// OnLoop is called on the loop of the client's channel and must not block. It may
	// answer at once, or keep c and answer later; see Call. A call that is not answered by
	// the deadline that its request_timeout header sets gets an error, and is over: see
	// Call.OnEnd. One whose session was taken over has no deadline here.
	OnLoop func(c *Call)
	// Serve is called in a goroutine of its own. ctx ends when the client cuts the call
	// or goes, at the deadline that its request_timeout header sets, and at the end of
	// Server.Close. What it returns is the answer if it gave none: nil is an empty value,
	// or the end of the stream; for errors see Call. If it panics, the client is told so.
	// The messages behind the call (Tx) are read by Call.Recv.
	Serve func(ctx context.Context, c *Call) error
	// Unbound has the method listed and not served: calling it is as bad as calling one
	// that is not there. The core's set_verbosity is like this (protocol: logging).
	Unbound bool
	// Endless says that calls of this method do not end by themselves, as those that
	// tell of changes for as long as somebody listens. Server.Close does not wait for
	// them: before anything else it ends their stream, or the context of Serve; one whose
	// answer is a value then gets an error. The stream of an OnLoop one also ends when the
	// client ends its direction, by discard for example. Not for methods that take their
	// session over: what ends it would come between the handler's messages.
	Endless bool
}

// API returns the description of the methods. The error is a *GraphError, or says which
// method is declared wrongly.
func (d Declaration) API() (*API, error) {
	if d.Name == "" || len(d.Name) > MaxNameBytes {
		return nil, fmt.Errorf("service: declare: a service needs a name of 1 to %d bytes, %d were given", MaxNameBytes, len(d.Name))
	}
	methods := make([]Method, len(d.Methods))
	for i, h := range d.Methods {
		if err := h.check(); err != nil {
			return nil, fmt.Errorf("service: declare %s.%s: %w", d.Name, h.Name, err)
		}
		methods[i] = h.Method
	}
	return NewAPI(methods...)
}

func (h *Handled) check() error {
	ways := 0
	for _, set := range [...]bool{h.OnLoop != nil, h.Serve != nil, h.Unbound} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		return fmt.Errorf("%d of OnLoop, Serve and Unbound are set, want exactly one", ways)
	}
	for i, a := range h.Args {
		if i > 0 && h.Args[i-1].Optional && !a.Optional {
			return fmt.Errorf("argument %q is needed, but the one before it is optional", a.Name)
		}
		if a.Kind > lastArgKind {
			return fmt.Errorf("argument %q is of no known kind", a.Name)
		}
	}
	return nil
}

// Signature returns how the method is called, for people, for example
// "read(collection string, key string) value". Optional arguments are in brackets; what
// may be sent behind the call follows an arrow.
func (h Handled) Signature() string {
	var b strings.Builder
	b.WriteString(h.Name)
	b.WriteByte('(')
	for i, a := range h.Args {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
	}
	if h.Args == nil {
		b.WriteString("...")
	}
	b.WriteByte(')')
	if h.Tx != nil {
		b.WriteString(" <- " + describe(h.Tx))
	}
	if h.Rx != nil {
		b.WriteString(" " + describe(h.Rx))
	}
	return b.String()
}

// describe names a graph in one word, or lists its messages.
func describe(g *session.Graph) string {
	switch g {
	case session.Primitive:
		return "value"
	case session.Streaming, session.StreamingV0:
		return "stream"
	case Values:
		return "values"
	}
	var names []string
	for _, s := range g.Slots() {
		if s.Type < firstControl {
			names = append(names, s.Name)
		}
	}
	return "{" + strings.Join(names, ", ") + "}"
}
