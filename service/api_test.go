package service_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestLookups finds methods by number and name, and the control methods apart from them.
func TestLookups(t *testing.T) {
	api := mustAPI(t,
		service.Method{ID: 7, Name: "far", Rx: session.Streaming},
		service.Method{ID: 1, Name: "one", Tx: session.Streaming, Rx: session.Primitive},
		service.Method{ID: 0, Name: "ping"}, // a name of our own, though a control method has it
	)
	for id := range uint64(10) {
		m, ok := api.ByID(id)
		if want := id == 0 || id == 1 || id == 7; ok != want || ok && m.ID != id {
			t.Errorf("ByID(%d) = %v, %v, want %v", id, m, ok, want)
		}
	}
	for _, id := range []uint64{codec.V1Goaway, codec.V1Ping, codec.V1Settings, codec.V1Revoke, 1 << 63} {
		if m, ok := api.ByID(id); ok {
			t.Errorf("ByID(%d) = %v, true, want no method", id, m)
		}
	}
	for name, want := range map[string]bool{"far": true, "one": true, "ping": true, "revoke": false, "": false, "On": false} {
		if m, ok := api.ByName(name); ok != want || ok && m.Name != name {
			t.Errorf("ByName(%q) = %v, %v, want %v", name, m, ok, want)
		}
	}
	for name, id := range map[string]uint64{"goaway": 65532, "ping": 65533, "settings": 65534, "revoke": 65535} {
		if m, ok := api.Control(name); !ok || m.ID != id || m.Rx != session.Primitive {
			t.Errorf("Control(%q) = %v, %v, want number %d", name, m, ok, id)
		}
	}
	if m, ok := api.Control("far"); ok {
		t.Errorf("Control(far) = %v, true", m)
	}
	if m, _ := api.ByName("ping"); !m.Mute() {
		t.Error("Mute() = false without a graph to answer")
	}
	list := api.Methods()
	if len(list) != 3 || list[0].ID != 0 || list[2].ID != 7 {
		t.Errorf("Methods() = %v, want 0, 1, 7", list)
	}
	list[0].Name = "changed"
	if m, _ := api.ByID(0); m.Name != "ping" {
		t.Error("Methods() gave the API's own list away")
	}
	if n := testing.AllocsPerRun(100, func() {
		api.ByID(7)
		api.ByName("far")
	}); n != 0 {
		t.Errorf("lookups make %v allocations, want 0", n)
	}
}

// TestOwnList checks that an API does not change with the list that it was made from.
func TestOwnList(t *testing.T) {
	list := append(make([]service.Method, 0, 10), service.Method{ID: 1, Name: "b"}, service.Method{ID: 0, Name: "a"})
	api := mustAPI(t, list...)
	if list[0].Name != "b" {
		t.Errorf("NewAPI sorted its argument: %v", list)
	}
	list[0].Name = "c"
	if m, _ := api.ByID(1); m.Name != "b" {
		t.Errorf("ByID(1) = %v, want b", m)
	}
}

func TestEmptyAPI(t *testing.T) {
	for _, api := range []*service.API{nil, {}} {
		same(t, "AppendAPI()", service.AppendAPI(nil, api), []byte("\x80"))
		same(t, "AppendAPIV0()", service.AppendAPIV0(nil, api), []byte("\x80"))
	}
	api, err := service.DecodeAPI([]byte("\x80"))
	if err != nil || len(api.Methods()) != 0 {
		t.Errorf("DecodeAPI(80) = %v, %v", api, err)
	}
	if _, ok := api.Control("ping"); ok {
		t.Error("Control(ping) = true where nothing lists it")
	}
	var zero service.API
	if _, ok := zero.ByName("x"); ok {
		t.Error("ByName(x) = true for no methods")
	}
}

// chain returns n states behind each other.
func chain(n int) *session.Graph {
	var g *session.Graph
	for range n {
		g = session.NewGraph(session.Slot{Name: "go", Kind: session.Value, Next: g})
	}
	return g
}

