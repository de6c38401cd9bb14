package service_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

// decoders read argument arrays and payloads, for tests of what they refuse.
var decoders = map[string]func([]byte) error{
	"resolve":    func(b []byte) error { _, err := service.DecodeResolved(b); return err },
	"resolve v0": func(b []byte) error { _, err := service.DecodeResolvedV0(b); return err },
	"connect":    func(b []byte) error { _, err := service.DecodeUpdate(b); return err },
	"cluster":    func(b []byte) error { _, err := service.DecodeCluster(b); return err },
	"routing":    func(b []byte) error { _, err := service.DecodeRouting(b); return err },
}

// TestRefused: each decoder says where its input is wrong.
func TestRefused(t *testing.T) {
	host := arr(str("h"), num(80))
	good := arr(arr(host), num(1), empty)
	long := str(strings.Repeat("n", service.MaxNameBytes+1))
	point := arr(num(1), str("s"))
	members := make([][]byte, service.MaxRingMembers+1)
	for i := range members {
		members[i] = arr(num(1), str(strings.Repeat("x", i/100+1)+string(rune('a'+i%100))))
	}
	for _, row := range []struct {
		decoder string
		input   []byte
		want    string
	}{
		{"resolve", nil, "service: resolve: value at byte 0: no value left"},
		{"resolve", arr(), "no value left"},
		{"resolve", arr(arr(host), num(1)), "resolve: bad_graph: value at byte 7: no value left"},
		{"resolve", arr(host, num(1), empty), "string, want array"},
		{"resolve", arr(arr(host), str("1"), empty), "string, want integer"},
		{"resolve", arr(arr(host), num(1<<32), empty), "version 4294967296, limit 4294967295"},
		{"resolve", arr(arr(host), num(1), arr()), "bad_graph: value at byte 7: array, want map"},
		{"resolve", dict(arr(host), num(1)), "map, want array"},

		{"resolve v0", nil, "cut short"},
		{"resolve v0", arr(arr(host), num(1), empty), "endpoint of 1 items, want 2"}, // v1's endpoints
		{"resolve v0", arr(host, num(1)), "answer of 2 items, want 3"},
		{"resolve v0", arr(host, num(1), dict(num(0), num(1))), "bad_graph: value at byte 8: integer, want string"},
		{"resolve v0", append(arr(host, num(1), empty), 0), "1 bytes behind the value"},
		{"resolve v0", arr(host, num(1), dict(num(0), str("a"), num(0), str("b"))), "bad_graph at 0: number 0 is taken"},

		{"connect", arr(), "no value left"},
		{"connect", arr(str(""), empty), "empty uuid"},
		{"connect", arr(long, empty), "uuid of 1025 bytes"},
		{"connect", arr(str("u"), arr()), "array, want map"},
		{"connect", arr(str("u"), dict(str(""), good)), "empty service"},
		{"connect", arr(str("u"), dict(long, good)), "service of 1025 bytes"},
		{"connect", arr(str("u"), dict(str("s"), arr(arr(), num(1)))), `"s": service of 2 items, want 3`},
		{"connect", arr(str("u"), dict(str("s"), arr(arr(), num(1), one(null, empty)))), `connect: "s": bad_graph at 5/tx: value at byte 14: nil, want map`},
		{"connect", arr(str("u"), append(codecMap32(service.MaxEntries+1), make([]byte, 3*service.MaxEntries)...)), "4097 services, limit 4096"},

		{"cluster", arr(), "no value left"},
		{"cluster", arr(dict(str("u"), str("h:80"))), "string, want array"},
		{"cluster", arr(dict(num(1), host)), "integer, want string"},
		{"cluster", arr(append(codecMap32(service.MaxEntries+1), make([]byte, 3*service.MaxEntries)...)), "4097 nodes, limit 4096"},

		{"routing", arr(dict(str("g"), dict())), "map, want array"},
		{"routing", arr(dict(str("g"), arr(arr(num(1))))), "point of 1 items, want 2"},
		{"routing", arr(dict(str("g"), arr(arr(num(1<<32), str("s"))))), "point 4294967296, limit 4294967295"},
		{"routing", arr(dict(str("g"), arr(arr(num(1), str(""))))), "empty service"},
		{"routing", arr(dict(str("g"), arr(point, arr(num(1), long)))), "service of 1025 bytes"},
		{"routing", arr(dict(str("g"), arr(members...))), "more than 1024 services in a group"},
		{"routing", arr(append(codecMap32(service.MaxEntries+1), make([]byte, 3*service.MaxEntries)...)), "4097 groups, limit 4096"},
	} {
		err := decoders[row.decoder](row.input)
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.HasPrefix(err.Error(), "service: "+row.decoder[:7]) {
			t.Errorf("%s: %v, want %s", row.decoder, err, row.want)
		}
	}
	input := append([]byte("\x91\x81\xa1g"), codec.AppendArrayHeader(nil, service.MaxRingPoints+1)...)
	input = append(input, make([]byte, 2*service.MaxRingPoints)...)
	if err := decoders["routing"](input); err == nil || !strings.Contains(err.Error(), "524289 points, limit 524288") {
		t.Errorf("routing: %v, want too many points", err)
	}
}

