package service_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

const (
	go12File = "go12-client-vs-core.txt"
	// go12First is the number of that client's first call on each connection. Ours is 1
	// unless told otherwise. Like ours it sends empty headers with every frame.
	go12First = 2
	// go12Missing stands in for the text of the answer to the read of a missing key, which
	// was left out of the capture; [12, 2] is what runtimes say (protocol: storage).
	go12Missing = "gons/none: No such file or directory"
)

// go12Conn is one connection of the capture.
type go12Conn struct {
	addr  string
	steps []go12Step
}

type go12Step struct {
	frame    []byte
	ofClient bool
}

// go12Conns returns the connections of the capture by their numbers.
func go12Conns(t *testing.T) map[int]*go12Conn {
	t.Helper()
	text, err := os.ReadFile(goldenDir + "/captures/" + go12File)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]*go12Conn{}
	last := 0
	for row := range strings.Lines(string(text)) {
		row = strings.TrimSuffix(row, "\n")
		f := strings.SplitN(row, "\t", 3)
		_, port, opens := strings.Cut(row, " (port ")
		switch {
		case opens:
			n := connNumber(t, strings.TrimPrefix(row, "# "))
			all[n] = &go12Conn{addr: "127.0.0.1:" + strings.TrimSuffix(port, ")")}
		case strings.Contains(row, "left out here"):
			missing := codec.Frame{Kind: codec.KindError, Session: go12First, Category: service.CategoryGeneric, Code: 2, Text: go12Missing}
			all[last].steps = append(all[last].steps, go12Step{frame: codec.AppendFrame(nil, codec.V1, &missing)})
		case len(f) == 3:
			last = connNumber(t, f[2])
			all[last].steps = append(all[last].steps, go12Step{unhex(t, f[1]), strings.HasPrefix(f[0], "client>")})
		}
	}
	return all
}

// connNumber returns the 3 of "conn 3: …".
func connNumber(t *testing.T, text string) int {
	t.Helper()
	number, _, _ := strings.Cut(strings.TrimPrefix(text, "conn "), ":")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// go12Peer is what a client connects to: the runtime as it was captured.
type go12Peer struct {
	t     *testing.T
	mu    sync.Mutex
	conns []*go12Conn // that are still to come, in this order
	ends  sync.WaitGroup
}

// dial is a Config.Dial.
func (p *go12Peer) dial(_ context.Context, _, addr string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) == 0 || p.conns[0].addr != addr {
		p.t.Errorf("dial(%s), want what is next of %v", addr, p.conns)
		return nil, errors.New("not in the capture")
	}
	c := p.conns[0]
	p.conns = p.conns[1:]
	ours, theirs := channel.Pair(channel.Script{})
	p.ends.Go(func() { c.play(p.t, theirs) })
	return ours, nil
}

// play wants the frames of the captured client, byte for byte, answers them with those of
// the runtime, and then wants the end.
func (c *go12Conn) play(t *testing.T, conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	for _, s := range c.steps {
		if !s.ofClient {
			if _, err := conn.Write(s.frame); err != nil {
				t.Errorf("%s: Write() = %v", c.addr, err)
				return
			}
			continue
		}
		got := make([]byte, len(s.frame))
		if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, s.frame) {
			t.Errorf("%s: the client sent %x, %v, want %x", c.addr, got[:n], err, s.frame)
			return
		}
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Errorf("%s: behind its frames the client sent %x, %v, want its end", c.addr, rest, err)
	}
}

// answerTo returns the arguments of the runtime's answer in a connection.
func (c *go12Conn) answerTo(t *testing.T) []byte {
	t.Helper()
	i := slices.IndexFunc(c.steps, func(s go12Step) bool { return !s.ofClient })
	if i < 0 {
		t.Fatalf("%s: there is no answer", c.addr)
	}
	return args(t, c.steps[i].frame)
}

// TestGo12Client does what the Go framework's client did to a live runtime, each program
// of it by a Client of its own: the same bytes leave on each connection, and all that the
// runtime answered is understood.
func TestGo12Client(t *testing.T) {
	all := go12Conns(t)
	programs := []struct {
		name  string
		conns []int
		do    func(*testing.T, *service.Client)
	}{
		{"resolve", []int{1}, func(t *testing.T, c *service.Client) { wantResolved(t, c, all[1].answerTo(t)) }},
		{"resolve of no service", []int{2}, wantUnknown},
		{"write", []int{3, 4}, callStorage("", "write", "gons", "k", "v1", []string{"t1", "t2"})},
		{"read", []int{5, 6}, callStorage("v1", "read", "gons", "k")},
		{"read of no key", []int{7, 8}, wantMissing},
		{"find", []int{9, 10}, callStorage("k", "find", "gons", []string{"t1"})},
		{"remove", []int{11, 12}, callStorage("", "remove", "gons", "k")},
		{"verbosity", []int{13, 14}, askVerbosity},
		{"emit", []int{15, 16}, emit},
	}
	used := 0
	for _, p := range programs {
		used += len(p.conns)
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				peer := &go12Peer{t: t}
				for _, n := range p.conns {
					peer.conns = append(peer.conns, all[n])
				}
				client, err := service.Connect(t.Context(), service.Config{
					Locators: []string{all[1].addr}, Dial: peer.dial, Logger: slog.New(slog.DiscardHandler),
					Sessions: session.Config{Channel: channel.Config{FirstSession: go12First}},
				})
				if err != nil {
					t.Fatalf("Connect() = %v", err)
				}
				p.do(t, client)
				closeClient(t, client)
				peer.ends.Wait()
				if len(peer.conns) > 0 {
					t.Errorf("%d connections were not opened", len(peer.conns))
				}
			})
		})
	}
	if used != len(all) {
		t.Errorf("%d connections were replayed, want %d", used, len(all))
	}
}