// wide returns a state of n messages.
func wide(n int) *session.Graph {
	var slots []session.Slot
	for i := range n {
		slots = append(slots, session.Slot{Type: uint64(i), Name: fmt.Sprint("m", i)})
	}
	return session.NewGraph(slots...)
}

// bush returns n states that each lead to the next twice: small, but of 2^n leaves when
// it is written.
func bush(n int) *session.Graph {
	g := session.Primitive
	for range n {
		g = session.NewGraph(session.Slot{Type: 0, Name: "left", Next: g}, session.Slot{Type: 1, Name: "right", Next: g})
	}
	return g
}

func TestNewAPIErrors(t *testing.T) {
	type m = service.Method
	slot := func(typ uint64, name string) *session.Graph {
		return session.NewGraph(session.Slot{Type: typ, Name: name})
	}
	long := strings.Repeat("n", service.MaxNameBytes+1)
	for want, methods := range map[string][]m{
		"bad_graph at 3: number 3 is taken":                            {{ID: 3, Name: "a"}, {ID: 3, Name: "b"}},
		`bad_graph at 4: name "a" is taken by method 3`:                {{ID: 4, Name: "a"}, {ID: 3, Name: "a"}},
		"bad_graph at 65533: number 65533 is taken":                    {{ID: 65533, Name: "a"}},
		"bad_graph at 65536: number 65536, limit 65535":                {{ID: 65536, Name: "a"}},
		"bad_graph at 0: empty name":                                   {{ID: 0}},
		"bad_graph at 0: name of 1025 bytes, limit 1024":               {{ID: 0, Name: long}},
		"bad_graph at 1/tx/2: empty name":                              {{ID: 1, Name: "a", Tx: slot(2, "")}},
		"bad_graph at 1/rx/2: name of 1025 bytes, limit 1024":          {{ID: 1, Name: "a", Rx: slot(2, long)}},
		"bad_graph at 1/rx/70000: number 70000, limit 65535":           {{ID: 1, Name: "a", Rx: slot(70000, "b")}},
		"bad_graph at 1/rx: more than 4096 methods and messages":       {{ID: 1, Name: "a", Rx: wide(service.MaxGraphSlots)}},
		"more than 4096 methods and messages":                          {{ID: 1, Name: "a", Tx: bush(11)}},
		"bad_graph at 1/tx/0/0/0/0/0/0/0/0/0/0/0/0: more than 12 stat": {{ID: 1, Name: "a", Tx: chain(service.MaxGraphDepth + 1)}},
		"bad_graph at 1/tx: a graph without messages: the end of a di": {{ID: 1, Name: "a", Tx: session.NewGraph()}},
		"bad_graph at 1/rx: a graph without messages: the end of a di": {{ID: 1, Name: "a", Rx: session.Same}},
		"bad_graph at 1/rx/5: a graph without messages: the end of a ": {{ID: 1, Name: "a",
			Rx: session.NewGraph(session.Slot{Type: 5, Name: "b", Next: session.NewGraph()})}},
		"bad_graph at 1/rx/5: number 5 is taken": {{ID: 1, Name: "a",
			Rx: session.NewGraph(session.Slot{Type: 5, Name: "b"}, session.Slot{Type: 5, Name: "c"})}},
		`bad_graph at 1/rx/6: name "b" is taken`: {{ID: 1, Name: "a",
			Rx: session.NewGraph(session.Slot{Type: 5, Name: "b"}, session.Slot{Type: 6, Name: "b"})}},
	} {
		api, err := service.NewAPI(methods...)
		if strings.HasPrefix(want, "more") { // where exactly does not matter
			err = errors.Unwrap(asGraphError(t, err))
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) || api != nil {
			t.Errorf("NewAPI() = %v, %v, want %s", api, err, want)
		}
	}
	many := make([]m, service.MaxGraphSlots+1)
	for i := range many {
		many[i] = m{ID: uint64(i), Name: fmt.Sprint(i)}
	}
	if _, err := service.NewAPI(many...); err == nil || err.Error() != "bad_graph: more than 4096 methods" {
		t.Errorf("NewAPI(4097 methods) = %v", err)
	}
}

