package service

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// DecodeAPI reads an API as v1 describes it: a map of number to [name, tx, rx], where a
// graph is a map of number to [name, next], and next is nil to stay in the same state, an
// empty map for the end of the direction, or the next graph (protocol: dispatch graphs).
// raw is borrowed and holds nothing else. Any error is a *GraphError.
//
// The stock graphs become session.Streaming and session.Primitive themselves, so that
// they can be told by comparison. In others the name of a message says its Kind; where it
// is none of the stock names, that is session.Value, and all arguments count.
func DecodeAPI(raw []byte) (*API, error) {
	return readWhole(raw, readAPI)
}

// DecodeAPIV0 reads an API as v0 describes it: a map of number to name (protocol:
// locator). Every answer is a stream of v0, session.StreamingV0, and nothing can be
// sent behind a call. raw is borrowed and holds nothing else. Any error is a *GraphError.
func DecodeAPIV0(raw []byte) (*API, error) {
	return readWhole(raw, readAPIV0)
}

// readWhole reads an API that nothing may follow.
func readWhole(raw []byte, read func(*reader) (*API, error)) (*API, error) {
	r := valueReader(raw)
	a, err := read(&r)
	if err != nil {
		return nil, err
	}
	if r.end(); !r.ok() {
		return nil, &GraphError{Err: r.Err()}
	}
	return a, nil
}

func readAPIV0(r *reader) (*API, error) {
	var methods []Method
	for n := r.table("methods", MaxGraphSlots); n > 0 && r.ok(); n-- {
		id := r.number("number", firstControl-1)
		methods = append(methods, Method{ID: id, Name: r.name("name"), Rx: session.StreamingV0})
	}
	if !r.ok() {
		return nil, &GraphError{Err: r.Err()}
	}
	return newAPI(methods)
}

func readAPI(r *reader) (*API, error) {
	g := graphReader{reader: r, inKey: true}
	methods := g.root()
	if !r.ok() {
		return nil, &GraphError{Path: g.path(), Err: r.Err()}
	}
	return newAPI(methods)
}

// graphReader reads the graphs of an API. It checks what bounds memory; newAPI does the
// rest. It does not call itself, whatever the input is.
type graphReader struct {
	*reader
	slots int     // methods and messages so far
	stack []state // states that were entered, of one direction

	// for the path of an error
	method uint64
	side   string // "tx", "rx" or neither
	inKey  bool   // no further than the number of the next method or message
}

// state is a graph that is being read.
type state struct {
	slots   []session.Slot // the last one's Next may still be missing
	left    int            // messages to come
	surplus int            // items to be skipped behind the Next of the last one
}

func (g *graphReader) root() []Method {
	var methods []Method
	for n := g.entries(); n > 0 && g.ok(); n-- {
		g.side = ""
		g.method = g.key()
		surplus := g.tuple("method", 3)
		m := Method{ID: g.method, Name: g.name("name")}
		m.Tx = g.graph("tx")
		m.Rx = g.graph("rx")
		g.skip(surplus)
		methods = append(methods, m)
	}
	return methods
}

// entries reads the head of the root or of a state, and returns how many entries it has.
func (g *graphReader) entries() int {
	n := g.table("entries", MaxGraphSlots-g.slots)
	g.slots += n
	return n
}

// key reads the number of a method or message.
func (g *graphReader) key() uint64 {
	n := g.number("number", lastControl)
	g.inKey = !g.ok()
	return n
}

// graph reads one direction. A state that is whole becomes the Next of the message that
// leads to it.
func (g *graphReader) graph(side string) *session.Graph {
	if !g.ok() {
		return nil // and leave side as it is
	}
	g.side = side
	g.stack = append(g.stack[:0], state{left: g.entries()})
	for g.ok() {
		top := &g.stack[len(g.stack)-1]
		g.skip(top.surplus)
		if top.left > 0 {
			g.message(top)
			continue
		}
		whole := top.graph()
		g.stack = g.stack[:len(g.stack)-1]
		if len(g.stack) == 0 {
			return whole
		}
		before := g.stack[len(g.stack)-1].slots
		before[len(before)-1].Next = whole
	}
	return nil
}

