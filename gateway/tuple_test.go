package gateway

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

func seed(method, uri, version string, headers any, body any) []byte {
	return codec.Args(method, uri, version, headers, body).Bytes()
}

// Whatever comes, a request is within the limits and as HTTP wants it, or there is an
// error; and the one that is written down again reads the same.
func FuzzTuple(f *testing.F) {
	f.Add(seed("GET", "/path?x=1", "1.1", []any{[]any{"Host", "example.org"}, []any{"accept", "*/*"}}, ""))
	f.Add(seed("POST", "*", "HTTP/1.0", []any{[]any{"a", "b"}, []any{"A", "c", 1}}, []byte("body")))
	f.Add(codec.AppendRaw(nil, seed("HEAD", "", "", []any{}, nil)))
	f.Add(seed("G\x00T", "/", "1.1", []any{[]any{"a"}, "x", []any{1, 2}}, 5))
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff, 0xdc})
	f.Add([]byte{0x94, 0xc1})
	f.Add(seed("CONNECT", "a b:1", "1.1", []any{[]any{"connection", "a,host"}, []any{"transfer-encoding", "x"}}, "b"))
	f.Add(seed("PUT", "http://h o/", "1.1", []any{[]any{"content-length", "9"}, []any{"host", "a"}}, "b"))
	cfg := New(Config{MaxHeaders: 5, MaxHeaderBytes: 100}).cfg
	f.Fuzz(func(t *testing.T, chunk []byte) {
		got, err := parseTuple(chunk, &cfg)
		var no *refusal
		if errors.As(err, &no) {
			if no.status < 400 || no.status > 499 {
				t.Fatalf("parseTuple() = status %d, want 4xx", no.status)
			}
			return
		}
		if err != nil {
			return
		}
		checkTuple(t, got, &cfg)
		var headers []any
		for k, values := range got.header {
			for _, v := range values {
				headers = append(headers, []any{k, v})
			}
		}
		again, err := parseTuple(seed(got.method, got.uri, got.version, headers, got.body), &cfg)
		if err != nil && !errors.As(err, &no) { // a canonical form may be a byte longer
			t.Fatalf("parseTuple() of what was read = %v", err)
		}
		if err == nil && (again.method != got.method || again.uri != got.uri || string(again.body) != string(got.body) ||
			len(again.header) != len(got.header)) {
			t.Fatalf("parseTuple() of what was read = %+v, want %+v", again, got)
		}
		checkRequest(t, got, &cfg)
	})
}

func checkRequest(t *testing.T, from tuple, cfg *Config) {
	t.Helper()
	r, err := from.request(cfg)
	var no *refusal
	switch {
	case errors.As(err, &no):
	case err != nil:
		t.Fatalf("request() = %v, want a refusal", err)
	case r.URL == nil || r.RequestURI != from.uri || r.ProtoMajor < 1 || strings.ContainsAny(r.Host, " \r\n/"):
		t.Fatalf("request() = %+v", r)
	case r.ContentLength >= 0 && r.ContentLength < int64(len(from.body)):
		t.Fatalf("request(): length %d, the body has %d bytes", r.ContentLength, len(from.body))
	case len(r.Header["Connection"])+len(r.Header["Transfer-Encoding"])+len(r.Header["Host"]) > 0:
		t.Fatalf("request(): headers %v", r.Header)
	}
}

func checkTuple(t *testing.T, got tuple, cfg *Config) {
	t.Helper()
	n, size := 0, len(got.method)+len(got.uri)+len(got.version)
	for k, values := range got.header {
		if k != http.CanonicalHeaderKey(k) || !isToken(k) {
			t.Fatalf("header name %q", k)
		}
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				t.Fatalf("header value %q", v)
			}
			n, size = n+1, size+len(k)+len(v)
		}
	}
	if n > cfg.MaxHeaders || size > cfg.MaxHeaderBytes {
		t.Fatalf("%d headers of %d bytes, want at most %d of %d", n, size, cfg.MaxHeaders, cfg.MaxHeaderBytes)
	}
}

func TestTokens(t *testing.T) {
	for s, want := range map[string]bool{"": false, "GET": true, "x-Y_9.~": true, "a b": false, "a:": false, "é": false, "a\x00": false, "[": false, "@": false, "`": true, "{": false} {
		if got := isToken(s); got != want {
			t.Errorf("isToken(%q) = %v, want %v", s, got, want)
		}
	}
}

// Reading a request costs what it keeps: one string for all text, the map and its values.
func TestTupleAllocations(t *testing.T) {
	chunk := seed("GET", "/path?x=1", "1.1", []any{[]any{"Host", "example.org"}, []any{"Accept", "*/*"}, []any{"User-Agent", "x"}}, "")
	cfg := New(Config{}).cfg
	n := testing.AllocsPerRun(200, func() {
		if _, err := parseTuple(chunk, &cfg); err != nil {
			t.Fatal(err)
		}
	})
	if n > 5 {
		t.Errorf("parseTuple() allocates %v times, want at most 5", n)
	}
}

func BenchmarkTuple(b *testing.B) {
	chunk := seed("GET", "/path?x=1", "1.1", []any{[]any{"Host", "example.org"}, []any{"Accept", "*/*"}, []any{"User-Agent", "x"}}, "")
	cfg := New(Config{}).cfg
	b.ReportAllocs()
	for b.Loop() {
		_, _ = parseTuple(chunk, &cfg)
	}
}
