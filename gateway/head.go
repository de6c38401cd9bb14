package gateway

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
)

// protoVersion is the header by which an answer says that an empty chunk ends it
// (protocol: HTTP over Cocaine, reply), as it is written, and earlyEnd its only value that
// proxies know. protoVersionKey is its canonical form, by which handlers set it.
const (
	protoVersion    = "X-Cocaine-HTTP-Proto-Version"
	protoVersionKey = "X-Cocaine-Http-Proto-Version"
	earlyEnd        = "1.1"
)

// head is the head of an answer, from WriteHeader on.
type head struct {
	pairs  int // of those in buffers.pairs
	typed  bool
	length int64 // declared; unknown if it is not
	early  bool  // an empty chunk ends the answer
}

// bodyAllowed reports whether an answer may have a body (RFC 9110, 6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// newlines are what must not get into a header's value.
var newlines = strings.NewReplacer("\n", " ", "\r", " ")

// packHeader packs the handler's headers as they are now; what it does to them later does
// not count. They are sorted by name, as net/http does.
func (w *reply) packHeader() {
	w.head.length = unknown
	b := w.buffers
	var skip []string
	for key, values := range w.header {
		b.keys = append(b.keys, key)
		if strings.EqualFold(key, "Connection") {
			skip = append(skip, named(values)...)
		}
	}
	slices.Sort(b.keys)
	for _, key := range b.keys {
		name := textproto.CanonicalMIMEHeaderKey(key) // it may have been set without Header.Set
		if !isHop(name) && isToken(key) && !slices.Contains(skip, name) {
			w.packValues(key, name, w.header[key])
		}
	}
	w.head.typed = w.head.typed || w.header.Get("Content-Encoding") != ""
}

// packValues packs a header of the handler's by the key that it has given it; name is what
// that means.
func (w *reply) packValues(key, name string, values []string) {
	switch name {
	case protoVersionKey:
		w.packProtoVersion(values)
		return
	case "Content-Length":
		if w.head.length != unknown || !w.declares(values) {
			return
		}
		values = values[:1] // several would have proxies and clients disagree where the answer ends
	case "Content-Type":
		w.head.typed = true
		if w.status == http.StatusNotModified {
			return
		}
	}
	for _, v := range values {
		w.pack(key, textproto.TrimString(newlines.Replace(v)))
	}
}

func (w *reply) pack(key, value string) {
	b := codec.AppendArrayHeader(w.buffers.pairs, 2)
	w.buffers.pairs = codec.AppendString(codec.AppendString(b, key), value)
	w.head.pairs++
}

// packProtoVersion keeps the one value that proxies know: others make them fail the
// request.
func (w *reply) packProtoVersion(values []string) {
	switch {
	case len(values) == 0 || w.head.early:
	case values[0] == earlyEnd:
		w.pack(protoVersion, earlyEnd)
		w.head.early = true
	default:
		w.x.a.cfg.Logger.Warn("gateway: a header was dropped: its value should be "+earlyEnd, "header", protoVersion, "value", values[0])
	}
}

// declares takes the handler's Content-Length, and reports whether it is one that may be
// sent.
func (w *reply) declares(values []string) bool {
	if len(values) == 0 || values[0] == "" {
		return false
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || n < 0 {
		w.x.a.cfg.Logger.Warn("gateway: an invalid Content-Length was dropped", "value", values[0])
		return false
	}
	if !bodyAllowed(w.status) {
		return false
	}
	w.head.length = n
	return true
}

// appendHead appends the first chunk of the answer. What is there of the body decides its
// type and, if the handler is done, its length.
func (w *reply) appendHead(dst []byte, start []byte, done bool) []byte {
	if bodyAllowed(w.status) {
		if !w.head.typed && len(start) > 0 {
			w.pack("Content-Type", http.DetectContentType(start))
		}
		if done && w.head.length == unknown && (w.method != http.MethodHead || len(start) > 0) {
			w.pack("Content-Length", strconv.Itoa(len(start)))
		}
	}
	dst = codec.AppendArrayHeader(dst, 2)
	dst = codec.AppendUint(dst, uint64(w.status))
	dst = codec.AppendArrayHeader(dst, w.head.pairs)
	return append(dst, w.buffers.pairs...)
}
