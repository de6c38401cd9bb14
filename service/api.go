package service

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Limits of an API.
const (
	// MaxGraphSlots bounds the methods of an API and the messages in their graphs, all
	// together.
	MaxGraphSlots = 4096
	// MaxGraphDepth bounds the states that can follow each other in one direction. With
	// all that is around a graph in a frame that is just below the 32 nested containers
	// which the C++ runtime accepts (protocol: values).
	MaxGraphDepth = 12
)

// The numbers of control methods, which every root protocol has behind its own
// (protocol: dispatch graphs). No number is higher.
const (
	firstControl = codec.V1Goaway
	lastControl  = codec.V1Revoke
)

// controlNames is indexed by number less firstControl.
var controlNames = [...]string{"goaway", "ping", "settings", "revoke"}

// Method is one entry of an API: what a caller may send on a session that it opens with
// this method, and what it may get back (protocol: dispatch graphs). In each direction
// nil is the empty graph: no message at all.
type Method struct {
	// ID is the type of the frame that opens the session.
	ID uint64
	// Name of 1 to MaxNameBytes bytes.
	Name string
	// Tx is what the caller may send behind the call.
	Tx *session.Graph
	// Rx is what the service may answer.
	Rx *session.Graph
}

// Mute reports whether the method is never answered: nobody is to wait or to keep a
// session for it (protocol: dispatch graphs; the logger's emit is one).
func (m Method) Mute() bool { return m.Rx == nil }

// Values is a stream whose messages have any arguments, all of which count, where in
// [session.Streaming] it is one string. On the wire and in an API the two are the same:
// only who knows the method can tell. The locator's connect and routing are of this kind,
// and the control of an app (protocol: locator; app and node).
var Values = session.NewGraph(
	session.Slot{Type: codec.V1Write, Name: "write", Kind: session.Value, Next: session.Same},
	session.Slot{Type: codec.V1Error, Name: "error", Kind: session.Fault, Next: nil},
	session.Slot{Type: codec.V1Close, Name: "close", Kind: session.Choke, Next: nil},
)

// ControlSlots returns the four messages that the C++ runtime lists in a graph that is a
// protocol of its own, behind its own messages, such as the one behind the locator's
// publish (protocol: dispatch graphs). Each ends the direction. They are there to be
// listed: nobody sends them.
func ControlSlots() []session.Slot {
	slots := make([]session.Slot, len(controlNames))
	for i, name := range controlNames {
		slots[i] = session.Slot{Type: firstControl + uint64(i), Name: name, Kind: session.Value}
	}
	return slots
}

// API says which methods a service has; what the service is called it does not say
// (protocol: dispatch graphs). It is immutable and may be shared. The zero value has no
// methods, and a nil one is taken for that by the Append functions.
type API struct {
	// immutable
	methods []Method       // by ID, without the control methods
	control []Method       // by ID
	byName  map[string]int // index in methods
}

// NewAPI returns the API with these methods, in any order, and with the four control
// methods 65532..65535 that every service has. What cannot be described, or would not be
// read by peers, is a *GraphError: a number or a name that is there twice in one place, a
// number above 65535, a name that is empty or too long, a graph without messages, or what
// is beyond MaxGraphSlots or MaxGraphDepth.
func NewAPI(methods ...Method) (*API, error) {
	all := slices.Clone(methods)
	for i, name := range controlNames {
		all = append(all, Method{ID: firstControl + uint64(i), Name: name, Rx: session.Primitive})
	}
	return newAPI(all)
}

// newAPI takes over all methods, those of control included.
func newAPI(all []Method) (*API, error) {
	if err := checkMethods(all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Method) int { return cmp.Compare(a.ID, b.ID) })
	own, _ := find(all, firstControl)
	a := &API{methods: all[:own:own], control: all[own:], byName: make(map[string]int, own)}
	for i, m := range a.methods {
		if first, twice := a.byName[m.Name]; twice {
			return nil, badGraph("name %.64q is taken by method %d", m.Name, a.methods[first].ID).in(m.ID)
		}
		a.byName[m.Name] = i
	}
	return a, nil
}

// ByID returns the method that a frame of type id calls, false if there is none or it is
// a control method.
func (a *API) ByID(id uint64) (Method, bool) {
	if id < uint64(len(a.methods)) && a.methods[id].ID == id { // numbers nearly always have no gaps
		return a.methods[id], true
	}
	i, ok := find(a.methods, id)
	if !ok {
		return Method{}, false
	}
	return a.methods[i], true
}

