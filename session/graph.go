package session

import (
	"strconv"

	"github.com/sluice-rpc/sluice/codec"
)

// Kind says what a message is to its receiver.
type Kind uint8

// The kinds of messages within a session.
const (
	Chunk Kind = iota // a piece of a stream; its first argument is the data
	Value             // the one answer of a primitive call; all arguments count
	Fault             // an error: it ends the direction, whatever Next says
	Choke             // the end of a stream, likewise
)

// String returns "chunk", "value", "error" or "choke".
func (k Kind) String() string {
	switch k {
	case Chunk:
		return "chunk"
	case Value:
		return "value"
	case Fault:
		return "error"
	case Choke:
		return "choke"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Graph is the state of one direction of a session: the messages that may come now,
// and for each the state behind it (protocol: dispatch graphs). It is immutable and
// may be shared.
type Graph struct {
	slots []Slot
}

// Slot is one message of a Graph.
type Slot struct {
	Type uint64 // on the wire
	Name string
	Kind Kind
	Next *Graph // the state behind it; nil ends the direction
}

// NewGraph returns the state in which the given messages may come. A slot whose Next
// is [Same] stays in this state.
func NewGraph(slots ...Slot) *Graph {
	g := &Graph{slots: append([]Slot(nil), slots...)}
	for i := range g.slots {
		if g.slots[i].Next == Same {
			g.slots[i].Next = g
		}
	}
	return g
}

// Same stands for the very graph that a slot is given to NewGraph for.
var Same = &Graph{}

// The stock graphs.
var (
	// Streaming is v1's stream: any number of writes, then one error or one close.
	Streaming = NewGraph(
		Slot{codec.V1Write, "write", Chunk, Same},
		Slot{codec.V1Error, "error", Fault, nil},
		Slot{codec.V1Close, "close", Choke, nil},
	)
	// Primitive is v1's single answer: one value or one error.
	Primitive = NewGraph(
		Slot{codec.V1Value, "value", Value, nil},
		Slot{codec.V1ValueError, "error", Fault, nil},
	)
	// StreamingV0 is v0's stream. Its error does not end the direction by itself, but
	// nothing of use can follow it; the choke that does is taken as late.
	StreamingV0 = NewGraph(
		Slot{codec.V0Chunk, "chunk", Chunk, Same},
		Slot{codec.V0Error, "error", Fault, nil},
		Slot{codec.V0Choke, "choke", Choke, nil},
	)
)

// Stream returns the stream graph of a dialect.
func Stream(d codec.Dialect) *Graph {
	if d == codec.V0 {
		return StreamingV0
	}
	return Streaming
}

// streamChunk returns the chunk of a dialect's stream.
func streamChunk(d codec.Dialect) *Slot { return &Stream(d).slots[0] }

// noChunk is of no type that a message can have.
var noChunk = &Slot{Type: 1<<64 - 1}

// Slot returns the message of the given type, nil if it may not come now. The graphs
// of a stream have three neighbouring types, so the first guess nearly always holds.
func (g *Graph) Slot(typ uint64) *Slot {
	if len(g.slots) == 0 {
		return nil
	}
	if i := typ - g.slots[0].Type; i < uint64(len(g.slots)) && g.slots[i].Type == typ {
		return &g.slots[i]
	}
	for i := range g.slots {
		if g.slots[i].Type == typ {
			return &g.slots[i]
		}
	}
	return nil
}

// Slots returns a copy of the graph's messages.
func (g *Graph) Slots() []Slot { return append([]Slot(nil), g.slots...) }
