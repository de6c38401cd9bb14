package engine_test

import (
	"context"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
)

// capturedUUID is that of the runtime whose locator was recorded.
const capturedUUID = "f68b59cb-b8ee-4e5a-b699-33c694b54116"

// line is one line of a recorded conversation.
type line struct {
	toService bool
	bytes     []byte
	leftOut   bool // an answer that was not recorded
	closed    bool // the service closes
}

// conversations returns those of a capture that are with a service, one per connection.
func conversations(t *testing.T, file, name string) [][]line {
	t.Helper()
	text, err := os.ReadFile("../codec/testdata/golden/captures/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]line
	var now []line
	next := func() {
		if len(now) > 0 {
			all, now = append(all, now), nil
		}
	}
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		who, rest, _ := strings.Cut(l, "\t")
		raw, _, _ := strings.Cut(rest, "\t")
		switch {
		case strings.HasPrefix(l, "# ---"):
			next()
		case strings.Contains(l, "left out"):
			now = append(now, line{leftOut: true})
		case strings.HasPrefix(l, "# "+name+" closed the connection: EOF"):
			now = append(now, line{closed: true})
			next()
		case strings.Contains(l, "closed the connection"):
			next()
		case who == "client>"+name || who == name+">client":
			b, err := hex.DecodeString(raw)
			if err != nil {
				t.Fatal(err)
			}
			now = append(now, line{toService: who == "client>"+name, bytes: b})
		}
	}
	next()
	if len(all) == 0 {
		t.Fatalf("%s has no conversation with %s", file, name)
	}
	return all
}

// dial returns a client of a server for d. Both end with the test.
func dial(t *testing.T, d service.Declaration, dialect codec.Dialect) *rawWorker {
	t.Helper()
	return attach(t, serve(t, service.ServerConfig{Declaration: d, V0: dialect == codec.V0}), dialect)
}

func serve(t *testing.T, cfg service.ServerConfig) *service.Server {
	t.Helper()
	s, err := service.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return s
}

func attach(t *testing.T, s *service.Server, dialect codec.Dialect) *rawWorker {
	t.Helper()
	ours, theirs := channel.Pair(channel.Script{})
	if err := s.Attach(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	return newRaw(ours, dialect)
}

// replay sends what the client of a conversation sent, and wants the service's frames byte
// for byte, but without the headers of a trace.
func replay(t *testing.T, w *rawWorker, conversation []line) {
	t.Helper()
	for i, l := range conversation {
		switch {
		case l.toService:
			_, _ = w.Write(l.bytes) // if it has closed already, what must come tells
		case l.closed:
			w.wantEnd(t)
		case l.leftOut:
			if _, _, err := w.next(); err != nil {
				t.Fatalf("line %d: %v, want an answer", i, err)
			}
		default:
			var m codec.Message
			if n, err := codec.NewScanner(w.d, codec.Limits{}).Next(l.bytes, &m); n == 0 {
				t.Fatalf("line %d: no frame: %v", i, err)
			}
			w.want(t, codec.Frame{Kind: codec.KindCall, Session: m.Session, Type: m.Type, Args: m.Args})
		}
	}
	w.wantSilence(t)
}

// wantSilence fails the test if another frame comes.
func (w *rawWorker) wantSilence(t *testing.T) {
	t.Helper()
	if err := w.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got, _, err := w.next(); err == nil {
		t.Fatalf("the service sent %x, want nothing", got)
	}
	_ = w.SetReadDeadline(time.Time{})
}

// openStore opens a store for the test.
func openStore(t *testing.T) *storage.Store {
	t.Helper()
	s, err := storage.Open(t.TempDir(), storage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return s
}

func newStorage(t *testing.T, cfg engine.StorageConfig) *engine.StorageService {
	t.Helper()
	s, err := engine.NewStorageService(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeIn(t, s.Close) })
	return s
}

func newLogging(t *testing.T, cfg engine.LoggingConfig) *engine.LoggingService {
	t.Helper()
	l, err := engine.NewLoggingService(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeIn(t, l.Close) })
	return l
}

