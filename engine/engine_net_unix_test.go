//go:build unix

package engine_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
)

// running is an engine of a test.
type running struct {
	*engine.Engine
	stop func() error // ends Run and returns what that did
}

// run runs an engine on free ports until the end of the test, which fails if Run does.
func run(t *testing.T, cfg engine.Config) *running {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(&testWriter{t}, nil))
	}
	e, err := engine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stopped := false
	r := &running{Engine: e, stop: func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	select {
	case <-e.Ready():
	case err := <-ended:
		stopped = true
		t.Fatalf("Run() = %v before Ready", err)
	}
	return r
}

type testWriter struct{ t *testing.T }

// Write logs a line, without its newline.
func (w *testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// caller is a client of a service, frame by frame.
type caller struct {
	*rawWorker
	t    *testing.T
	last uint64
}

func callerOf(t *testing.T, e service.Endpoint, d codec.Dialect) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", e.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{rawWorker: newRaw(conn, d), t: t}
}

// open sends a call, and returns its session.
func (c *caller) open(method uint64, args ...any) uint64 {
	c.t.Helper()
	c.last++
	if err := c.send(codec.Frame{Kind: codec.KindCall, Session: c.last, Type: method, Args: codec.Args(args...).Bytes()}); err != nil {
		c.t.Fatal(err)
	}
	return c.last
}

// answer returns the next message of the service.
func (c *caller) answer() codec.Message {
	c.t.Helper()
	_, m, err := c.next()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// call sends a primitive call and returns the arguments of its value; code is not zero
// for an error.
func (c *caller) call(method uint64, args ...any) (value []byte, code int64, text string) {
	c.t.Helper()
	id := c.open(method, args...)
	m := c.answer()
	if m.Session != id {
		c.t.Fatalf("the answer is on session %d, want %d", m.Session, id)
	}
	if m.Type == codec.V1ValueError {
		category, code, message, _ := codec.DecodeError(&m)
		if category != service.CategoryNode && category != service.CategoryLocator && category != service.CategoryGeneric {
			c.t.Errorf("the error has category %d", category)
		}
		return nil, code, string(message)
	}
	return m.Args, 0, ""
}

// want fails the test unless a call ends in a code and a text.
func (c *caller) wantError(code int64, text string, method uint64, args ...any) {
	c.t.Helper()
	_, got, message := c.call(method, args...)
	if got != code || !strings.Contains(message, text) {
		c.t.Errorf("call %d%v = [%d] %q, want [%d] %q", method, args, got, message, code, text)
	}
}

// wantOK fails the test if a call ends in an error.
func (c *caller) wantOK(method uint64, args ...any) []byte {
	c.t.Helper()
	value, code, text := c.call(method, args...)
	if code != 0 {
		c.t.Fatalf("call %d%v = [%d] %q, want a value", method, args, code, text)
	}
	return value
}

// find resolves a service.
func (r *running) find(t *testing.T, name string) (service.Resolved, bool) {
	t.Helper()
	return lookUp(t, r.Endpoint(), name)
}

func lookUp(t *testing.T, locator service.Endpoint, name string) (service.Resolved, bool) {
	t.Helper()
	c := callerOf(t, locator, codec.V1)
	defer c.Close()
	value, code, _ := c.call(0, name)
	if code != 0 {
		return service.Resolved{}, false
	}
	s, err := service.DecodeResolved(value)
	if err != nil {
		t.Fatal(err)
	}
	return s, true
}

// service connects to a service.
func (r *running) service(t *testing.T, name string) *caller {
	t.Helper()
	s, ok := r.find(t, name)
	if !ok {
		t.Fatalf("there is no service %q", name)
	}
	return callerOf(t, s.Endpoints[0], codec.V1)
}

// wantEcho has an application's worker answer an event.
func (c *caller) wantEcho(method uint64, args ...any) {
	c.t.Helper()
	id := c.open(method, args...)
	if err := c.send(codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte("hello")}, codec.Frame{Kind: codec.KindChoke, Session: id}); err != nil {
		c.t.Fatal(err)
	}
	if m := c.answer(); m.Session != id || m.Type != codec.V1Write || string(m.Payload) != "hello" {
		c.t.Fatalf("the answer is %+v %q, want a chunk", m, m.Args)
	}
	if m := c.answer(); m.Session != id || m.Type != codec.V1Close {
		c.t.Fatalf("the answer is %+v %q, want a close", m, m.Args)
	}
}

