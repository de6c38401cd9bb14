package gateway

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
)

// tuple is a request as it came (protocol: HTTP over Cocaine, request).
type tuple struct {
	method, uri, version string
	header               http.Header // canonical, in the order of the sender
	body                 []byte      // borrowed from the chunk
}

// refusal is a request that is answered by us: its sender broke a rule of HTTP or a limit.
type refusal struct {
	status int
	text   string
}

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

// Error returns the status in words, and why.
func (r *refusal) Error() string { return http.StatusText(r.status) + ": " + r.text }

// parseTuple reads the first chunk of a session. The error is a *refusal, with the method
// in the tuple, or says why it is no request at all. A chunk that is packed once more than
// it should be is unpacked: v0 applications see that from tools that pack all they send.
func parseTuple(chunk []byte, cfg *Config) (t tuple, err error) {
	r := codec.NewValueReader(chunk)
	if r.Peek() == codec.RawValue {
		inner := r.Bytes()
		if surplus := len(r.Rest()); surplus > 0 {
			return t, fmt.Errorf("%d bytes behind a string", surplus)
		}
		chunk, r = inner, codec.NewValueReader(inner)
	}
	items := r.ArrayLen()
	if err := r.Err(); err != nil {
		return t, err
	}
	if items < 4 {
		return t, fmt.Errorf("array of %d items, want [method, uri, version, headers, body]", items)
	}
	size, err := checkHead(chunk, r, cfg, &t)
	if err != nil {
		return t, err
	}
	head := texts{all: string(chunk[:len(chunk)-len(r.Rest())+size]), end: len(chunk), r: &r}
	t.method, t.uri, t.version = head.next(), head.next(), head.next()
	bad, err := t.readHeader(&head)
	if err != nil {
		return t, err
	}
	if items > 4 && !r.Nil() {
		t.body = r.Bytes()
	}
	for range items - 5 { // of a later version
		r.Skip()
	}
	switch surplus := len(r.Rest()); {
	case r.Err() != nil:
		return t, r.Err()
	case surplus > 0:
		return t, fmt.Errorf("%d bytes behind the array", surplus)
	case !isToken(t.method):
		return t, refuse(http.StatusBadRequest, "invalid method")
	}
	return t, bad
}

// checkHead returns how many bytes the request takes without its body. Nothing is copied
// before they are held against the limits. r is in front of the method.
func checkHead(chunk []byte, r codec.Reader, cfg *Config, t *tuple) (size int, err error) {
	from := r
	method := r.Bytes()
	r.Skip()
	r.Skip()
	headers := r
	r.Skip()
	count := headers.ArrayLen()
	if err := r.Err(); err != nil {
		return 0, err
	}
	if err := headers.Err(); err != nil {
		return 0, err
	}
	size = len(from.Rest()) - len(r.Rest())
	if size > cfg.MaxHeaderBytes || count > cfg.MaxHeaders {
		if string(method) == http.MethodHead {
			t.method = http.MethodHead // no body may answer it
		}
		if count > cfg.MaxHeaders {
			return 0, refuse(http.StatusRequestHeaderFieldsTooLarge, "%d headers, more than %d", count, cfg.MaxHeaders)
		}
		return 0, refuse(http.StatusRequestHeaderFieldsTooLarge, "more than %d bytes", cfg.MaxHeaderBytes)
	}
	return size, nil
}

// texts reads strings as parts of one.
type texts struct {
	all string // a copy of what r reads, from its beginning
	end int    // length of all that r reads
	r   *codec.Reader
}

func (t *texts) next() string {
	b := t.r.Bytes()
	if len(b) == 0 || t.r.Err() != nil {
		return ""
	}
	to := t.end - len(t.r.Rest())
	return t.all[to-len(b) : to]
}

// readHeader reads the headers. bad is a *refusal; err says that they are no headers at
// all.
func (t *tuple) readHeader(in *texts) (bad, err error) {
	count := in.r.ArrayLen()
	t.header = make(http.Header, count)
	first := make([]string, 0, count) // all values that are the only one of their header
	for i := range count {
		items := in.r.ArrayLen()
		if items < 2 && in.r.Err() == nil {
			return nil, fmt.Errorf("header %d: array of %d items, want [name, value]", i, items)
		}
		name, value := in.next(), in.next()
		for range items - 2 {
			in.r.Skip()
		}
		switch {
		case in.r.Err() != nil:
			return nil, in.r.Err()
		case !isToken(name):
			bad = refuse(http.StatusBadRequest, "invalid header name")
		case !isFieldValue(value):
			bad = refuse(http.StatusBadRequest, "invalid value of a header")
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		if have, ok := t.header[key]; ok {
			t.header[key] = append(have, value)
			continue
		}
		first = append(first, value)
		t.header[key] = first[len(first)-1 : len(first) : len(first)]
	}
	return bad, nil
}

// isToken reports whether s may be a method or the name of a header (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s may be the value of a header (RFC 9110, 5.5).
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
