//go:build unix

package engine_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
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
	if s.State != engine.NodeRunning || len(s.Services) != 5 || len(s.Apps) != 1 {
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
	if s := r.State(); s != engine.NodeStopped {
		t.Errorf("State() = %v, want stopped", s)
	}
	if err := r.Run(t.Context()); err == nil {
		t.Error("the second Run() = nil, want an error")
	}
	if err := r.StartApp(t.Context(), "echo", ""); err == nil {
		t.Error("StartApp() = nil after Run, want an error")
	}
}

// The node service from the first start to the last pause (protocol: app and node).
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
	logFile := filepath.Join(t.TempDir(), "log")
	r := run(t, engine.Config{
		Apps:     []engine.Source{echo},
		Profiles: map[string]engine.Profile{"p": {Concurrency: 1}},
		Reread:   func() (engine.Config, error) { return next, fail },
		Logging:  engine.LoggingConfig{File: logFile},
	})
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	capacity := func() int { return r.Stats().Apps[0].Info.PoolLimit }
	next.Profiles = map[string]engine.Profile{"p": {PoolLimit: 7}}
	next.Groups = map[string]map[string]uint32{"all": {"echo": 1}}
	if err := r.Reload(t.Context()); err != nil || capacity() != 7 {
		t.Errorf("Reload() = %v and capacity %d, want 7", err, capacity())
	}
	r.service(t, "all").wantEcho(0, "event")
	if _, err := os.Stat(logFile); err != nil {
		t.Errorf("the log that was moved away is not opened anew: %v", err)
	}
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

// A client of ours finds an application by the locator and streams both ways.
func TestClient(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{Apps: []engine.Source{echoSource("echo", "echo")}})
	c, err := service.Connect(t.Context(), service.Config{Locators: []string{r.Endpoint().String()}})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := c.Service("echo").Open(t.Context(), "enqueue", codec.Args("event"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := stream.Send(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		if p, err := stream.Recv(t.Context()); string(p) != text || err != nil {
			t.Fatalf("Recv() = %q, %v, want %q", p, err, text)
		}
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(t.Context()); err != io.EOF {
		t.Errorf("Recv() = %v, want the end", err)
	}
	_, err = c.Service("node").Call(t.Context(), "start_app", codec.Args("echo", "default"))
	var se *session.Error
	if !errors.As(err, &se) || !se.Remote || se.Category != service.CategoryNode || se.Code != alreadyStarted {
		t.Errorf("start_app = %v, want that it is started", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v, want nil", err)
	}
}
