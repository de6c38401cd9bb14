// Package gateway carries HTTP over channels. Its application side has any
// http.Handler serve an event of a worker:
//
//	w.Handle("http", gateway.Handler(mux))
//
// # On the wire
//
// The first chunk of a session is the request, msgpack [method, uri, version,
// [[name, value]…], body], all of them strings. Proxies send the whole body in it; what
// follows in further chunks, until the choke, is more of the body.
//
// The first chunk of the answer is its head, msgpack [status, [[name, value]…]], and
// further chunks are pieces of the body, until the choke. In v1 the pieces of both bodies
// are plain bytes; in v0 each is packed as one msgpack string (protocol: HTTP over
// Cocaine).
//
// # As in net/http, but
//
// A handler sees what it would see behind net/http's server, with these differences:
//
//   - Headers of one hop (Connection and what it names, Keep-Alive, Transfer-Encoding,
//     Upgrade and so on) are removed both ways. There are no trailers.
//   - Informational answers (1xx) cannot be sent and are dropped; 101 is answered with
//     501, since a session cannot switch protocols. There is no hijacking.
//   - No Date is added: proxies do that.
//   - Content-Length is added to every answer that fits [Config.WriteBytes] and was not
//     flushed, and not only up to 2 KiB.
//   - Request and answer never wait for each other: full duplex is always on.
//   - Request.RemoteAddr is what the proxy tells in a header, with port 0 if it tells
//     none, and empty if it does not tell it. It can be trusted as far as the proxy can.
//   - The context has no http.ServerContextKey and no http.LocalAddrContextKey: there is
//     no http.Server, and no socket of the request.
//   - Request.ContentLength is -1 for a POST, PUT or PATCH whose proxy says nothing of
//     the body's length.
//
// The request's context is the session's: it ends when the client is lost, at the
// deadline of the invoke, and at the end of a worker's grace.
//
// # Answers that end early
//
// A client may have its whole answer while the handler still works on, with the worker's
// load counted until it returns: see [Finish].
package gateway