// find returns where in a list by ID a method is, or would be.
func find(methods []Method, id uint64) (int, bool) {
	return slices.BinarySearchFunc(methods, id, func(m Method, id uint64) int { return cmp.Compare(m.ID, id) })
}

// ByName returns the method of that name, false if there is none. Control methods are
// not among them: a service may have a "ping" of its own.
func (a *API) ByName(name string) (Method, bool) {
	i, ok := a.byName[name]
	if !ok {
		return Method{}, false
	}
	return a.methods[i], true
}

// Control returns the control method of that name: "revoke", "settings", "ping" or
// "goaway". It is false if the service does not list it, as those of runtime 0.12.0 do
// not. Only ping and revoke may be sent: a C++ runtime closes the connection at the
// others (protocol: dispatch graphs).
func (a *API) Control(name string) (Method, bool) {
	i := slices.IndexFunc(a.control, func(m Method) bool { return m.Name == name })
	if i < 0 {
		return Method{}, false
	}
	return a.control[i], true
}

// Methods returns a copy of the list of methods, in the order of their numbers, without
// the control methods.
func (a *API) Methods() []Method { return slices.Clone(a.methods) }

// GraphError says why an API cannot be: one from a peer that makes no sense or exceeds a
// limit, or one of ours that no peer could read.
type GraphError struct {
	// Path is where: numbers and directions from the root, for example "4/tx/0" for
	// message 0 that a caller of method 4 may send. Empty for the root itself.
	Path string
	// Err is what is wrong there; a *codec.ReadError if it could not be read.
	Err error
}

// Error returns for example "bad_graph at 4/tx/0: empty name".
func (e *GraphError) Error() string {
	if e.Path == "" {
		return "bad_graph: " + e.Err.Error()
	}
	return "bad_graph at " + e.Path + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *GraphError) Unwrap() error { return e.Err }

func badGraph(format string, args ...any) *GraphError {
	return &GraphError{Err: fmt.Errorf(format, args...)}
}

// in puts the number of a method or message in front of the path.
func (e *GraphError) in(id uint64) *GraphError { return e.under(strconv.FormatUint(id, 10)) }

func (e *GraphError) under(part string) *GraphError {
	if e.Path != "" {
		part += "/" + e.Path
	}
	e.Path = part
	return e
}

// checkMethods returns what keeps methods from being an API, all but names that are there
// twice in the root. The order does not matter.
func checkMethods(methods []Method) error {
	left := MaxGraphSlots - len(methods)
	if left < 0 {
		return badGraph("more than %d methods", MaxGraphSlots)
	}
	seen := make(map[uint64]bool, len(methods))
	for _, m := range methods {
		if err := checkEntry(m.ID, m.Name, seen); err != nil {
			return err.in(m.ID)
		}
		if err := checkGraph(m.Tx, 1, &left); err != nil {
			return err.under("tx").in(m.ID)
		}
		if err := checkGraph(m.Rx, 1, &left); err != nil {
			return err.under("rx").in(m.ID)
		}
	}
	return nil
}

func checkEntry(id uint64, name string, seen map[uint64]bool) *GraphError {
	switch {
	case seen[id]:
		return badGraph("number %d is taken", id)
	case id > lastControl:
		return badGraph("number %d, limit %d", id, lastControl)
	}
	if err := checkName("name", len(name)); err != nil {
		return &GraphError{Err: err}
	}
	seen[id] = true
	return nil
}

// checkGraph checks a state and all behind it; left counts the messages that may still
// come. So it ends whatever states refer to each other, and as often as they do.
func checkGraph(g *session.Graph, depth int, left *int) *GraphError {
	if g == nil {
		return nil
	}
	slots := g.Slots()
	*left -= len(slots)
	switch {
	case len(slots) == 0:
		return badGraph("a graph without messages: the end of a direction is nil")
	case *left < 0:
		return badGraph("more than %d methods and messages", MaxGraphSlots)
	case depth > MaxGraphDepth:
		return badGraph("more than %d states behind each other", MaxGraphDepth)
	}
	seen, names := make(map[uint64]bool, len(slots)), make(map[string]bool, len(slots))
	for _, s := range slots {
		if err := checkEntry(s.Type, s.Name, seen); err != nil {
			return err.in(s.Type)
		}
		if names[s.Name] {
			return badGraph("name %.64q is taken", s.Name).in(s.Type)
		}
		names[s.Name] = true
		if s.Next == g {
			continue
		}
		if err := checkGraph(s.Next, depth+1, left); err != nil {
			return err.in(s.Type)
		}
	}
	return nil
}
