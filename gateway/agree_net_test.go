package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/gateway"
)

// behaviours are handlers that must do the same behind a worker as behind net/http.
var behaviours = []struct {
	name    string
	method  string // GET if empty
	uri     string // / if empty
	header  [][2]string
	body    string
	handler func(w http.ResponseWriter, r *http.Request)
}{
	{name: "nothing", handler: func(http.ResponseWriter, *http.Request) {}},
	{name: "text", handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }},
	{name: "html is sniffed", handler: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<!DOCTYPE html><p>")) }},
	{name: "type is given", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		io.WriteString(w, "<html>")
	}},
	{name: "type is suppressed", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	}},
	{name: "encoded is not sniffed", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "x")
		io.WriteString(w, "abc")
	}},
	{name: "status", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418); io.WriteString(w, "pot") }},
	{name: "status twice", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); w.WriteHeader(500) }},
	{name: "status after write", handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x"); w.WriteHeader(500) }},
	{name: "header after status", handler: func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("A", "1")
		w.WriteHeader(200)
		h.Set("B", "2")
		w.Header().Del("A")
	}},
	{name: "header after write", handler: func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "x")
		w.Header().Set("B", "2")
	}},
	{name: "headers repeat and are cleaned", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("A", "1")
		w.Header().Add("A", "2\r\nX: y")
		w.Header().Add("B", "  blanks ")
		w.Header()["no name"] = []string{"v"}
		w.Header()["lower"] = []string{"v"}
	}},
	{name: "cookies", header: [][2]string{{"cookie", "a=1; b=2"}}, handler: func(w http.ResponseWriter, r *http.Request) {
		for _, c := range r.Cookies() {
			http.SetCookie(w, &http.Cookie{Name: "re-" + c.Name, Value: c.Value})
		}
	}},
	{name: "head", method: "HEAD", handler: func(w http.ResponseWriter, _ *http.Request) {
		n, err := io.WriteString(w, "hello")
		if n != 5 || err != nil {
			panic(err)
		}
	}},
	{name: "head of nothing", method: "HEAD", handler: func(http.ResponseWriter, *http.Request) {}},
	{name: "head with a length", method: "HEAD", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "77")
	}},
	{name: "no content", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(204)
		_, err := io.WriteString(w, "hello")
		if err != http.ErrBodyNotAllowed {
			panic(err)
		}
	}},
	{name: "not modified", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		w.Header().Set("Etag", `"x"`)
		w.WriteHeader(304)
	}},
	{name: "length is exceeded", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		n1, err1 := io.WriteString(w, "abc")
		n2, err2 := io.WriteString(w, "d")
		if n1 != 3 || err1 != nil || n2 != 0 || err2 != http.ErrContentLength {
			panic(fmt.Sprint(n1, err1, n2, err2))
		}
	}},
	{name: "invalid length", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "many")
		io.WriteString(w, "abc")
	}},
	{name: "flush", handler: func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		io.WriteString(w, "b")
	}},
	{name: "flush of nothing", handler: func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }},
	{name: "long", handler: func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			w.Write(bytes.Repeat([]byte("0123456789abcdef"), 10_000))
		}
	}},
	{name: "read from", handler: func(w http.ResponseWriter, _ *http.Request) {
		n, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 200_000)))
		if n != 200_000 || err != nil {
			panic(err)
		}
	}},
	{name: "read from, with a length", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		io.Copy(w, struct{ io.Reader }{strings.NewReader("<p> ")})
	}},
	{name: "file", header: [][2]string{{"Range", "bytes=2-4"}}, handler: func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), strings.NewReader("0123456789"))
	}},
	{name: "error", handler: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }},
	{name: "redirect", uri: "/a/b?c", handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "../d", http.StatusFound) }},
	{name: "what a handler sees", method: "PUT", uri: "/p%20q/r?a=1&b=%32", body: "c=3",
		header: [][2]string{{"host", "example.org"}, {"x-a", "1"}, {"X-A", "2"}, {"content-type", "application/x-www-form-urlencoded"}},
		handler: func(w http.ResponseWriter, r *http.Request) {
			length := r.ContentLength
			err := r.ParseForm()
			fmt.Fprintln(w, r.Method, r.URL, r.URL.Path, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Host, length,
				r.Header["X-A"], r.Header["Host"], r.Form, err, r.TransferEncoding)
		}},
	{name: "absolute uri", uri: "http://other.org/x?y", handler: func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.URL, r.URL.Path, r.Host, r.RequestURI)
	}},
	{name: "body", method: "POST", body: strings.Repeat("body", 5000), handler: func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(w, r.Body)
		fmt.Fprintln(w, n, err)
	}},
	{name: "body after close", method: "POST", body: "abc", handler: func(w http.ResponseWriter, r *http.Request) {
		r.Body.Close()
		_, err := r.Body.Read(make([]byte, 1))
		fmt.Fprintln(w, err)
	}},
	{name: "no body", handler: func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintln(w, r.ContentLength, b, err, r.Body == http.NoBody)
	}},
	{name: "body beyond the handler's limit", method: "POST", body: "abcdef", handler: func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 3))
		fmt.Fprintln(w, string(b), err)
	}},
	{name: "timeout handler", handler: http.TimeoutHandler(http.NotFoundHandler(), time.Minute, "late").ServeHTTP},
	{name: "invalid status", handler: func(w http.ResponseWriter, _ *http.Request) {
		defer func() { fmt.Fprint(w, recover()) }()
		w.WriteHeader(99)
	}},
	{name: "controller", handler: func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		late := time.Now().Add(time.Hour)
		fmt.Fprintln(w, c.SetReadDeadline(late), c.SetWriteDeadline(late), c.EnableFullDuplex(), c.Flush())
	}},
}

