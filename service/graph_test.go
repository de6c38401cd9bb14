package service_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// num, str, arr, dict write msgpack for tests: dict takes keys and values in turns.
func num(n uint64) []byte { return codec.AppendUint(nil, n) }

func str(s string) []byte { return codec.AppendString(nil, s) }

func arr(items ...[]byte) []byte {
	return append(codec.AppendArrayHeader(nil, len(items)), bytes.Join(items, nil)...)
}

func dict(items ...[]byte) []byte {
	return append(codec.AppendMapHeader(nil, len(items)/2), bytes.Join(items, nil)...)
}

var (
	null  = []byte{0xc0}
	empty = []byte{0x80}
)

// one returns an API with one method, 5.
func one(tx, rx []byte) []byte { return dict(num(5), arr(str("m"), tx, rx)) }

// manySlots returns a state of n messages.
func manySlots(n int) []byte {
	b := codec.AppendMapHeader(nil, n)
	for i := range n {
		b = append(append(codec.AppendUint(b, uint64(i)), 0x92), str(fmt.Sprint(i))...)
		b = append(b, 0xc0)
	}
	return b
}

// deep returns n states behind each other.
func deep(n int) []byte { return append(bytes.Repeat([]byte("\x81\x00\x92\xa1s"), n), 0x80) }

// TestBadGraphs: whatever a locator sends is an API or a *GraphError that says where.
func TestBadGraphs(t *testing.T) {
	ok := dict(num(0), arr(str("w"), null))
	long := str(strings.Repeat("n", service.MaxNameBytes+1))
	for _, row := range []struct {
		what string
		raw  []byte
		path string
		text string
	}{
		{"nothing", nil, "", "value at byte 0: cut short"},
		{"no map", arr(), "", "value at byte 0: array, want map"},
		{"nil", null, "", "value at byte 0: nil, want map"},
		{"reserved byte", []byte{0xc1}, "", "reserved byte c1"},
		{"bytes behind", append(one(empty, empty), 0xc0), "", "1 bytes behind the value"},

		{"string key", dict(str("0"), arr(str("m"), empty, empty)), "", "string, want integer"},
		{"mixed keys", dict(num(5), arr(str("m"), empty, empty), str("a"), arr(str("n"), empty, empty)), "", "string, want integer"},
		{"negative key", dict([]byte{0xff}, arr(str("m"), empty, empty)), "", "negative integer, want integer"},
		{"key of 2^64-1", dict(num(1<<64-1), arr(str("m"), empty, empty)), "", "number 18446744073709551615, limit 65535"},
		{"two keys", dict(num(5), arr(str("m"), empty, empty), num(5), arr(str("n"), empty, empty)), "5", "number 5 is taken"},
		{"two keys, wide", dict(num(5), arr(str("m"), empty, empty), []byte{0xcd, 0, 5}, arr(str("n"), empty, empty)), "5", "number 5 is taken"},
		{"two names", dict(num(5), arr(str("m"), empty, empty), num(6), arr(str("m"), empty, empty)), "6", `name "m" is taken by method 5`},

		{"method is no array", dict(num(5), str("m")), "5", "string, want array"},
		{"method of two", dict(num(5), arr(str("m"), empty)), "5", "method of 2 items, want 3"},
		{"name is no string", dict(num(5), arr(num(1), empty, empty)), "5", "integer, want string"},
		{"empty name", dict(num(5), arr(str(""), empty, empty)), "5", "empty name"},
		{"long name", dict(num(5), arr(long, empty, empty)), "5", "name of 1025 bytes, limit 1024"},
		{"nil for a direction", one(null, empty), "5/tx", "nil, want map"},
		{"array for a direction", one(empty, arr()), "5/rx", "array, want map"},

		{"string key within", one(dict(str("0"), arr(str("w"), null)), empty), "5/tx", "string, want integer"},
		{"mixed keys within", one(dict(num(1), arr(str("w"), null), str("0"), arr(str("x"), null)), empty), "5/tx", "string, want integer"},
		{"mixed keys deep within", one(empty, dict(num(1), arr(str("w"), dict(num(2), arr(str("x"), null), str("0"), arr(str("y"), null))))),
			"5/rx/1", "string, want integer"},
		{"two keys within", one(dict(num(1), arr(str("w"), null), num(1), arr(str("x"), null)), empty), "5/tx/1", "number 1 is taken"},
		{"two names within", one(dict(num(1), arr(str("w"), null), num(2), arr(str("w"), null)), empty), "5/tx/2", `name "w" is taken`},
		{"message of one", one(empty, dict(num(1), arr(str("w")))), "5/rx/1", "message of 1 items, want 2"},
		{"message with a bad name", one(empty, dict(num(1), arr(str("w"), dict(num(3), arr(long, null))))), "5/rx/1/3", "name of 1025 bytes"},
		{"subtree is a number", one(empty, dict(num(1), arr(str("w"), num(0)))), "5/rx/1", "integer, want map"},
		{"subtree is a bool", one(empty, dict(num(2), arr(str("w"), []byte{0xc3}))), "5/rx/2", "bool, want map"},
		{"second message", one(ok, dict(num(1), arr(str("w"), null), num(2), arr(str("x"), str("y")))), "5/rx/2", "string, want map"},
		{"behind a subtree", one(empty, dict(num(1), arr(str("w"), ok), num(2), null)), "5/rx/2", "nil, want array"},

		{"10^5 slots", one(manySlots(100_000), empty), "5/tx", "100000 entries, limit 4095"},
		{"10^5 methods", manySlots(100_000), "", "100000 entries, limit 4096"},
		{"slots of both directions", one(manySlots(4000), manySlots(96)), "5/rx", "96 entries, limit 95"},
		{"too deep", one(deep(service.MaxGraphDepth+1), empty), "5/tx" + strings.Repeat("/0", service.MaxGraphDepth), "more than 12 states"},
		{"much too deep", one(empty, deep(100_000)), "5/rx" + strings.Repeat("/0", service.MaxGraphDepth), "more than 12 states"},
	} {
		t.Run(row.what, func(t *testing.T) {
			wantBadGraph(t, row.raw, row.path, row.text)
			if row.what != "bytes behind" && row.raw != nil {
				wantBadResolved(t, row.raw, row.path)
			}
		})
	}
}

