package service

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

func TestNewTrace(t *testing.T) {
	seen := make(map[uint64]bool)
	var high bool
	for range 1000 {
		tr := NewTrace()
		if tr.ID == 0 || tr.ID > math.MaxInt64-1 || tr.Span != tr.ID || tr.Parent != 0 {
			t.Fatalf("NewTrace() = %+v, want ID of 1 to 2^63-2, the same Span, no Parent", tr)
		}
		high = high || tr.ID > 1<<62
		seen[tr.ID] = true
	}
	if len(seen) != 1000 || !high {
		t.Errorf("NewTrace(): %d of 1000 differ, above 2^62: %v; want all, true", len(seen), high)
	}
}

func TestTraceChild(t *testing.T) {
	root := Trace{ID: 7, Span: 8, Parent: 9}
	child := root.Child()
	if child.ID != 7 || child.Parent != 8 || child.Span == 8 || child.Span == 0 {
		t.Errorf("Child() = %+v, want ID 7, Parent 8, a new Span", child)
	}
	if grandchild := child.Child(); grandchild.Parent != child.Span {
		t.Errorf("Child().Child() = %+v, want Parent %d", grandchild, child.Span)
	}
	for _, none := range []Trace{{}, {ID: 1}, {Span: 1}, {Parent: 1}} {
		if got := none.Child(); got != (Trace{}) {
			t.Errorf("%+v.Child() = %+v, want none", none, got)
		}
	}
}

func TestTraceString(t *testing.T) {
	for id, want := range map[uint64]string{
		0: "0000000000000000", 0xabc: "0000000000000abc",
		math.MaxUint64: "ffffffffffffffff", 0x0123456789abcdef: "0123456789abcdef",
	} {
		if got := (Trace{ID: id}).String(); got != want {
			t.Errorf("Trace{%#x}.String() = %q, want %q", id, got, want)
		}
	}
}

// The bytes are those of the C++ runtime's encoder (protocol: headers).
func TestAppendTraceHeaders(t *testing.T) {
	headers := AppendTraceHeaders(nil, Trace{ID: 1, Span: 2, Parent: 0x0102})
	got := codec.AppendFrameTail(nil, codec.V1, headers)
	want := "\x93" +
		"\x93\xc2\xa8trace_id\xa8\x01\x00\x00\x00\x00\x00\x00\x00" +
		"\x93\xc2\xa7span_id\xa8\x02\x00\x00\x00\x00\x00\x00\x00" +
		"\x93\xc2\xa9parent_id\xa8\x02\x01\x00\x00\x00\x00\x00\x00"
	if string(got) != want {
		t.Errorf("headers = %x, want %x", got, want)
	}
	if back, ok := TraceOf(headers); !ok || back != (Trace{1, 2, 0x0102}) {
		t.Errorf("TraceOf() = %+v, %v, want what was sent", back, ok)
	}
	for _, none := range []Trace{{}, {ID: 1}, {Span: 1}, {Parent: 1}, {ID: 1, Parent: 1}} {
		if got := AppendTraceHeaders(nil, none); len(got) != 0 {
			t.Errorf("AppendTraceHeaders(%+v) = %v, want none", none, got)
		}
	}
	two := AppendTraceHeaders(AppendTraceHeaders(nil, Trace{1, 1, 0}), Trace{2, 2, 0})
	if bytes.Equal(two[0].Value, two[3].Value) {
		t.Errorf("two traces share their bytes")
	}
	if _, ok := TraceOf(two[1:3]); ok {
		t.Errorf("TraceOf(two of three headers) = true, want false")
	}
}

func TestTraceFrom(t *testing.T) {
	ctx := t.Context()
	if got, ok := TraceFrom(ctx); ok {
		t.Errorf("TraceFrom(bare) = %+v, true, want false", got)
	}
	want := Trace{ID: 1, Span: 2, Parent: 3}
	ctx = WithTrace(ctx, want)
	if got, ok := TraceFrom(ctx); !ok || got != want {
		t.Errorf("TraceFrom() = %+v, %v, want %+v", got, ok, want)
	}
	if got, ok := TraceFrom(WithTrace(ctx, Trace{})); ok {
		t.Errorf("TraceFrom(taken away) = %+v, true, want false", got)
	}
}

func ExampleTrace() {
	request := Trace{ID: 0xcafe, Span: 0xcafe} // or NewTrace, or TraceOf an incoming call
	ctx := WithTrace(context.Background(), request)

	t, _ := TraceFrom(ctx)
	child := t.Child()
	fmt.Println(child, child.Parent == request.Span)
	// Output: 000000000000cafe true
}