// message reads one entry of the state at the top of the stack, and enters the state
// behind it if that is another one.
func (g *graphReader) message(top *state) {
	top.left--
	typ := g.key()
	if !g.ok() {
		return
	}
	top.slots = append(top.slots, session.Slot{Type: typ, Next: session.Same})
	top.surplus = g.tuple("message", 2)
	top.slots[len(top.slots)-1].Name = g.name("name")
	if g.Nil() {
		return
	}
	n := g.entries()
	if n > 0 && len(g.stack) == MaxGraphDepth {
		g.fail("more than %d states behind each other", MaxGraphDepth)
	}
	g.stack = append(g.stack, state{left: n})
}

// graph returns the state that was read, nil if nothing can come in it.
func (s *state) graph() *session.Graph {
	if len(s.slots) == 0 {
		return nil
	}
	sortSlots(s.slots)
	for i := range s.slots {
		s.slots[i].Kind = kindOf(&s.slots[i])
	}
	for _, stock := range []*session.Graph{session.Primitive, session.Streaming} {
		if slices.EqualFunc(s.slots, stock.Slots(), func(a, b session.Slot) bool {
			stays := a.Next == session.Same && b.Next == stock
			return a.Type == b.Type && a.Name == b.Name && a.Kind == b.Kind && (stays || a.Next == b.Next)
		}) {
			return stock
		}
	}
	return session.NewGraph(s.slots...)
}

// kindOf says what a message of that name is to its receiver (protocol: dispatch graphs;
// the names are those of the primitive and streaming protocols).
func kindOf(s *session.Slot) session.Kind {
	switch {
	case s.Name == "write" || s.Name == "chunk":
		return session.Chunk
	case s.Name == "error":
		return session.Fault
	case (s.Name == "close" || s.Name == "choke") && s.Next == nil:
		return session.Choke
	}
	return session.Value
}

func sortSlots(slots []session.Slot) {
	slices.SortStableFunc(slots, func(a, b session.Slot) int { return cmp.Compare(a.Type, b.Type) })
}

// path returns where the reader is, as in GraphError.
func (g *graphReader) path() string {
	if g.side == "" {
		if g.inKey {
			return ""
		}
		return strconv.FormatUint(g.method, 10)
	}
	var b strings.Builder
	b.WriteString(strconv.FormatUint(g.method, 10) + "/" + g.side)
	for i := range g.stack {
		slots := g.stack[i].slots
		if len(slots) == 0 || g.inKey && i == len(g.stack)-1 {
			break
		}
		b.WriteString("/" + strconv.FormatUint(slots[len(slots)-1].Type, 10))
	}
	return b.String()
}

// AppendAPI appends a as v1 describes it, just as the C++ runtime does: see DecodeAPI.
func AppendAPI(dst []byte, a *API) []byte {
	if a == nil {
		a = &API{}
	}
	dst = codec.AppendMapHeader(dst, len(a.methods)+len(a.control))
	for _, m := range a.methods {
		dst = appendMethod(dst, m)
	}
	for _, m := range a.control {
		dst = appendMethod(dst, m)
	}
	return dst
}

func appendMethod(dst []byte, m Method) []byte {
	dst = codec.AppendArrayHeader(codec.AppendUint(dst, m.ID), 3)
	dst = codec.AppendString(dst, m.Name)
	return appendGraph(appendGraph(dst, m.Tx), m.Rx)
}

// appendGraph calls itself at most MaxGraphDepth deep: newAPI saw to that.
func appendGraph(dst []byte, g *session.Graph) []byte {
	if g == nil {
		return codec.AppendMapHeader(dst, 0)
	}
	slots := g.Slots()
	sortSlots(slots)
	dst = codec.AppendMapHeader(dst, len(slots))
	for _, s := range slots {
		dst = codec.AppendArrayHeader(codec.AppendUint(dst, s.Type), 2)
		dst = codec.AppendString(dst, s.Name)
		if s.Next == g {
			dst = codec.AppendNil(dst)
		} else {
			dst = appendGraph(dst, s.Next)
		}
	}
	return dst
}

// AppendAPIV0 appends a as v0 describes it: see DecodeAPIV0. Only numbers and names are
// written; v0 has no control methods.
func AppendAPIV0(dst []byte, a *API) []byte {
	if a == nil {
		a = &API{}
	}
	dst = codec.AppendMapHeader(dst, len(a.methods))
	for _, m := range a.methods {
		dst = codec.AppendString(codec.AppendUint(dst, m.ID), m.Name)
	}
	return dst
}
