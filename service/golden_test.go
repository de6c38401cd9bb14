package service_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// goldenDir holds what the real encoders of five generations of runtimes wrote, and
// conversations recorded from them.
const goldenDir = "../codec/testdata/golden"

// golden is keyed by version and name of a row, for example "v1 graph locator".
func golden(tb testing.TB) map[string][]byte {
	tb.Helper()
	text, err := os.ReadFile(goldenDir + "/frames.tsv")
	if err != nil {
		tb.Fatal(err)
	}
	rows := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 {
			tb.Fatalf("row %q has %d columns, want 3", line, len(f))
		}
		rows[f[0]+" "+f[1]] = unhex(tb, f[2])
	}
	return rows
}

// captured is one frame of a conversation.
type captured struct {
	file, from string // "locator>client"
	message    codec.Message
}

// captures returns the frames of every conversation that can be read in their dialect.
func captures(tb testing.TB) []captured {
	tb.Helper()
	files, err := filepath.Glob(goldenDir + "/captures/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatalf("Glob() = %v, %v, want the captures", files, err)
	}
	var list []captured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		name := filepath.Base(file)
		d := codec.V1
		if strings.HasPrefix(name, "core11") || strings.HasPrefix(name, "go11") {
			d = codec.V0
		}
		for line := range strings.Lines(string(text)) {
			f := strings.SplitN(line, "\t", 3)
			if strings.HasPrefix(line, "#") || len(f) < 2 {
				continue
			}
			var m codec.Message
			if n, _ := codec.NewScanner(d, codec.Limits{}).Next(unhex(tb, f[1]), &m); n > 0 {
				list = append(list, captured{name, f[0], m})
			}
		}
	}
	return list
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// args returns the argument array of a golden frame of v1.
func args(tb testing.TB, frame []byte) []byte {
	tb.Helper()
	var m codec.Message
	if n, err := codec.NewScanner(codec.V1, codec.Limits{}).Next(frame, &m); n != len(frame) || err != nil {
		tb.Fatalf("Next(%x) = %d, %v, want %d, nil", frame, n, err, len(frame))
	}
	return m.Args
}

func same(tb testing.TB, what string, got, want []byte) {
	tb.Helper()
	if !bytes.Equal(got, want) {
		tb.Errorf("%s:\n got %x\nwant %x", what, got, want)
	}
}

