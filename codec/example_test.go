package codec_test

import (
	"fmt"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// A connection's reading side: scan what is there, keep the rest.
func ExampleScanner() {
	var in []byte // what has arrived and is not used up
	s := codec.NewScanner(codec.V1, codec.Limits{})
	arrived := func(b string) {
		in = append(in, b...)
		for {
			var m codec.Message
			n, err := s.Next(in, &m)
			if err != nil {
				fmt.Println("close the connection:", err)
				return
			}
			if n == 0 {
				fmt.Println("not whole, at least", s.Need(), "bytes missing")
				return
			}
			fmt.Printf("session %d, type %d: %q\n", m.Session, m.Type, m.Payload)
			in = in[n:] // m is borrowed from in: done with it
		}
	}
	arrived("\x94\x02\x00\x91\xa4echo\x90\x94\x02\x00\x91\xa5he")
	arrived("llo\x90")
	arrived("\x94\x02\x02\x90\x90\x92\x01\x00")
	// Output:
	// session 2, type 0: "echo"
	// not whole, at least 4 bytes missing
	// session 2, type 0: "hello"
	// not whole, at least 1 bytes missing
	// session 2, type 2: ""
	// close the connection: bad_frame at byte 26: array of 2 elements, want 3 or more
}

func ExampleAppendFrame() {
	var out []byte
	for _, f := range []codec.Frame{
		{Kind: codec.KindInvoke, Session: 2, Text: "echo"},
		{Kind: codec.KindChunk, Session: 2, Payload: []byte("hello")},
		{Kind: codec.KindChoke, Session: 2},
	} {
		out = codec.AppendFrame(out, codec.V1, &f)
	}
	fmt.Printf("% x\n", out)
	// Output:
	// 94 02 00 91 a4 65 63 68 6f 90 94 02 00 91 a5 68 65 6c 6c 6f 90 94 02 02 90 90
}

// A call to the storage service: write(collection, key, blob, tags).
func ExampleArgs() {
	args := codec.Args("users", "alice", []byte{1, 2, 3}, []string{"admin"})
	if args.Err() != nil {
		fmt.Println(args.Err())
		return
	}
	call := codec.Frame{Kind: codec.KindCall, Session: 3, Type: 1, Args: args.Bytes()}
	fmt.Printf("%d arguments, % x\n", args.Len(), codec.AppendFrame(nil, codec.V1, &call))
	// Output:
	// 4 arguments, 94 03 01 94 a5 75 73 65 72 73 a5 61 6c 69 63 65 a3 01 02 03 91 a5 61 64 6d 69 6e 90
}

// Read all arguments, and check once.
func ExampleReader() {
	args := codec.Args(3, "app/echo", "ready", []any{[]any{"port", 8080}})
	r := codec.NewReader(args.Bytes())
	severity, source, text := r.Int(), r.String(), r.String()
	attributes := map[string]int{}
	for range r.ArrayLen() {
		if r.ArrayLen() != 2 {
			fmt.Println("not a pair")
			return
		}
		attributes[r.String()] = r.Int()
	}
	if err := r.Err(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(severity, source, text, attributes)
	// Output:
	// 3 app/echo ready map[port:8080]
}

// The headers of an invoke: who called, and how long that may take.
func ExampleHeaderDecoder() {
	var traceBytes [24]byte
	var timeoutBytes [8]byte
	headers := codec.Trace{ID: 0xcafe, Span: 0xcafe}.AppendHeaders(nil, &traceBytes)
	headers = append(headers, codec.TimeoutHeader(5*time.Second, &timeoutBytes))
	f := codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "echo", Headers: headers}

	var m codec.Message
	if n, err := codec.NewScanner(codec.V1, codec.Limits{}).Next(codec.AppendFrame(nil, codec.V1, &f), &m); n == 0 {
		fmt.Println(err)
		return
	}
	var d codec.HeaderDecoder // one for each direction of each connection
	got, err := d.Decode(m.Headers, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	trace, traced := codec.TraceOf(got)
	timeout, limited := codec.TimeoutOf(got)
	fmt.Printf("%x %v, %v %v\n", trace.ID, traced, timeout, limited)
	// Output:
	// cafe true, 5s true
}

func ExampleDecodeError() {
	f := codec.Frame{Kind: codec.KindError, Session: 2, Category: 42, Code: 200, Text: "no handler"}
	var m codec.Message
	if n, err := codec.NewScanner(codec.V1, codec.Limits{}).Next(codec.AppendFrame(nil, codec.V1, &f), &m); n == 0 {
		fmt.Println(err)
		return
	}
	category, code, reason, ok := codec.DecodeError(&m)
	fmt.Printf("[%d, %d] %s, %v\n", category, code, reason, ok)
	// Output:
	// [42, 200] no handler, true
}

func ExampleAppendJSON() {
	frame := []byte("\x94\x02\x00\x92\xa4data\xc4\x02\xff\x00\x90")
	var m codec.Message
	if n, err := codec.NewScanner(codec.V1, codec.Limits{}).Next(frame, &m); n == 0 {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", codec.AppendJSON(nil, &m, codec.V1))
	// Output:
	// {"session":2,"type":0,"args":["data",{"hex":"ff00"}],"headers":[]}
}