// echoSource is this program as an application.
func echoSource(name, role string) engine.Source {
	return engine.Source{Name: name, Command: []string{os.Args[0]}, Env: []string{roleVar + "=" + role, "GORACE=atexit_sleep_ms=0"}}
}

// echoPackage is this program as a package: a script that starts it.
func echoPackage(t *testing.T, role string) *engine.Package {
	t.Helper()
	p, err := engine.ReadPackage(echoDir(t, role), engine.PackageLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func echoDir(t *testing.T, role string) string {
	t.Helper()
	return onDisk(t, []entry{
		{name: "manifest.json", body: `{"slave": "run.sh", "environment": {"` + roleVar + `": "` + role + `", "GORACE": "atexit_sleep_ms=0"}}`, mode: 0o644},
		{name: "run.sh", body: "#!/bin/sh\nexec '" + os.Args[0] + "' \"$@\"\n", mode: 0o755},
	})
}

const (
	startApp, pauseApp, listApps, appInfo, controlApp, enqueueApp = 0, 1, 2, 3, 4, 5
	notRunning, alreadyStarted                                    = service.NodeNotRunning, service.NodeAlreadyStarted
)

// The zero Config but for its port: all is served, and nothing is left.
func TestEngineZero(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{Apps: []engine.Source{echoSource("echo", "echo")}})
	for name, version := range map[string]uint32{"locator": 3, "storage": 1, "logging": 2, "node": 1, "echo": 1, "tail": 1} {
		if s, ok := r.find(t, name); !ok || s.Version != version || len(s.Endpoints) != 1 {
			t.Errorf("resolve %s = %+v, %v, want version %d", name, s, ok, version)
		}
	}
	echo := r.service(t, "echo")
	for range 3 {
		echo.wantEcho(0, "event")
	}
	echo.wantEcho(0, "event", "tag")
	s := r.Stats()
	if s.State != engine.EngineRunning || len(s.Services) != 5 || len(s.Apps) != 1 {
		t.Fatalf("Stats() = %+v, want 5 services and an application", s)
	}
	if a := s.Apps[0]; a.State != engine.AppRunning || a.Info == nil || a.Info.Accepted != 4 || a.Info.Spawned != 1 || a.Service.Conns != 1 {
		t.Errorf("Stats().Apps = %+v, %+v, want 4 requests and a worker", a, a.Info)
	}
	_ = echo.Close()
	if err := errors.Join(r.PauseApp(t.Context(), "echo"), r.StartApp(t.Context(), "echo", "")); err != nil {
		t.Errorf("PauseApp(), StartApp() = %v, want nil", err)
	}
	if err := r.stop(); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if s := r.State(); s != engine.EngineStopped {
		t.Errorf("State() = %v, want stopped", s)
	}
	if err := r.Run(t.Context()); err == nil {
		t.Error("the second Run() = nil, want an error")
	}
	if err := r.StartApp(t.Context(), "echo", ""); err == nil {
		t.Error("StartApp() = nil after Run, want an error")
	}
}

// The node service from the first start to the last pause (protocol: app and node services).
func TestNodeService(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{})
	node := r.service(t, "node")
	node.wantError(2, "No such file", startApp, "shop", "")
	node.wantError(notRunning, "app 'nobody' is not running", pauseApp, "nobody")
	node.wantError(notRunning, "is not running", appInfo, "nobody")
	node.wantError(notRunning, "is not running", controlApp, "nobody")
	node.wantError(notRunning, "is not running", enqueueApp, "nobody", "event")
	node.wantError(service.NodeUncaughtSpool, "letters", startApp, "a/../x", "")
	node.wantError(service.NodeUncaughtSpool, "stock", startApp, "node", "")
	if err := r.Deploy(t.Context(), "shop", echoPackage(t, "echo")); err != nil {
		t.Fatal(err)
	}
	node.wantError(2, "No such file", startApp, "shop", "large")
	node.wantOK(startApp, "shop", "default")
	node.wantError(alreadyStarted, "app 'shop' is already started", startApp, "shop", "default")
	if m := node.wantOK(listApps); string(m) != "\x91\x91\xa4shop" {
		t.Errorf("list = %q, want [[shop]]", m)
	}
	shop := r.service(t, "shop")
	shop.wantEcho(0, "event")
	_ = shop.Close()
	node.wantEcho(enqueueApp, "shop", "event")
	info := string(codec.AppendJSONValue(nil, node.wantOK(appInfo, "shop", 7)))
	for _, want := range []string{`"state":"running"`, `"accepted":2`, `"slave":"run.sh"`, `"pool-limit":10`, `"queue":{`} {
		if !strings.Contains(info, want) {
			t.Errorf("info = %s, want %s in it", info, want)
		}
	}
	if brief := string(codec.AppendJSONValue(nil, node.wantOK(appInfo, "shop", 0))); strings.Contains(brief, "queue") {
		t.Errorf("info = %s, want state, uptime and profile only", brief)
	}
	node.wantOK(pauseApp, "shop")
	if _, ok := r.find(t, "shop"); ok {
		t.Error("the service of a paused application is there")
	}
	node.wantError(notRunning, "is not running", pauseApp, "shop")
}