// mustAPI returns an API that there must be.
func mustAPI(tb testing.TB, methods ...service.Method) *service.API {
	tb.Helper()
	a, err := service.NewAPI(methods...)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// The stock APIs in our words, by the rows that they must equal.
func stockAPIs(tb testing.TB) map[string]*service.API {
	tb.Helper()
	type m = service.Method
	primitive, stream := session.Primitive, session.Streaming
	discard := session.NewGraph(append(service.ControlSlots(), session.Slot{Type: 0, Name: "discard"})...)
	control := session.NewGraph(append([]session.Slot{
		{Type: 1, Name: "terminate", Next: session.Same},
		{Type: 0, Name: "heartbeat", Next: session.Same},
	}, service.ControlSlots()...)...)
	return map[string]*service.API{
		"v1 graph locator": mustAPI(tb,
			m{0, "resolve", nil, primitive}, m{1, "connect", nil, service.Values},
			m{2, "refresh", nil, primitive}, m{3, "cluster", nil, primitive},
			m{4, "publish", discard, primitive}, m{5, "routing", discard, service.Values},
			m{6, "uuid", nil, primitive}),
		"v1 graph logging": mustAPI(tb,
			m{0, "emit", nil, nil}, m{1, "verbosity", nil, primitive}, m{2, "set_verbosity", nil, primitive}),
		"v1 graph storage": mustAPI(tb,
			m{3, "find", nil, primitive}, m{0, "read", nil, primitive},
			m{2, "remove", nil, primitive}, m{1, "write", nil, primitive}),
		"v1 graph app": mustAPI(tb,
			m{0, "enqueue", stream, stream}, m{1, "info", nil, primitive}, m{2, "control", stream, primitive}),
		"v1 graph node": mustAPI(tb,
			m{0, "start_app", nil, primitive}, m{1, "pause_app", nil, primitive}, m{2, "list", nil, primitive},
			m{3, "info", nil, primitive}, m{4, "control", stream, primitive}, m{5, "enqueue", stream, stream}),
		"v1 graph worker": mustAPI(tb, m{0, "handshake", control, control}),
	}
}

// TestGoldenAPIs describes the stock services; AppendAPI must write the bytes of the C++
// runtime, and DecodeAPI must read the same methods from them.
func TestGoldenAPIs(t *testing.T) {
	rows := golden(t)
	for name, api := range stockAPIs(t) {
		want := rows[name]
		same(t, name, service.AppendAPI(nil, api), want)
		got, err := service.DecodeAPI(want)
		if err != nil {
			t.Errorf("DecodeAPI(%s) = %v", name, err)
			continue
		}
		for _, m := range api.Methods() {
			id, okID := got.ByID(m.ID)
			byName, okName := got.ByName(m.Name)
			if !okID || !okName || id != byName || id.Name != m.Name || id.Mute() != m.Mute() || (id.Tx == nil) != (m.Tx == nil) {
				t.Errorf("%s: ByID(%d) = %v, %v, ByName(%q) = %v, %v", name, m.ID, id, okID, m.Name, byName, okName)
			}
		}
	}
}

// TestGoldenRoundTrip reads every graph of every generation and writes it again.
func TestGoldenRoundTrip(t *testing.T) {
	seen := 0
	for name, row := range golden(t) {
		if !strings.Contains(name, " graph ") {
			continue
		}
		seen++
		api, err := service.DecodeAPI(row)
		if err != nil {
			t.Errorf("DecodeAPI(%s) = %v", name, err)
			continue
		}
		same(t, name, service.AppendAPI(nil, api), row)
		if _, ok := api.Control("ping"); ok == strings.HasPrefix(name, "v0.12.0") {
			t.Errorf("%s: Control(ping) = %v", name, ok)
		}
	}
	if seen != 13 {
		t.Errorf("%d rows with a graph, want 13", seen)
	}
}

func TestGoldenResolve(t *testing.T) {
	rows := golden(t)
	answer := args(t, rows["v1 resolve value(storage)"])
	got, err := service.DecodeResolved(answer)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Endpoints) != 2 || got.Endpoints[0] != (service.Endpoint{"127.0.0.1", 41000}) ||
		got.Endpoints[1] != (service.Endpoint{"::1", 41000}) || got.Version != 1 || got.Gone() {
		t.Errorf("DecodeResolved() = %v", got)
	}
	got.API = stockAPIs(t)["v1 graph storage"]
	same(t, "AppendResolved()", service.AppendResolved(nil, got), answer)
}

func TestGoldenResolveV0(t *testing.T) {
	inner := golden(t)["v0 resolve result (inner)"]
	got, err := service.DecodeResolvedV0(inner)
	if err != nil {
		t.Fatal(err)
	}
	find, ok := got.API.ByName("find")
	if len(got.Endpoints) != 1 || got.Endpoints[0].String() != "localhost:41000" || got.Version != 1 ||
		!ok || find.ID != 3 || find.Tx != nil || find.Rx != session.StreamingV0 {
		t.Errorf("DecodeResolvedV0() = %v, find %v", got, find)
	}
	got.API = stockAPIs(t)["v1 graph storage"] // of the same methods
	again, err := service.AppendResolvedV0(nil, got)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "AppendResolvedV0()", again, inner)

	real := unhex(t, "9392a96c6f63616c686f7374cd89ed018200a7656e717565756501a4696e666f") // as a user reported it
	got, err = service.DecodeResolvedV0(real)
	if err != nil || got.Endpoints[0].String() != "localhost:35309" || len(got.API.Methods()) != 2 {
		t.Errorf("DecodeResolvedV0() = %v, %v", got, err)
	}
}

