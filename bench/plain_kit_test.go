package bench

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// plainEngine is an engine as the captures of live ones show it, made of frames by hand:
// it answers a handshake with nothing and a heartbeat with one, resolves names, makes an
// invoke of each enqueue with the client's headers copied into it, passes the rest from
// one side to the other, and sends back what it does not know. It knows of no extension,
// and writes down every frame.
type plainEngine struct {
	t   testing.TB
	api *service.API

	mu     sync.Mutex
	worker *plainLink
	next   uint64 // invoke
	seen   []sighting
	links  sync.WaitGroup
}

// sighting is a frame on one of the hops.
type sighting struct {
	hop     string // who sent it to whom
	session uint64
	typ     uint64
	headers []codec.Header
}

// plainLink is one connection of it.
type plainLink struct {
	e     *plainEngine
	name  string // of the other end
	conn  net.Conn
	write sync.Mutex
	out   codec.HeaderDecoder    // of what goes there
	peers map[uint64]plainTarget // guarded by the engine's mu
}

// plainTarget is where the frames of a session go.
type plainTarget struct {
	link    *plainLink
	session uint64
}

func newPlainEngine(t testing.TB) *plainEngine {
	t.Helper()
	api, err := service.Declaration{Name: "app", Version: 1, Methods: []service.Handled{{
		Method: service.Method{ID: 0, Name: "enqueue", Tx: session.Streaming, Rx: session.Streaming},
		OnLoop: func(*service.Call) {},
	}}}.API()
	if err != nil {
		t.Fatal(err)
	}
	return &plainEngine{t: t, api: api, next: 2}
}

// attach gives it a connection and returns the other end. The name is worker, client or
// locator.
func (e *plainEngine) attach(name string) net.Conn {
	ours, theirs := channel.Pair(channel.Script{})
	l := &plainLink{e: e, name: name, conn: ours, peers: map[uint64]plainTarget{}}
	l.out.Init(codec.Limits{})
	if name == "worker" {
		e.worker = l
	}
	e.links.Go(l.read)
	return theirs
}

func (l *plainLink) read() {
	defer l.conn.Close()
	scan := codec.NewScanner(codec.V1, codec.Limits{})
	var in codec.HeaderDecoder
	in.Init(codec.Limits{})
	var buf []byte
	piece := make([]byte, 64<<10)
	for {
		n, err := l.conn.Read(piece)
		buf = append(buf, piece[:n]...)
		for {
			var m codec.Message
			used, bad := scan.Next(buf, &m)
			if bad != nil {
				l.e.t.Errorf("the %s sent what is no frame: %v", l.name, bad)
				return
			}
			if used == 0 {
				break
			}
			l.message(&m, l.note(l.name+" to engine", &m, &in))
			buf = buf[used:]
		}
		if err != nil {
			return
		}
	}
}

// note writes a frame down and returns its headers.
func (l *plainLink) note(hop string, m *codec.Message, d *codec.HeaderDecoder) []codec.Header {
	var headers []codec.Header
	if m.Headers != nil {
		var err error
		if headers, err = d.Decode(m.Headers, nil); err != nil {
			l.e.t.Errorf("%s: %v", hop, err)
		}
		for i, h := range headers {
			headers[i] = codec.Header{Name: bytes.Clone(h.Name), Value: bytes.Clone(h.Value)}
		}
	}
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.e.seen = append(l.e.seen, sighting{hop, m.Session, m.Type, headers})
	return headers
}

// send writes a frame with raw arguments.
func (l *plainLink) send(session, typ uint64, args []byte, headers []codec.Header) {
	l.write.Lock()
	defer l.write.Unlock()
	b := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindCall, Session: session, Type: typ, Args: args, Headers: headers})
	var m codec.Message
	if _, err := codec.NewScanner(codec.V1, codec.Limits{}).Next(b, &m); err != nil {
		l.e.t.Errorf("the engine makes what is no frame: %v", err)
	}
	l.note("engine to "+l.name, &m, &l.out)
	_, _ = l.conn.Write(b) // or it is gone
}

func (l *plainLink) message(m *codec.Message, headers []codec.Header) {
	e := l.e
	e.mu.Lock()
	to, open := l.peers[m.Session]
	e.mu.Unlock()
	switch {
	case l.name == "worker" && m.Session == codec.V1ControlSession && m.NumArgs > 0: // a handshake, or the answer to a terminate
	case open:
		to.link.send(to.session, m.Type, m.Args, headers)
	case l.name != "worker" && m.Type == codec.V1Ping:
		l.send(m.Session, codec.V1Value, codec.Args().Bytes(), nil)
	case l.name == "locator" && m.Type == 0:
		here := service.Resolved{Endpoints: []service.Endpoint{{Host: "client", Port: 1}}, Version: 1, API: e.api}
		l.send(m.Session, codec.V1Value, service.AppendResolved(nil, here), nil)
	case l.name == "client" && m.Type == 0 && m.Session != 0:
		e.mu.Lock()
		id := e.next
		e.next++
		l.peers[m.Session] = plainTarget{e.worker, id}
		e.worker.peers[id] = plainTarget{l, m.Session}
		e.mu.Unlock()
		r := m.Reader()
		e.worker.send(id, codec.V1Invoke, codec.Args(r.String()).Bytes(), headers)
	default: // a heartbeat, and what it does not know
		l.send(m.Session, m.Type, m.Args, headers)
	}
}

// terminate ends the worker, as engines do.
func (e *plainEngine) terminate() {
	e.worker.send(codec.V1ControlSession, codec.V1Terminate, codec.Args(1, "done").Bytes(), nil)
}

// close ends all links.
func (e *plainEngine) close(links ...net.Conn) {
	for _, c := range links {
		_ = c.Close()
	}
	e.links.Wait()
}

// count counts the frames on a hop that are so.
func (e *plainEngine) count(hop string, is func(s *sighting) bool) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.seen {
		if s := &e.seen[i]; (hop == "" || s.hop == hop) && is(s) {
			n++
		}
	}
	return n
}

// anyFrame, onZero and offers are what is counted.
func anyFrame(*sighting) bool { return true }

func onZero(s *sighting) bool { return s.session == 0 }

func offers(s *sighting) bool {
	return slices.ContainsFunc(s.headers, func(h codec.Header) bool { return string(h.Name) == "sluice" })
}