// TestLargestAPI checks that what is just within the limits is read by peers: it fits the
// 32 nested containers of a frame with everything that may be around it.
func TestLargestAPI(t *testing.T) {
	const control = 4 * 3 // methods and their answers
	deepest := service.Method{ID: 0, Name: strings.Repeat("n", service.MaxNameBytes), Tx: chain(service.MaxGraphDepth)}
	const left = service.MaxGraphSlots - control - 2 - service.MaxGraphDepth
	api := mustAPI(t, deepest, service.Method{ID: 1, Name: "w", Rx: wide(left)})
	if _, err := service.NewAPI(deepest, service.Method{ID: 1, Name: "w", Rx: wide(left + 1)}); err == nil {
		t.Error("NewAPI(one message more) = nil, want an error")
	}
	raw := service.AppendAPI(nil, api)
	again, err := service.DecodeAPI(raw)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "AppendAPI(DecodeAPI())", service.AppendAPI(nil, again), raw)

	update := service.AppendUpdate(nil, service.Update{UUID: "u", Services: map[string]service.Resolved{"s": {API: api}}})
	f := codec.Frame{Kind: codec.KindCall, Session: 1, Args: update}
	args(t, codec.AppendFrame(nil, codec.V1, &f))
	if _, err := service.DecodeUpdate(update); err != nil {
		t.Errorf("DecodeUpdate() = %v", err)
	}
}

func TestStockGraphs(t *testing.T) {
	api, err := service.DecodeAPI(golden(t)["v1 graph app"])
	if err != nil {
		t.Fatal(err)
	}
	enqueue, _ := api.ByName("enqueue")
	info, _ := api.ByName("info")
	if enqueue.Tx != session.Streaming || enqueue.Rx != session.Streaming || info.Tx != nil || info.Rx != session.Primitive {
		t.Errorf("graphs of the app are not the stock ones: %v, %v", enqueue, info)
	}
	values := mustAPI(t, service.Method{Name: "m", Rx: service.Values})
	again, err := service.DecodeAPI(service.AppendAPI(nil, values))
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := again.ByID(0); m.Rx != session.Streaming {
		t.Errorf("Values came back as %v, want Streaming: on the wire they are the same", m.Rx)
	}
}

// TestKinds checks what messages of a graph are to a session: stay, go on, end.
func TestKinds(t *testing.T) {
	end := func(typ uint64, name string) session.Slot { return session.Slot{Type: typ, Name: name} }
	second := session.NewGraph(session.Slot{Type: 0, Name: "chunk", Next: session.Same}, end(1, "choke"))
	first := session.NewGraph(
		session.Slot{Type: 3, Name: "write", Next: session.Same},
		session.Slot{Type: 1, Name: "locked", Next: second},
		session.Slot{Type: 2, Name: "close", Next: session.Same},
		end(0, "error"), end(9, "close2"), end(8, "value"), end(7, "write_"), end(6, "choke"))
	api, err := service.DecodeAPI(service.AppendAPI(nil, mustAPI(t, service.Method{Name: "m", Tx: first})))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := api.ByID(0)
	var got []string
	for _, s := range m.Tx.Slots() {
		next := "on"
		switch s.Next {
		case nil:
			next = "end"
		case m.Tx:
			next = "stay"
		}
		got = append(got, fmt.Sprint(s.Type, " ", s.Name, " ", s.Kind, " ", next))
	}
	want := []string{"0 error error end", "1 locked value on", "2 close value stay", "3 write chunk stay",
		"6 choke choke end", "7 write_ value end", "8 value value end", "9 close2 value end"}
	if !slices.Equal(got, want) {
		t.Errorf("slots are\n%q, want\n%q", got, want)
	}
	behind := m.Tx.Slot(1).Next
	if s := behind.Slots(); len(s) != 2 || s[0].Next != behind || s[0].Kind != session.Chunk || s[1].Next != nil || s[1].Kind != session.Choke {
		t.Errorf("slots behind locked are %v", s)
	}
}