// TestSurplus reads answers of a protocol that has got more items.
func TestSurplus(t *testing.T) {
	host := arr(str("h"), num(80), null)
	more := dict(str("x"), arr())
	for name, input := range map[string][]byte{
		"resolve":    arr(arr(host), num(1), empty, more),
		"resolve v0": arr(host, num(1), empty, more),
		"connect":    arr(str("u"), dict(str("s"), arr(arr(host), num(1), empty, more), str("t"), arr(arr(), num(0), empty, more, more)), more),
		"cluster":    arr(dict(str("u"), host, str("v"), host), more),
		"routing":    arr(dict(str("g"), arr(arr(num(1), str("s"), more), arr(num(2), str("s"), more))), more),
	} {
		if err := decoders[name](input); err != nil {
			t.Errorf("%s: %v, want surplus items skipped", name, err)
		}
	}
}

// TestErrorTypes checks that what is wrong can be told without reading texts.
func TestErrorTypes(t *testing.T) {
	_, err := service.DecodeUpdate(arr(str("u"), dict(str("s"), arr(arr(), num(1), one(empty, null)))))
	g := asGraphError(t, err)
	var read *codec.ReadError
	if g.Path != "5/rx" || !errors.As(err, &read) {
		t.Errorf("DecodeUpdate() = %v, want a *GraphError at 5/rx because of a *codec.ReadError", err)
	}
	_, err = service.DecodeUpdate(arr(num(1)))
	if errors.As(err, &g) || !errors.As(err, &read) {
		t.Errorf("DecodeUpdate() = %v, want a *codec.ReadError and no *GraphError", err)
	}
}

// TestLast checks that of two entries with one name the last counts.
func TestLast(t *testing.T) {
	host := func(name string) []byte { return arr(str(name), num(80)) }
	u, err := service.DecodeUpdate(arr(str("u"), dict(str("s"), arr(arr(host("a")), num(1), empty), str("s"), arr(arr(), num(1), empty))))
	if err != nil || len(u.Services) != 1 || !u.Services["s"].Gone() {
		t.Errorf("DecodeUpdate() = %v, %v, want s gone", u, err)
	}
	nodes, err := service.DecodeCluster(arr(dict(str("n"), host("a"), str("n"), host("b"))))
	if err != nil || nodes["n"].Host != "b" {
		t.Errorf("DecodeCluster() = %v, %v, want n at b", nodes, err)
	}
	groups, err := service.DecodeRouting(arr(dict(str("g"), arr(arr(num(1), str("a"))), str("g"), arr())))
	if err != nil || groups["g"].Len() != 0 || groups["g"].At(0) != "" || groups["g"].Choose("x") != "" {
		t.Errorf("DecodeRouting() = %v, %v, want g empty", groups, err)
	}
}

func TestAppendResolvedV0Error(t *testing.T) {
	dst := []byte("before")
	got, err := service.AppendResolvedV0(dst, service.Resolved{Version: 1})
	if err == nil || string(got) != "before" {
		t.Errorf("AppendResolvedV0() = %q, %v, want an error", got, err)
	}
}

// TestKept checks that nothing decoded lies in the input.
func TestKept(t *testing.T) {
	rows := golden(t)
	clobber := func(b []byte) []byte {
		for i := range b {
			b[i] = 0xcc
		}
		return b
	}
	input := args(t, rows["v1 connect write update"])
	want := slices.Clone(input)
	u, err := service.DecodeUpdate(input)
	clobber(input)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "AppendUpdate()", service.AppendUpdate(nil, u), want)

	input = args(t, rows["v1 routing write"])
	want = slices.Clone(input)
	groups, err := service.DecodeRouting(input)
	clobber(input)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "AppendRouting()", service.AppendRouting(nil, groups), want)

	input = rows["v1 graph locator"]
	want = slices.Clone(input)
	api, err := service.DecodeAPI(input)
	clobber(input)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "AppendAPI()", service.AppendAPI(nil, api), want)
}