// compared are the headers that count: net/http adds some that are the proxy's business.
func compared(h http.Header, length bool) string {
	h = h.Clone()
	for _, k := range []string{"Date", "Connection", "Transfer-Encoding"} {
		h.Del(k)
	}
	if !length {
		h.Del("Content-Length")
	}
	var lines []string
	for k, v := range h {
		lines = append(lines, fmt.Sprintf("%s: %q", k, v))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// viaServer sends the request through net/http, with its header names as they are.
func viaServer(t *testing.T, h http.Handler, method, uri string, header [][2]string, body string) answer {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	defer srv.Close()
	r, err := http.NewRequestWithContext(context.Background(), method, srv.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Opaque = uri
	r.Header.Set("User-Agent", "")
	for _, h := range header {
		if strings.EqualFold(h[0], "host") {
			r.Host = h[1]
		} else {
			r.Header[http.CanonicalHeaderKey(h[0])] = append(r.Header[http.CanonicalHeaderKey(h[0])], h[1])
		}
	}
	res, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: res.StatusCode, header: res.Header, body: string(b)}
}

// A handler answers the same through a worker as through net/http's server.
func TestAgreesWithNetHTTP(t *testing.T) {
	for _, c := range behaviours {
		if c.method == "" {
			c.method = "GET"
		}
		if c.uri == "" {
			c.uri = "/"
		}
		t.Run(c.name, func(t *testing.T) {
			want := viaServer(t, handler(c.handler), c.method, c.uri, c.header, c.body)
			header := c.header
			if c.body != "" {
				header = append(slices.Clone(header), [2]string{"content-length", fmt.Sprint(len(c.body))})
			}
			both(t, func(t *testing.T, d codec.Dialect) {
				p := serve(t, d, gateway.Config{}, handler(c.handler))
				got := p.do(request(c.method, c.uri, "1.1", header, c.body))
				if got.err != nil || got.status != want.status || got.body != want.body {
					t.Errorf("answer = %d %.200q, %v, want %d %.200q", got.status, got.body, got.err, want.status, want.body)
				}
				length := want.header.Get("Content-Length") != "" // we add more of them
				if g, w := compared(got.header, length), compared(want.header, length); g != w {
					t.Errorf("headers =\n%s\nwant\n%s", g, w)
				}
				if got.empty > 0 {
					t.Errorf("%d empty chunks, want none", got.empty)
				}
			})
		})
	}
}