func closeIn(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

func newLocator(t *testing.T, cfg engine.LocatorConfig) *engine.LocatorService {
	t.Helper()
	if cfg.Registry == nil {
		cfg.Registry = engine.NewRegistry(engine.RegistryConfig{})
	}
	l, err := engine.NewLocatorService(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// register puts a declared service into a registry, at a port of this host.
func register(t *testing.T, r *engine.Registry, d service.Declaration, host string, port uint16) {
	t.Helper()
	api, err := d.API()
	if err != nil {
		t.Fatal(err)
	}
	at := service.Resolved{Endpoints: []service.Endpoint{{Host: host, Port: port}}, Version: d.Version, API: api}
	if err := r.Add(d.Name, at); err != nil {
		t.Fatal(err)
	}
}

// TestCapturesV1 holds the services to what the live runtime 0.12 was recorded to say.
func TestCapturesV1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStorage(t, engine.StorageConfig{Store: openStore(t)}).Declaration()
		logging := newLogging(t, engine.LoggingConfig{Output: t.Output()})
		logs := logging.Declaration(codec.V1)
		registry := engine.NewRegistry(engine.RegistryConfig{})
		locator := newLocator(t, engine.LocatorConfig{UUID: capturedUUID, Registry: registry}).Declaration(codec.V1)
		register(t, registry, locator, "127.0.0.1", 10053)
		register(t, registry, logs, "127.0.0.1", 10054)
		register(t, registry, store, "127.0.0.1", 10055)

		for _, c := range conversations(t, "core-locator.txt", "locator") {
			if last := c[len(c)-1]; last.toService && len(c) > 4 { // the discard of routing
				replayDiscard(t, dial(t, locator, codec.V1), c)
				continue
			}
			replay(t, dial(t, locator, codec.V1), c)
		}
		for i, c := range conversations(t, "core-logging.txt", "logging") {
			if i == 1 { // set_verbosity works here, see TestVerbosity
				continue
			}
			replay(t, dial(t, logs, codec.V1), c)
		}
		for _, file := range []string{"core-storage.txt", "core-edge.txt", "core-storage-static-headers.txt"} {
			for _, c := range conversations(t, file, "storage") {
				replay(t, dial(t, store, codec.V1), c)
			}
		}
	})
}

// replayDiscard replays a conversation that ends with the discard of a stream on session 1,
// which we end too.
func replayDiscard(t *testing.T, w *rawWorker, c []line) {
	t.Helper()
	replay(t, w, c[:len(c)-1])
	if _, err := w.Write(c[len(c)-1].bytes); err != nil {
		t.Fatal(err)
	}
	w.want(t, codec.Frame{Kind: codec.KindChoke, Session: 1})
}

// TestCapturesV0 is that for runtime 0.11.
func TestCapturesV0(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStorage(t, engine.StorageConfig{Store: openStore(t)}).Declaration()
		logs := newLogging(t, engine.LoggingConfig{Output: t.Output()}).Declaration(codec.V0)
		registry := engine.NewRegistry(engine.RegistryConfig{})
		locator := newLocator(t, engine.LocatorConfig{Registry: registry}).Declaration(codec.V0)
		register(t, registry, store, "localhost", 10156)
		for _, name := range []string{"echo", "echo12", "logging", "node"} {
			register(t, registry, service.Declaration{Name: name}, "localhost", 1)
		}
		for _, c := range conversations(t, "core11-locator-logging.txt", "locator11") {
			replay(t, dial(t, locator, codec.V0), c)
		}
		for _, c := range conversations(t, "core11-locator-logging.txt", "logging11") {
			replay(t, dial(t, logs, codec.V0), c)
		}
		for _, c := range conversations(t, "core11-storage-edge.txt", "storage11") {
			replay(t, dial(t, store, codec.V0), c)
		}
	})
}
