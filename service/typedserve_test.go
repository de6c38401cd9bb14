package service_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

// point is written as msgp does with its tuple directive: [x, y].
type point struct{ x, y int64 }

func (p *point) MarshalMsg(b []byte) ([]byte, error) {
	return codec.AppendInt(codec.AppendInt(codec.AppendArrayHeader(b, 2), p.x), p.y), nil
}

func (p *point) UnmarshalMsg(b []byte) ([]byte, error) {
	r := codec.NewReader(b)
	p.x, p.y = r.Int64(), r.Int64()
	return r.Rest(), r.Err()
}

// pair is a point whose parts are the arguments of the method.
type pair struct{ point }

func (*pair) Tuple() {}

// echoOf answers its argument.
func echoOf[T any]() service.Handled {
	return primitive("echo", service.Typed(func(_ context.Context, in T) (T, error) { return in, nil }))
}

// TestTyped calls a method of each type with each value in turn, and gets the value back
// or has its connection closed.
func TestTyped(t *testing.T) {
	names := []string{"string", "bytes", "bool", "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64",
		"float32", "float64", "strings", "point"}
	methods := []service.Handled{echoOf[string](), echoOf[[]byte](), echoOf[bool](), echoOf[int](), echoOf[int8](), echoOf[int16](),
		echoOf[int32](), echoOf[int64](), echoOf[uint](), echoOf[uint8](), echoOf[uint16](), echoOf[uint32](), echoOf[uint64](),
		echoOf[float32](), echoOf[float64](), echoOf[[]string](), echoOf[point]()}
	for i, name := range names {
		methods[i].Name = name
	}
	tests := []struct {
		value any
		taken string // by the methods above, a letter each; . is not
	}{
		{"text", "xx..............."},
		{true, "..x.............."},
		{0, "...xxxxxxxxxxff.."},
		{-1, "...xxxxx.....ff.."},
		{200, "...x.xxxxxxxxff.."},
		{int64(math.MaxInt32) + 1, "...x...xx..xxff.."},
		{uint64(math.MaxUint64), "........x...xff.."},
		{1.5, ".............fx.."},
		{[]string{"a", "b"}, "...............x."},
		{[]any{3, -4}, "................x"},
		{nil, "................."},
	}
	bubble(t, service.ServerConfig{Declaration: numbered(methods...)}, func(t *testing.T, srv *service.Server) {
		for _, test := range tests {
			for i, name := range names {
				c := dial(t, srv, codec.V1)
				c.call(1, uint64(i), test.value)
				switch test.taken[i] {
				case 'x':
					c.want(1, codec.V1Value, test.value)
				case 'f': // written in another form
					if m, err := c.next(); err != nil || m.Type != codec.V1Value {
						t.Errorf("%s(%v): next() = %v, %v, want a value", name, test.value, m, err)
					}
				default:
					if m, err := c.next(); err == nil {
						t.Errorf("%s(%v): next() = %x, want the end", name, test.value, m.Args)
					}
				}
				c.close()
			}
		}
	})
}

func TestTypedShapes(t *testing.T) {
	d := numbered(
		primitive("add", service.Typed(func(_ context.Context, in pair) (int64, error) { return in.x + in.y, nil })),
		primitive("nothing", service.Typed(func(context.Context, service.None) (service.None, error) { return service.None{}, nil })),
		primitive("fail", service.Typed(func(context.Context, service.None) (string, error) { return "", errors.New("no") })),
		primitive("odd", service.Typed(func(context.Context, service.None) (chan int, error) { return nil, nil })),
		primitive("odder", service.Typed(func(context.Context, chan int) (service.None, error) { return service.None{}, nil })),
		primitive("any", service.Typed(func(context.Context, service.None) (any, error) { return []any{1, "a"}, nil })),
	)
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 0, 3, 4)
		c.want(1, codec.V1Value, 7)
		c.call(2, 1, "surplus")
		c.want(2, codec.V1Value)
		c.call(3, 2)
		c.wantError(3, service.CategoryDispatch, service.DispatchUncaught)
		c.call(4, 3)
		c.wantError(4, service.CategoryDispatch, service.DispatchUncaught)
		c.call(5, 5)
		c.want(5, codec.V1Value, []any{1, "a"})
		c.call(6, 4, 1) // the client is not to blame
		if text := c.wantError(6, service.CategoryDispatch, service.DispatchUncaught); !strings.Contains(text, "chan int cannot be read") {
			t.Errorf("the error is %q, want one that names the type", text)
		}
	})
}
