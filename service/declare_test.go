package service_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

func quiet(*service.Call) {}

// declared lists methods that do nothing.
func declared(name string, methods ...service.Method) service.Declaration {
	d := service.Declaration{Name: name, Version: 1}
	for _, m := range methods {
		d.Methods = append(d.Methods, service.Handled{Method: m, OnLoop: quiet})
	}
	return d
}

// TestDeclarationAPIs declares the stock services; the graphs must be the bytes that the
// C++ runtime has for the same methods, in whatever order they are declared.
func TestDeclarationAPIs(t *testing.T) {
	rows := golden(t)
	for _, name := range []string{"storage", "logging", "locator", "app", "node"} {
		methods := stockAPIs(t)["v1 graph "+name].Methods()
		for i := range methods {
			methods[0], methods[i] = methods[i], methods[0]
		}
		d := declared(name, methods...)
		d.Methods[0].OnLoop, d.Methods[0].Unbound = nil, true // is listed like any other
		api, err := d.API()
		if err != nil {
			t.Errorf("%s: API() = %v", name, err)
			continue
		}
		same(t, name, service.AppendAPI(nil, api), rows["v1 graph "+name])
		srv := testServer(t, service.ServerConfig{Declaration: d})
		if r := srv.Resolved(); !bytes.Equal(service.AppendAPI(nil, r.API), rows["v1 graph "+name]) || r.Version != 1 || !r.Gone() {
			t.Errorf("%s: Resolved() = %v", name, r)
		}
		if srv.Name() != name || srv.API() == nil {
			t.Errorf("Name() = %q, API() = %v", srv.Name(), srv.API())
		}
	}
}

func TestDeclarationErrors(t *testing.T) {
	primitive := service.Method{ID: 0, Name: "get", Rx: session.Primitive}
	serve := func(context.Context, *service.Call) error { return nil }
	for name, test := range map[string]struct {
		d    service.Declaration
		want string
	}{
		"no name":   {declared("", primitive), "1 to 1024 bytes"},
		"long name": {declared(strings.Repeat("n", 1025), primitive), "1 to 1024 bytes"},
		"nobody serves it": {service.Declaration{Name: "s", Methods: []service.Handled{{Method: primitive}}},
			"declare s.get: 0 of OnLoop, Serve and Unbound"},
		"two serve it": {service.Declaration{Name: "s", Methods: []service.Handled{{Method: primitive, OnLoop: quiet, Serve: serve}}},
			"2 of OnLoop, Serve and Unbound"},
		"served and not": {service.Declaration{Name: "s", Methods: []service.Handled{{Method: primitive, OnLoop: quiet, Unbound: true}}},
			"2 of OnLoop, Serve and Unbound"},
		"optional first": {service.Declaration{Name: "s", Methods: []service.Handled{{Method: primitive, OnLoop: quiet,
			Args: []service.Arg{{Name: "a", Optional: true}, {Name: "b"}}}}}, `argument "b" is needed`},
		"no such kind": {service.Declaration{Name: "s", Methods: []service.Handled{{Method: primitive, OnLoop: quiet,
			Args: []service.Arg{{Name: "a", Kind: 99}}}}}, "no known kind"},
		"a number twice": {declared("s", primitive, service.Method{ID: 0, Name: "put"}), "0"},
		"a name twice":   {declared("s", primitive, service.Method{ID: 1, Name: "get"}), "taken"},
	} {
		_, err := service.NewServer(service.ServerConfig{Declaration: test.d})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: NewServer() = %v, want one with %q", name, err, test.want)
		}
	}
	_, err := service.NewServer(service.ServerConfig{Declaration: declared("s", primitive),
		Sessions: session.Config{Channel: channel.Config{LowWaterBytes: 2, HighWaterBytes: 1}}})
	if err == nil {
		t.Error("NewServer() = nil, want the error of the channel's limits")
	}
}