// wantResolved resolves the storage, and writes what it has read as it came.
func wantResolved(t *testing.T, c *service.Client, raw []byte) {
	t.Helper()
	r, err := c.Locator().Resolve(t.Context(), "storage")
	if err != nil {
		t.Fatalf("Resolve() = %v", err)
	}
	if want := []service.Endpoint{{Host: "127.0.0.1", Port: 10055}}; !slices.Equal(r.Endpoints, want) || r.Version != 1 {
		t.Errorf("Resolve() = %v, version %d, want %v, version 1", r.Endpoints, r.Version, want)
	}
	for id, name := range []string{"read", "write", "remove", "find"} {
		if m, ok := r.API.ByID(uint64(id)); !ok || m.Name != name || m.Tx != nil || m.Rx != session.Primitive {
			t.Errorf("ByID(%d) = %+v, %v, want %s with one value", id, m, ok, name)
		}
	}
	for _, name := range []string{"ping", "revoke", "goaway", "settings"} {
		if _, ok := r.API.Control(name); !ok {
			t.Errorf("Control(%s) = false", name)
		}
	}
	same(t, "AppendResolved()", service.AppendResolved(nil, r), raw)
}

func wantUnknown(t *testing.T, c *service.Client) {
	t.Helper()
	_, err := c.Locator().Resolve(t.Context(), "nosuch")
	if !service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) {
		t.Errorf("Resolve() = %v, want that there is no such service", err)
	}
	if e := wantError[*session.Error](t, err); !e.Remote || e.Message != "service is not available" {
		t.Errorf("Resolve() = %+v, want the locator's words", e)
	}
}

// callStorage returns a call that answers one string, a list of one, or nothing.
func callStorage(want, method string, values ...any) func(*testing.T, *service.Client) {
	return func(t *testing.T, c *service.Client) {
		t.Helper()
		reply, err := c.Service("storage").Call(t.Context(), method, codec.Args(values...))
		if err != nil {
			t.Fatalf("Call() = %v", err)
		}
		got := ""
		r := reply.Reader()
		if reply.Len() > 0 && r.Peek() == codec.ArrayValue {
			if n := r.ArrayLen(); n != 1 {
				t.Errorf("Call() = %d strings, want 1", n)
			}
		}
		if reply.Len() > 0 {
			got = r.String()
		}
		if got != want || r.Err() != nil || r.Len() > 0 {
			t.Errorf("Call() = %q, %v, want %q", got, r.Err(), want)
		}
	}
}

func wantMissing(t *testing.T, c *service.Client) {
	t.Helper()
	_, err := c.Service("storage").Call(t.Context(), "read", codec.Args("gons", "none"))
	e := wantError[*session.Error](t, err)
	if !service.Is(err, service.CategoryGeneric, 2) || !e.Remote || e.Message != go12Missing {
		t.Errorf("Call() = %+v, want that there is no such key", e)
	}
}

// askVerbosity calls the logging service and looks at what the locator said of it.
func askVerbosity(t *testing.T, c *service.Client) {
	t.Helper()
	s := c.Service("logging")
	if v, err := service.InvokeArgs[int](t.Context(), s, "verbosity", codec.Arguments{}); v != 0 || err != nil {
		t.Errorf("InvokeArgs() = %d, %v, want 0", v, err)
	}
	if v, err := s.Version(t.Context()); v != 2 || err != nil {
		t.Errorf("Version() = %d, %v, want 2", v, err)
	}
	api, err := s.API(t.Context())
	if err != nil {
		t.Fatalf("API() = %v", err)
	}
	if m, ok := api.ByName("emit"); !ok || !m.Mute() || m.ID != 0 {
		t.Errorf("ByName(emit) = %+v, %v, want a mute method 0", m, ok)
	}
	if m, ok := api.ByName("set_verbosity"); !ok || m.ID != 2 || m.Rx != session.Primitive {
		t.Errorf("ByName(set_verbosity) = %+v, %v, want method 2 with one value", m, ok)
	}
}

// emit logs by the Logger, which first asks for the verbosity.
func emit(t *testing.T, c *service.Client) {
	t.Helper()
	l := c.Log("app/gostandalone")
	l.Error("error from go client", slog.String("key", "value"), slog.Int("num", 7))
	synctest.Wait()
	if v, known := l.Verbosity(); v != 0 || !known {
		t.Errorf("Verbosity() = %d, %v, want 0", v, known)
	}
	if s := l.Stats(); s.Sent != 1 {
		t.Errorf("Stats() = %+v, want 1 sent", s)
	}
}
