package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// unknown is the length of a body that ends when the peer's stream does.
const unknown = -1

// request returns t with its body, as net/http's server would. The error is a *refusal.
func (x *exchange) request(ctx context.Context, t *tuple) (*http.Request, error) {
	r, err := t.request(&x.a.cfg)
	if err != nil {
		return nil, err
	}
	x.body.init(x, ctx, r.ContentLength)
	if r.ContentLength != 0 {
		x.body.add(t.body)
		r.Body = &x.body
	}
	return r.WithContext(ctx), nil
}

// request returns t as a request without a body. It takes t's headers over.
func (t *tuple) request(cfg *Config) (*http.Request, error) {
	version := t.version
	if !strings.HasPrefix(version, "HTTP/") {
		version = "HTTP/" + version
	}
	major, minor, ok := http.ParseHTTPVersion(version)
	if !ok || major < 1 {
		return nil, refuse(http.StatusHTTPVersionNotSupported, "want a version such as 1.1")
	}
	target, err := parseURI(t.method, t.uri)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "invalid URI")
	}
	host := t.header.Get("Host")
	if !isHost(host) || len(t.header["Host"]) > 1 {
		return nil, refuse(http.StatusBadRequest, "invalid Host")
	}
	if target.Host != "" {
		host = target.Host
	}
	delete(t.header, "Host")
	streamed := len(t.header["Transfer-Encoding"]) > 0
	length, err := bodyLength(t, streamed, cfg.MaxBodyBytes)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: t.method, URL: target, RequestURI: t.uri, Proto: version, ProtoMajor: major, ProtoMinor: minor,
		Header: t.header, Host: host, ContentLength: length, RemoteAddr: remoteAddr(t.header, cfg.AddrHeaders),
		Body: http.NoBody,
	}
	if streamed {
		r.TransferEncoding = []string{"chunked"}
	}
	removeHop(t.header)
	return r, nil
}

var errBlank = errors.New("a blank in the URI")

// parseURI is for all the forms of a request's target (RFC 9112, 3.2).
func parseURI(method, uri string) (*url.URL, error) {
	if strings.Contains(uri, " ") { // no server can have read it from a request line, nor write it into one
		return nil, errBlank
	}
	if method != http.MethodConnect || strings.HasPrefix(uri, "/") {
		return url.ParseRequestURI(uri)
	}
	u, err := url.ParseRequestURI("http://" + uri)
	if err == nil {
		u.Scheme = ""
	}
	return u, err
}

// isHost refuses what net/http refuses for good reason: blanks, controls, and what would
// end the host in a URL.
func isHost(host string) bool {
	return isFieldValue(host) && !strings.ContainsAny(host, " \t/?#@\\\"<>")
}

// bodyLength returns how long the body is that begins in t, unknown if nobody says. As in
// HTTP a Transfer-Encoding overrules a Content-Length. Without both, the methods that have
// a body may have one that is streamed.
func bodyLength(t *tuple, streamed bool, limit int64) (int64, error) {
	length, have := int64(unknown), int64(len(t.body))
	declared := t.header["Content-Length"]
	switch {
	case streamed:
		delete(t.header, "Content-Length")
	case len(declared) > 0:
		first := textproto.TrimString(declared[0])
		for _, v := range declared[1:] {
			if textproto.TrimString(v) != first {
				return 0, refuse(http.StatusBadRequest, "several values of Content-Length")
			}
		}
		n, err := strconv.ParseUint(first, 10, 63)
		if err != nil {
			return 0, refuse(http.StatusBadRequest, "invalid Content-Length")
		}
		if length = int64(n); have > length {
			return 0, refuse(http.StatusBadRequest, "Content-Length is %d, the body has %d bytes", length, have)
		}
		t.header["Content-Length"] = declared[:1:1]
	case have == 0 && t.method != http.MethodPost && t.method != http.MethodPut && t.method != http.MethodPatch:
		length = 0
	}
	if max(length, have) > limit {
		return 0, refuse(http.StatusRequestEntityTooLarge, "%s", tooLargeText(limit))
	}
	return length, nil
}

// remoteAddr returns the client's address and port as the first of the headers tells it,
// or "".
func remoteAddr(h http.Header, headers []string) string {
	for _, name := range headers {
		values := h.Values(name)
		if len(values) == 0 {
			continue
		}
		last := values[len(values)-1]
		last = textproto.TrimString(last[strings.LastIndexByte(last, ',')+1:])
		if _, err := netip.ParseAddrPort(last); err == nil {
			return last
		}
		if _, err := netip.ParseAddr(last); err == nil {
			return net.JoinHostPort(last, "0")
		}
	}
	return ""
}

// isHop reports whether a header is about one hop only (RFC 9110, 7.6.1).
func isHop(key string) bool {
	switch key {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// named returns the headers that Connection names, canonical.
func named(connection []string) []string {
	var keys []string
	for _, line := range connection {
		for name := range strings.SplitSeq(line, ",") {
			keys = append(keys, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	return keys
}

// removeHop deletes the headers that are about one hop only.
func removeHop(h http.Header) {
	keys := named(h["Connection"])
	for key := range h {
		if isHop(key) || slices.Contains(keys, key) {
			delete(h, key)
		}
	}
}