func TestSignature(t *testing.T) {
	discard := session.NewGraph(append(service.ControlSlots(), session.Slot{Type: 0, Name: "discard", Kind: session.Value})...)
	arg := func(name string, kind service.ArgKind) service.Arg { return service.Arg{Name: name, Kind: kind} }
	for want, h := range map[string]service.Handled{
		"write(collection string, blob string, [tags strings]) value": {
			Method: service.Method{Name: "write", Rx: session.Primitive},
			Args: []service.Arg{arg("collection", service.StringArg), arg("blob", service.StringArg),
				{Name: "tags", Kind: service.StringsArg, Optional: true}}},
		"emit(...)":       {Method: service.Method{Name: "emit"}},
		"cluster() value": {Method: service.Method{Name: "cluster", Rx: session.Primitive}, Args: []service.Arg{}},
		"routing(id any) <- {discard} values": {Method: service.Method{Name: "routing", Tx: discard, Rx: service.Values},
			Args: []service.Arg{arg("id", service.AnyArg)}},
		"enqueue(event kind 99) <- stream stream": {Method: service.Method{Name: "enqueue", Tx: session.Streaming, Rx: session.Streaming},
			Args: []service.Arg{arg("event", 99)}},
	} {
		if got := h.Signature(); got != want {
			t.Errorf("Signature() = %q, want %q", got, want)
		}
	}
}

// TestArgs holds every kind of argument against every kind of value.
func TestArgs(t *testing.T) {
	values := []any{"text", []byte{0xff}, 7, -7, true, 1.5, []string{"a"}, []any{1}, []any{}, nil}
	takes := map[service.ArgKind]string{ // by index of values
		service.AnyArg: "0123456789", service.StringArg: "01", service.IntArg: "23", service.UintArg: "2", service.BoolArg: "4",
		service.FloatArg: "235", service.ListArg: "678", service.StringsArg: "68", service.MapArg: "",
	}
	for kind, want := range takes {
		got := ""
		for i, v := range values {
			if service.CheckArgs([]service.Arg{{Name: "a", Kind: kind}}, codec.Args(v).Bytes()) == nil {
				got += string(rune('0' + i))
			}
		}
		if got != want {
			t.Errorf("%v takes %s, want %s", kind, got, want)
		}
	}
	if err := service.CheckArgs([]service.Arg{{Kind: service.MapArg}}, []byte("\x91\x81\xa1a\x01")); err != nil {
		t.Errorf("CheckArgs(map) = %v", err)
	}
	two := []service.Arg{{Name: "a", Kind: service.IntArg}, {Name: "b", Kind: service.StringArg, Optional: true}}
	for _, test := range []struct {
		args codec.Arguments
		want string
	}{
		{codec.Args(), "argument sequence length mismatch - expected at least 1, got 0"},
		{codec.Args(1), ""},
		{codec.Args(1, "x"), ""},
		{codec.Args(1, 2), "argument type mismatch (argument 1, [b string])"},
		{codec.Args(1, "x", nil, 4), ""}, // surplus
		{codec.Args("x"), "argument type mismatch (argument 0, a int)"},
	} {
		err := service.CheckArgs(two, test.args.Bytes())
		if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want || !errors.Is(err, service.ErrBadArgs)) {
			t.Errorf("CheckArgs(%x) = %v, want %q", test.args.Bytes(), err, test.want)
		}
	}
	if err := service.CheckArgs(two, nil); err == nil {
		t.Error("CheckArgs(nil) = nil, want an error")
	}
}

// FuzzArgs: whatever is checked, the result follows from the kinds of the values alone,
// and surplus ones change nothing.
func FuzzArgs(f *testing.F) {
	f.Add(uint8(1), codec.Args("a", 1).Bytes())
	f.Add(uint8(7), codec.Args([]string{"a"}).Bytes())
	f.Add(uint8(6), []byte("\x91\x92\x01"))
	f.Fuzz(func(t *testing.T, kind uint8, args []byte) {
		want := []service.Arg{{Name: "a", Kind: service.ArgKind(kind % 9)}}
		err := service.CheckArgs(want, args)
		r := codec.NewReader(args)
		have := r.Len()
		raw := r.Raw()
		if have == 0 || r.Err() != nil {
			if have == 0 && err == nil {
				t.Fatalf("CheckArgs(%x) = nil without an argument", args)
			}
			return
		}
		more := append(codec.AppendArrayHeader(nil, 2), raw...)
		if again := service.CheckArgs(want, append(more, 0xc0)); (again == nil) != (err == nil) {
			t.Fatalf("CheckArgs(%x) = %v, with one more argument %v", args, err, again)
		}
	})
}