// wantBadGraph wants a graph to be refused for what is at path.
func wantBadGraph(t *testing.T, raw []byte, path, text string) {
	t.Helper()
	api, err := service.DecodeAPI(raw)
	if err == nil {
		t.Fatalf("DecodeAPI() = %v, nil, want an error", api)
	}
	if g := asGraphError(t, err); g.Path != path || !strings.Contains(g.Err.Error(), text) {
		t.Errorf("DecodeAPI() = %v, want path %q and %q", err, path, text)
	}
	if !strings.HasPrefix(err.Error(), "bad_graph") || errors.Unwrap(err) == nil {
		t.Errorf("DecodeAPI() = %v, want bad_graph and its cause", err)
	}
}

// wantBadResolved wants the same error for an answer to resolve that has the graph.
func wantBadResolved(t *testing.T, raw []byte, path string) {
	t.Helper()
	s, err := service.DecodeResolved(arr(arr(), num(1), raw))
	if w := asGraphError(t, err); w.Path != path || s.API != nil {
		t.Errorf("DecodeResolved() = %v, %v, want path %q", s, err, path)
	}
}

// TestTruncatedGraph cuts a graph everywhere.
func TestTruncatedGraph(t *testing.T) {
	raw := golden(t)["v1 graph locator"]
	for n := range raw {
		if api, err := service.DecodeAPI(raw[:n]); err == nil {
			t.Errorf("DecodeAPI(%d of %d bytes) = %v, nil", n, len(raw), api)
		}
	}
}

// TestTolerant reads what other encoders could write: odd order, wide integers, str8,
// more items than there are today.
func TestTolerant(t *testing.T) {
	rx := dict(num(2), arr(str("close"), empty, arr(null)), []byte{0xd3, 0, 0, 0, 0, 0, 0, 0, 0}, arr([]byte("\xd9\x05write"), null),
		num(1), arr([]byte("\xc4\x05error"), []byte{0xde, 0, 0}, num(1), num(2)))
	raw := dict(num(6), arr(str("n"), empty, empty, deep(100)), num(5), arr(str("m"), empty, rx, null))
	api, err := service.DecodeAPI(raw)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := api.ByName("m")
	if n, ok := api.ByName("n"); !ok || !n.Mute() || m.Rx != session.Streaming {
		t.Errorf("methods are %v", api.Methods())
	}
	want := mustAPI(t, service.Method{ID: 5, Name: "m", Rx: session.Streaming}, service.Method{ID: 6, Name: "n"})
	same(t, "AppendAPIV0()", service.AppendAPIV0(nil, api), service.AppendAPIV0(nil, want))
}

func TestBadAPIV0(t *testing.T) {
	for _, row := range []struct {
		what string
		raw  []byte
		text string
	}{
		{"no map", arr(), "array, want map"},
		{"v1's form", one(empty, empty), "array, want string"},
		{"string key", dict(str("a"), str("m")), "string, want integer"},
		{"two keys", dict(num(1), str("m"), num(1), str("n")), "number 1 is taken"},
		{"two names", dict(num(1), str("m"), num(2), str("m")), `name "m" is taken by method 1`},
		{"control", dict(num(65533), str("ping")), "number 65533, limit 65531"},
		{"empty name", dict(num(1), str("")), "empty name"},
		{"too many", codecMap32(5000), "cut short"},
		{"too many, and there", append(codecMap32(5000), make([]byte, 10000)...), "5000 methods, limit 4096"},
		{"bytes behind", append(dict(num(1), str("m")), 0), "1 bytes behind the value"},
	} {
		if _, err := service.DecodeAPIV0(row.raw); err == nil || !strings.Contains(asGraphError(t, err).Error(), row.text) {
			t.Errorf("%s: DecodeAPIV0() = %v, want %s", row.what, err, row.text)
		}
	}
}

