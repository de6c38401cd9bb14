package session

import (
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

func TestStockGraphs(t *testing.T) {
	for _, c := range []struct {
		name  string
		graph *Graph
		slots []Slot
	}{
		{"Streaming", Streaming, []Slot{{0, "write", Chunk, Streaming}, {1, "error", Fault, nil}, {2, "close", Choke, nil}}},
		{"Primitive", Primitive, []Slot{{0, "value", Value, nil}, {1, "error", Fault, nil}}},
		{"StreamingV0", StreamingV0, []Slot{{4, "chunk", Chunk, StreamingV0}, {5, "error", Fault, nil}, {6, "choke", Choke, nil}}},
	} {
		got := c.graph.Slots()
		if len(got) != len(c.slots) {
			t.Errorf("%s has %d messages, want %d", c.name, len(got), len(c.slots))
			continue
		}
		for i, want := range c.slots {
			if got[i] != want {
				t.Errorf("%s: %+v, want %+v", c.name, got[i], want)
			}
			if slot := c.graph.Slot(want.Type); slot == nil || *slot != want {
				t.Errorf("%s.Slot(%d) = %v, want %s", c.name, want.Type, slot, want.Name)
			}
		}
		for _, typ := range []uint64{3, 7, 100, 65535, 1<<64 - 1} {
			if slot := c.graph.Slot(typ); slot != nil {
				t.Errorf("%s.Slot(%d) = %v, want none", c.name, typ, slot)
			}
		}
	}
	if Stream(codec.V0) != StreamingV0 || Stream(codec.V1) != Streaming {
		t.Error("Stream() is not the dialect's")
	}
}

func TestNewGraph(t *testing.T) {
	slots := []Slot{{65535, "revoke", Value, nil}, {0, "call", Value, Primitive}, {7, "more", Chunk, Same}}
	g := NewGraph(slots...)
	slots[0].Name = "changed" // the graph has its own
	if s := g.Slot(65535); s == nil || s.Name != "revoke" || s.Next != nil {
		t.Errorf("Slot(65535) = %+v", s)
	}
	if s := g.Slot(0); s == nil || s.Next != Primitive {
		t.Errorf("Slot(0) = %+v, want it to lead to Primitive", s)
	}
	if s := g.Slot(7); s == nil || s.Next != g {
		t.Errorf("Slot(7) = %+v, want it to stay", s)
	}
	list := g.Slots()
	list[0].Name = "changed"
	if g.Slot(65535).Name != "revoke" {
		t.Error("Slots() is not a copy")
	}
	if s := NewGraph().Slot(0); s != nil {
		t.Errorf("an empty graph has %+v", s)
	}
	if s := Same.Slot(0); s != nil {
		t.Errorf("Same has %+v", s)
	}
}

// FuzzSlot: the look-up agrees with a walk, for any graph and any type.
func FuzzSlot(f *testing.F) {
	f.Add([]byte{0, 1, 2}, uint64(1))
	f.Add([]byte{4, 5, 6}, uint64(3))
	f.Add([]byte{255, 0, 254}, uint64(1<<64-1))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, types []byte, typ uint64) {
		slots := make([]Slot, len(types))
		for i, b := range types {
			slots[i] = Slot{Type: uint64(int8(b)), Name: string(rune('a' + i%26))} // the small and the very large
		}
		g := NewGraph(slots...)
		for _, typ := range []uint64{typ, typ % 300, uint64(int8(typ))} {
			var want *Slot
			for i := range g.slots {
				if g.slots[i].Type == typ {
					want = &g.slots[i]
					break
				}
			}
			got := g.Slot(typ)
			if (got == nil) != (want == nil) || got != nil && got.Type != typ {
				t.Fatalf("Slot(%d) = %v, want %v", typ, got, want)
			}
		}
	})
}