func TestGoldenUpdates(t *testing.T) {
	rows := golden(t)
	update := args(t, rows["v1 connect write update"])
	u, err := service.DecodeUpdate(update)
	if err != nil {
		t.Fatal(err)
	}
	if s := u.Services["storage"]; u.UUID != "uuid-1" || len(u.Services) != 2 || !u.Services["gone"].Gone() || s.Gone() ||
		s.Endpoints[0].String() != "10.0.0.1:41000" || s.Version != 1 {
		t.Errorf("DecodeUpdate() = %v", u)
	}
	same(t, "AppendUpdate()", service.AppendUpdate(nil, u), update)
	same(t, "AppendUpdate()", service.AppendUpdate(nil, service.Update{UUID: "uuid-1", Services: map[string]service.Resolved{
		"storage": {Endpoints: []service.Endpoint{{"10.0.0.1", 41000}}, Version: 1},
		"gone":    {},
	}}), update)

	cluster := args(t, rows["v1 cluster value"])
	nodes, err := service.DecodeCluster(cluster)
	if err != nil || len(nodes) != 1 || nodes["uuid-1"].String() != "10.0.0.1:10053" {
		t.Errorf("DecodeCluster() = %v, %v", nodes, err)
	}
	same(t, "AppendCluster()", service.AppendCluster(nil, nodes), cluster)

	routing := args(t, rows["v1 routing write"])
	groups, err := service.DecodeRouting(routing)
	if err != nil || len(groups) != 1 {
		t.Fatalf("DecodeRouting() = %v, %v", groups, err)
	}
	for point, want := range map[uint32]string{
		0: "app_v1", 0x01c11621: "app_v1", 0x01c11622: "app_v2", 0xee6b27ff: "app_v2", 0xee6b2800: "app_v1", 1<<32 - 1: "app_v1",
	} {
		if got := groups["app"].At(point); got != want {
			t.Errorf("At(%#x) = %q, want %q", point, got, want)
		}
	}
	same(t, "AppendRouting()", service.AppendRouting(nil, groups), routing)
}

// TestCaptures reads what live locators answered, and writes it again.
func TestCaptures(t *testing.T) {
	counts := map[string]int{}
	for _, c := range captures(t) {
		m := c.message
		r := m.Reader()
		switch {
		case c.from == "locator>client" && m.Type == codec.V1Value && m.NumArgs == 3:
			counts["resolve"]++
			s, err := service.DecodeResolved(m.Args)
			if err != nil {
				t.Errorf("%s: DecodeResolved() = %v", c.file, err)
				continue
			}
			same(t, c.file, service.AppendResolved(nil, s), m.Args)
		case c.from == "locator>client" && m.Type == codec.V1ValueError && m.NumArgs == 2:
			counts["error"]++
			category, code, text, _ := codec.DecodeError(&m)
			err := error(&session.Error{Category: category, Code: code, Message: string(text)})
			if !service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) {
				t.Errorf("%s: %v, want locator, service_not_available", c.file, err)
			}
		case c.from == "locator>client" && m.NumArgs == 1 && r.Peek() == codec.MapValue:
			counts["cluster or routing"]++
			nodes, err1 := service.DecodeCluster(m.Args)
			groups, err2 := service.DecodeRouting(m.Args)
			if err1 != nil || err2 != nil || len(nodes)+len(groups) != 0 {
				t.Errorf("%s: %v, %v, %v, %v", c.file, nodes, err1, groups, err2)
			}
		case c.from == "locator11>client" && m.Type == codec.V0Chunk && bytes.HasPrefix(m.Payload, []byte("\x93\x92")):
			counts["resolve v0"]++
			s, err := service.DecodeResolvedV0(m.Payload)
			if err != nil {
				t.Errorf("%s: DecodeResolvedV0() = %v", c.file, err)
				continue
			}
			again, err := service.AppendResolvedV0(nil, s)
			same(t, c.file, again, m.Payload)
			if err != nil {
				t.Error(err)
			}
		}
	}
	want := map[string]int{"resolve": 12, "error": 5, "cluster or routing": 2, "resolve v0": 1}
	for what, n := range want {
		if counts[what] != n {
			t.Errorf("%d captured frames of %s, want %d", counts[what], what, n)
		}
	}
}

// asGraphError returns err as a *GraphError.
func asGraphError(tb testing.TB, err error) *service.GraphError {
	tb.Helper()
	var g *service.GraphError
	if !errors.As(err, &g) {
		tb.Fatalf("%v is no *GraphError", err)
	}
	return g
}