// codecMap32 returns the head of a map of n pairs in its widest form.
func codecMap32(n uint32) []byte {
	return []byte{0xdf, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestDeclaredSizes checks that what is declared but not there costs nothing.
func TestDeclaredSizes(t *testing.T) {
	huge := [][]byte{{0xdd, 0xff, 0xff, 0xff, 0xff}, {0xdf, 0xff, 0xff, 0xff, 0xff}, {0xdb, 0xff, 0xff, 0xff, 0xff}, {0xdd, 0, 0, 0x10, 0}, {0xdf, 0, 0, 0x10, 0}}
	decoders := map[string]func([]byte) error{
		"DecodeAPI":        func(b []byte) error { _, err := service.DecodeAPI(b); return err },
		"DecodeAPIV0":      func(b []byte) error { _, err := service.DecodeAPIV0(b); return err },
		"DecodeResolved":   func(b []byte) error { _, err := service.DecodeResolved(b); return err },
		"DecodeResolvedV0": func(b []byte) error { _, err := service.DecodeResolvedV0(b); return err },
		"DecodeUpdate":     func(b []byte) error { _, err := service.DecodeUpdate(b); return err },
		"DecodeCluster":    func(b []byte) error { _, err := service.DecodeCluster(b); return err },
		"DecodeRouting":    func(b []byte) error { _, err := service.DecodeRouting(b); return err },
		"DecodeEndpoint":   func(b []byte) error { _, err := service.DecodeEndpoint(b); return err },
		"DecodeEndpoints":  func(b []byte) error { _, err := service.DecodeEndpoints(b); return err },
	}
	prefixes := [][]byte{
		nil, []byte("\x91"), []byte("\x92"), []byte("\x93"), []byte("\x91\x81\xa1g"), []byte("\x91\x81\xa1g\x91"), []byte("\x91\x81\xa1g\x91\x92\x01"),
		[]byte("\x92\xa1u"), []byte("\x92\xa1u\x81"), []byte("\x92\xa1u\x81\xa1s"), []byte("\x92\xa1u\x81\xa1s\x93"), []byte("\x92\xa1u\x81\xa1s\x93\x90\x01"),
		[]byte("\x93\x90"), []byte("\x93\x90\x01"), []byte("\x93\x92"), []byte("\x93\x92\xa1h\x01\x01"), []byte("\x81\x05"), []byte("\x81\x05\x93"),
		[]byte("\x81\x05\x93\xa1m"), []byte("\x81\x05\x93\xa1m\x80"), []byte("\x81\x05\x93\xa1m\x81\x00"), []byte("\x81\x05\x93\xa1m\x81\x00\x92\xa1w"),
	}
	for name, decode := range decoders {
		for _, prefix := range prefixes {
			for _, head := range huge {
				input := append(bytes.Clone(prefix), head...)
				var err error
				if n := allocated(func() { err = decode(input) }); n > 8<<10 || err == nil {
					t.Errorf("%s(%x) = %v, allocated %d bytes", name, input, err, n)
				}
			}
		}
	}
}

// TestMemory bounds what the densest inputs cost by their size.
func TestMemory(t *testing.T) {
	var services, points [][]byte
	for i := range service.MaxEntries {
		services = append(services, num(uint64(i+1000)), arr(arr(), num(1), empty))
		services[2*i] = str(fmt.Sprint(i))
	}
	for i := range 100_000 {
		points = append(points, arr(num(uint64(i)), str(fmt.Sprint(i%service.MaxRingMembers))))
	}
	for _, row := range []struct {
		what  string
		input []byte
		times uint64
		run   func([]byte) error
	}{
		{"slots", one(manySlots(service.MaxGraphSlots-1), empty), 100, func(b []byte) error { _, err := service.DecodeAPI(b); return err }},
		{"slots, refused", one(manySlots(100_000), empty), 1, func(b []byte) error { _, err := service.DecodeAPI(b); return err }},
		{"deep, refused", one(deep(100_000), empty), 1, func(b []byte) error { _, err := service.DecodeAPI(b); return err }},
		{"services", arr(str("u"), dict(services...)), 100, func(b []byte) error { _, err := service.DecodeUpdate(b); return err }},
		{"points", arr(dict(str("g"), arr(points...))), 20, func(b []byte) error { _, err := service.DecodeRouting(b); return err }},
	} {
		var err error
		n := allocated(func() { err = row.run(row.input) })
		if limit := row.times * uint64(len(row.input)); n > limit || (err != nil) != (row.times == 1) {
			t.Errorf("%s: %v, %d bytes of input allocated %d, want at most %d", row.what, err, len(row.input), n, limit)
		}
		t.Logf("%s: %d bytes of input, %d allocated", row.what, len(row.input), n)
	}
}
