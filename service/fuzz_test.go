package service_test

import (
	"bytes"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/service"
)

// FuzzDecodeAPI: whatever comes is refused or becomes an API that is written in one form
// only, and read back from it.
func FuzzDecodeAPI(f *testing.F) {
	for name, row := range golden(f) {
		if strings.Contains(name, " graph ") {
			f.Add(row)
		}
	}
	f.Add([]byte("\x84\x00\xa4read\x01\xa5write\x02\xa6remove\x03\xa4find"))
	f.Add(one(deep(service.MaxGraphDepth), deep(service.MaxGraphDepth+1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if api, err := service.DecodeAPI(raw); err != nil {
			asGraphError(t, err)
		} else {
			once := service.AppendAPI(nil, api)
			again, err := service.DecodeAPI(once)
			if err != nil || !reflect.DeepEqual(again, api) {
				t.Fatalf("DecodeAPI(%x) = %v, %v, want %v", once, again, err, api)
			}
			if twice := service.AppendAPI([]byte("dst"), again); string(twice) != "dst"+string(once) {
				t.Fatalf("AppendAPI() = %x, then %x", once, twice)
			}
			checkLookups(t, api)
		}
		if api, err := service.DecodeAPIV0(raw); err != nil {
			asGraphError(t, err)
		} else {
			once := service.AppendAPIV0(nil, api)
			if again, err := service.DecodeAPIV0(once); err != nil || !reflect.DeepEqual(again, api) {
				t.Fatalf("DecodeAPIV0(%x) = %v, %v, want %v", once, again, err, api)
			}
			checkLookups(t, api)
		}
	})
}

func checkLookups(t *testing.T, api *service.API) {
	for _, m := range api.Methods() {
		byID, ok1 := api.ByID(m.ID)
		byName, ok2 := api.ByName(m.Name)
		if !ok1 || !ok2 || byID != m || byName != m {
			t.Fatalf("ByID(%d) = %v, %v, ByName(%q) = %v, %v, want %v", m.ID, byID, ok1, m.Name, byName, ok2, m)
		}
	}
}

// FuzzResolved: all that a locator says is refused, or written and read back as it was.
func FuzzResolved(f *testing.F) {
	rows := golden(f)
	for _, name := range []string{"v1 resolve value(storage)", "v1 connect write update", "v1 cluster value", "v1 routing write"} {
		f.Add(args(f, rows[name]))
	}
	f.Add(rows["v0 resolve result (inner)"])
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, service.DecodeResolved, service.AppendResolved)
		roundTrip(t, b, service.DecodeResolvedV0, func(dst []byte, s service.Resolved) []byte {
			dst, err := service.AppendResolvedV0(dst, s)
			if err != nil {
				t.Fatal(err)
			}
			return dst
		})
		roundTrip(t, b, service.DecodeUpdate, service.AppendUpdate)
		roundTrip(t, b, service.DecodeCluster, service.AppendCluster)
		roundTrip(t, b, service.DecodeEndpoints, service.AppendEndpoints)
		groups, err := service.DecodeRouting(b)
		if err != nil {
			return
		}
		once := service.AppendRouting(nil, groups)
		again, err := service.DecodeRouting(once)
		if err != nil || !bytes.Equal(service.AppendRouting(nil, again), once) {
			t.Fatalf("DecodeRouting(%x) = %v, %v", once, again, err)
		}
		for name, g := range groups {
			for _, point := range []uint32{0, 1, 1 << 31, 1<<32 - 1} {
				if got, want := again[name].At(point), g.At(point); got != want || (got == "") != (g.Len() == 0) {
					t.Fatalf("At(%d) = %q, want %q", point, got, want)
				}
			}
		}
	})
}

func roundTrip[T any](t *testing.T, b []byte, decode func([]byte) (T, error), appendTo func([]byte, T) []byte) {
	value, err := decode(b)
	if err != nil {
		return
	}
	once := appendTo(nil, value)
	again, err := decode(once)
	if err != nil || !reflect.DeepEqual(again, value) {
		t.Fatalf("from %x: decode(%x) = %v, %v, want %v", b, once, again, err, value)
	}
}

// FuzzParseEndpoint: what is taken can be written, dialled and sent, and is then the same.
func FuzzParseEndpoint(f *testing.F) {
	for _, text := range []string{
		"localhost:10053", "[::1]:80", "[fe80::1%eth0]:1", "::1:10053", "10053", "a:1,b,[::1],2001:db8::1:2", "[]", "%:1", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := service.ParseEndpoint(text); err == nil {
			checkEndpoint(t, e)
		}
		list, err := service.ParseLocators(text)
		if err != nil {
			return
		}
		if len(list) == 0 || len(list) > service.MaxEndpoints {
			t.Fatalf("ParseLocators(%q) = %d endpoints", text, len(list))
		}
		for _, e := range list {
			checkEndpoint(t, e)
		}
		joined := service.JoinEndpoints(list)
		if again, err := service.ParseLocators(joined); err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("ParseLocators(%q) = %v, %v, want %v", joined, again, err, list)
		}
	})
}

func checkEndpoint(t *testing.T, e service.Endpoint) {
	if again, err := service.ParseEndpoint(e.String()); err != nil || again != e {
		t.Fatalf("ParseEndpoint(%q) = %v, %v, want %v", e, again, err, e)
	}
	if host, _, err := net.SplitHostPort(e.String()); err != nil || host != e.Host {
		t.Fatalf("SplitHostPort(%q) = %q, %v, want %q", e, host, err, e.Host)
	}
	if again, err := service.DecodeEndpoint(service.AppendEndpoint(nil, e)); err != nil || again != e {
		t.Fatalf("DecodeEndpoint(%v) = %v, %v", e, again, err)
	}
}