// control has workers be there before any request.
func TestControl(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{Apps: []engine.Source{echoSource("echo", "echo")}})
	for i, c := range []*caller{r.service(t, "echo"), r.service(t, "node")} {
		want := i + 1
		id := c.open([]uint64{2, controlApp}[i], []any{"echo"}[:i]...)
		if err := c.send(codec.Frame{Kind: codec.KindCall, Session: id, Type: codec.V1Write, Args: codec.Args(want).Bytes()}); err != nil {
			t.Fatal(err)
		}
		for s := r.Stats(); s.Apps[0].Info.Spawned != uint64(want); s = r.Stats() {
			time.Sleep(time.Millisecond)
		}
		if err := c.send(codec.Frame{Kind: codec.KindChoke, Session: id}); err != nil {
			t.Fatal(err)
		}
		if m := c.answer(); m.Type != codec.V1Value || m.NumArgs != 0 {
			t.Errorf("the answer to the end of control is %+v, want an empty value", m)
		}
	}
}

// What was running is started again by the next engine, also after kill -9; what was
// paused is not.
func TestRestart(t *testing.T) {
	emptyTemp(t)
	dir := t.TempDir()
	r := run(t, engine.Config{Dir: dir})
	for _, name := range []string{"one", "two", "three"} {
		if err := r.Deploy(t.Context(), name, echoPackage(t, "echo")); err != nil {
			t.Fatal(err)
		}
		if err := r.StartApp(t.Context(), name, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.PauseApp(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if second, err := engine.New(engine.Config{Dir: dir, Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	} else if err := second.Run(t.Context()); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("Run() = %v for the same directory, want that it is locked", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); !slices.Equal(left, []string{"storage"}) {
		t.Errorf("the directory has %q, want the storage only", left)
	}
	// what a kill leaves
	for _, name := range []string{"run/app-1/engine.sock", "spool/one/core"} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	r = run(t, engine.Config{Dir: dir})
	if got := r.List(); !slices.Equal(got, []string{"one", "three"}) {
		t.Errorf("List() = %q, want what was running", got)
	}
	r.service(t, "one").wantEcho(0, "event")
	if _, err := os.Lstat(filepath.Join(dir, "spool", "one", "core")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat() = %v, want that nothing is left of the killed one", err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}

// A broken application keeps nobody from running, says why, and can be started once it
// is whole.
func TestBroken(t *testing.T) {
	emptyTemp(t)
	missing := filepath.Join(t.TempDir(), "missing")
	bad := echoSource("bad", "echo")
	bad.Profile = "nosuch"
	r := run(t, engine.Config{Apps: []engine.Source{bad, {Name: "gone", Path: missing}, echoSource("echo", "echo")}})
	s := r.Stats()
	if len(s.Apps) != 3 || s.Apps[0].State != engine.AppBroken || s.Apps[1].State != engine.AppRunning || s.Apps[2].State != engine.AppBroken {
		t.Fatalf("Stats().Apps = %+v, want bad and gone to be broken", s.Apps)
	}
	node := r.service(t, "node")
	info := string(codec.AppendJSONValue(nil, node.wantOK(appInfo, "gone")))
	if !strings.Contains(info, `"state":"broken"`) || !strings.Contains(info, "no such file") {
		t.Errorf("info = %s, want why it is broken", info)
	}
	for name, p := range map[string]string{"slave": `{"slave": "/nonexistent"}`, "mode": `{"slave": "/etc/passwd"}`, "json": `{"slave": `} {
		store := r.service(t, "storage")
		store.wantOK(1, "manifests", name, p, []string{"app"})
		node.wantError(service.NodeUncaughtSpool, "manifests/"+name, startApp, name, "")
	}
	if err := os.Symlink(echoDir(t, "echo"), missing); err != nil {
		t.Fatal(err)
	}
	node.wantOK(startApp, "gone")
	r.service(t, "gone").wantEcho(0, "event")
	node.wantOK(pauseApp, "bad")
	if got := r.List(); slices.Contains(got, "bad") {
		t.Errorf("List() = %q, want that the broken one is forgotten", got)
	}
}

// A client installs an application as the tools of the live runtimes do: by the storage.
// What it writes there cannot lead the engine out of its directory.
func TestInstall(t *testing.T) {
	emptyTemp(t)
	dir := t.TempDir()
	r := run(t, engine.Config{Dir: dir})
	p := echoPackage(t, "echo")
	store := r.service(t, "storage")
	for _, name := range []string{"plain", "packed", "../../evil"} {
		blob := p.ArchiveBlob
		if name == "packed" {
			blob = codec.AppendRaw(nil, blob)
		}
		store.wantOK(1, "apps", name, blob, []string{"app"})
		store.wantOK(1, "manifests", name, p.ManifestBlob, []string{"app"})
	}
	node := r.service(t, "node")
	for _, name := range []string{"plain", "packed"} {
		node.wantOK(startApp, name, "default")
		c := r.service(t, name)
		c.wantEcho(0, "event")
		_ = c.Close()
	}
	list := codec.AppendMapHeader(nil, 1)
	list = codec.AppendString(codec.AppendString(list, "../../evil"), "default")
	store.wantOK(1, "runlists", "default", list, []string{"runlist"})
	_, _ = store.Close(), node.Close()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = run(t, engine.Config{Dir: dir})
	if got := r.List(); len(got) > 0 {
		t.Errorf("List() = %q, want that the bad name is refused", got)
	}
	if left := names(t, filepath.Dir(dir)); slices.Contains(left, "evil") {
		t.Errorf("ReadDir() = %q, want nothing outside of the state", left)
	}
}

// A worker that dies leaves a crash log in the storage.
func TestCrashlog(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{Apps: []engine.Source{echoSource("dying", "exit")}})
	r.service(t, "dying").open(0, "event")
	store := r.service(t, "storage")
	var key string
	for key == "" {
		reader := codec.NewReader(store.wantOK(3, "crashlogs", []string{"dying"}))
		if reader.ArrayLen() > 0 {
			key = reader.String()
		} else {
			time.Sleep(time.Millisecond)
		}
	}
	if _, uuid, ok := strings.Cut(key, ":"); !ok || len(uuid) != 36 {
		t.Errorf("the key is %q, want time:uuid", key)
	}
	blob := codec.NewReader(store.wantOK(0, "crashlogs", key))
	text := string(codec.AppendJSONValue(nil, blob.Bytes()))
	if !strings.Contains(text, `"line 59"`) || !strings.Contains(text, "exit status 3") {
		t.Errorf("the crash log is %s, want the last lines and the status", text)
	}
}

// Reload takes new profiles, and all of them or none.
func TestReload(t *testing.T) {
	emptyTemp(t)
	next := engine.Config{}
	var fail error
	echo := echoSource("echo", "echo")
	echo.Profile = "p"
	r := run(t, engine.Config{
		Apps:     []engine.Source{echo},
		Profiles: map[string]engine.Profile{"p": {Concurrency: 1}},
		Reread:   func() (engine.Config, error) { return next, fail },
	})
	capacity := func() int { return r.Stats().Apps[0].Info.PoolLimit }
	next.Profiles = map[string]engine.Profile{"p": {PoolLimit: 7}}
	next.Groups = map[string]map[string]uint32{"all": {"echo": 1}}
	if err := r.Reload(t.Context()); err != nil || capacity() != 7 {
		t.Errorf("Reload() = %v and capacity %d, want 7", err, capacity())
	}
	r.service(t, "all").wantEcho(0, "event")
	next.Profiles = nil
	if err := r.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "echo") || capacity() != 7 {
		t.Errorf("Reload() = %v and capacity %d, want that the profile is missing", err, capacity())
	}
	next.Profiles = map[string]engine.Profile{"p": {PoolLimit: -3}}
	if err := r.Reload(t.Context()); err == nil || capacity() != 7 {
		t.Errorf("Reload() = %v and capacity %d, want that the profile is bad", err, capacity())
	}
	fail = errors.New("unreadable")
	if err := r.Reload(t.Context()); !errors.Is(err, fail) {
		t.Errorf("Reload() = %v, want %v", err, fail)
	}
}

// A worker that does not end when asked to is ended by force once the grace is over.
func TestGrace(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{Apps: []engine.Source{echoSource("tree", "tree")}, Grace: 50 * time.Millisecond})
	c := r.service(t, "tree")
	c.wantEcho(0, "event")
	c.open(0, "event") // and never ended
	for r.Stats().Apps[0].Info.Accepted != 2 {
		time.Sleep(time.Millisecond)
	}
	if err := r.stop(); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if left := others(t); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
}

// others returns the processes of this program that are alive, without this one (Linux
// only).
func others(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range list {
		line, _ := os.ReadFile(name)
		if strings.HasPrefix(string(line), os.Args[0]+"\x00") && filepath.Base(filepath.Dir(name)) != strconv.Itoa(os.Getpid()) {
			found = append(found, name)
		}
	}
	return found
}

// An engine that ends has its applications finish what they do.
func TestDrain(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{Apps: []engine.Source{echoSource("echo", "echo")}})
	c := r.service(t, "echo")
	c.wantEcho(0, "event")
	id := c.open(0, "event")
	for r.Stats().Apps[0].Info.Accepted != 2 {
		time.Sleep(time.Millisecond)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	for r.Stats().Apps[0].State != engine.AppStopping {
		time.Sleep(time.Millisecond)
	}
	if err := c.send(codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte("late")}, codec.Frame{Kind: codec.KindChoke, Session: id}); err != nil {
		t.Fatal(err)
	}
	if m := c.answer(); m.Type != codec.V1Write || string(m.Payload) != "late" {
		t.Errorf("the answer is %+v %q, want a chunk", m, m.Args)
	}
	if m := c.answer(); m.Type != codec.V1Close {
		t.Errorf("the answer is %+v %q, want a close", m, m.Args)
	}
	_ = c.Close()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
}

// An engine in v0: the services of the 0.11 runtime.
func TestEngineV0(t *testing.T) {
	emptyTemp(t)
	echo := echoSource("echo", "echo")
	echo.V0 = true
	r := run(t, engine.Config{V0: true, Apps: []engine.Source{echo}})
	c := callerOf(t, r.Endpoint(), codec.V0)
	c.open(0, "echo")
	m := c.answer()
	s, err := service.DecodeResolvedV0(m.Payload)
	if err != nil {
		t.Fatal(err)
	}
	c = callerOf(t, s.Endpoints[0], codec.V0)
	c.open(0, "event", "hi")
	if m := c.answer(); m.Type != codec.V0Chunk || string(m.Payload) != "hi" {
		t.Errorf("the answer is %+v %q, want a chunk", m, m.Args)
	}
	if m := c.answer(); m.Type != codec.V0Choke {
		t.Errorf("the answer is %+v, want a choke", m)
	}
	c.open(1)
	want := []string{"load-median", "queue", "sessions", "slaves", `"state":"running"`}
	m = c.answer()
	for _, key := range want {
		if info := string(codec.AppendJSONValue(nil, m.Payload)); !strings.Contains(info, key) {
			t.Errorf("info = %s, want %s in it", info, key)
		}
	}
	if m := c.answer(); m.Type != codec.V0Choke {
		t.Errorf("the answer is %+v, want a choke", m)
	}
}

// The node service of the 0.11 runtime answers with a text for each application.
func TestNodeServiceV0(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{V0: true})
	if err := r.Deploy(t.Context(), "echo", echoPackage(t, "echo")); err != nil {
		t.Fatal(err)
	}
	c := callerOf(t, r.Endpoint(), codec.V0)
	c.open(0, "node")
	s, err := service.DecodeResolvedV0(c.answer().Payload)
	if err != nil {
		t.Fatal(err)
	}
	c = callerOf(t, s.Endpoints[0], codec.V0)
	for i, want := range []string{
		`{"echo":"the app has been started","nobody":"app 'nobody' cannot be started: `,
		`["echo"]`,
		`{"echo":"the app has been stopped","nobody":"app 'nobody' is not running"}`,
		`[]`,
	} {
		apps := codec.AppendString(codec.AppendString([]byte{0x91, 0x82}, "echo"), "default")
		apps = codec.AppendString(codec.AppendString(apps, "nobody"), "default")
		names := codec.Args([]string{"nobody", "echo"}).Bytes()
		c.last++
		f := codec.Frame{Kind: codec.KindCall, Session: c.last, Type: []uint64{0, 2, 1, 2}[i], Args: [][]byte{apps, nil, names, nil}[i]}
		if err := c.send(f); err != nil {
			t.Fatal(err)
		}
		if got := string(codec.AppendJSONValue(nil, c.answer().Payload)); !strings.HasPrefix(got, want) {
			t.Errorf("method %d answers %s, want %s", f.Type, got, want)
		}
		if m := c.answer(); m.Type != codec.V0Choke {
			t.Errorf("the answer is %+v, want a choke", m)
		}
	}
}

func TestEngineConfig(t *testing.T) {
	a := engine.Source{Name: "a", Command: []string{"x"}}
	for name, cfg := range map[string]engine.Config{
		"no port":    {Listen: "127.0.0.1"},
		"no host":    {Listen: ":10053"},
		"bad port":   {Listen: "127.0.0.1:99999"},
		"twice":      {Apps: []engine.Source{a, a}},
		"no command": {Apps: []engine.Source{{Name: "a"}}},
		"both":       {Apps: []engine.Source{{Name: "a", Command: []string{"x"}, Path: "y"}}},
		"stock":      {Apps: []engine.Source{{Name: "locator", Command: []string{"x"}}}},
		"too many":   {Apps: []engine.Source{a}, MaxApps: 1, Profiles: map[string]engine.Profile{"p": {Concurrency: -1}}},
	} {
		if _, err := engine.New(cfg); err == nil || !strings.HasPrefix(err.Error(), "engine: Config.") {
			t.Errorf("New(%s) = %v, want an error that names the field", name, err)
		}
	}
}

// The port of the locator is taken: the error says so, and nothing is left.
func TestPortTaken(t *testing.T) {
	emptyTemp(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e, err := engine.New(engine.Config{Listen: ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "perhaps another engine") {
		t.Errorf("Run() = %v, want that the port is taken", err)
	}
}
