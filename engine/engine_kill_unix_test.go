//go:build unix

package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
)

// kill9 runs an engine in a process of its own, has its worker serve, and kills it.
func kill9(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=node", "NODE_DIR="+dir, "NODE_PACKAGE="+echoDir(t, "echo"))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	locator, bad := service.ParseEndpoint(strings.TrimSpace(line))
	if err != nil || bad != nil {
		t.Fatalf("the engine said %q, %v, want where its locator is", line, err)
	}
	s, ok := lookUp(t, locator, "echo")
	if !ok {
		t.Fatal("there is no service echo")
	}
	callerOf(t, s.Endpoints[0], codec.V1).wantEcho(0, "event")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// What kill -9 leaves hinders no next engine, and is cleared away by it; what was running
// runs again.
func TestKill9(t *testing.T) {
	emptyTemp(t)
	dir := filepath.Join(t.TempDir(), "state", "sluice")
	kill9(t, dir)
	if left := names(t, dir); len(left) != 3 {
		t.Errorf("the killed engine left %q, want run, spool and storage", left)
	}
	r := run(t, engine.Config{Dir: dir})
	c := r.service(t, "echo")
	c.wantEcho(0, "event")
	_ = c.Close()
	if left := names(t, filepath.Join(dir, "run")); len(left) != 1 {
		t.Errorf("there are %q for sockets, want those of one application", left)
	}
	if err := r.PauseApp(t.Context(), "echo"); err != nil {
		t.Errorf("PauseApp() = %v, want nil", err)
	}
}

// The temporary directory of a killed engine is removed by the next one, that of a running
// one is not.
func TestSweep(t *testing.T) {
	emptyTemp(t)
	first := run(t, engine.Config{})
	kill9(t, "")
	if left := places(t); len(left) != 2 {
		t.Fatalf("the temporary directory has %q, want that of the killed one and of the other", left)
	}
	second := run(t, engine.Config{})
	if left := places(t); len(left) != 2 {
		t.Errorf("the temporary directory has %q, want those of the two that run", left)
	}
	for _, r := range []*running{first, second} {
		r.service(t, "storage").wantOK(1, "c", "k", "v")
	}
}

// A directory that an engine is just making, which has no lock yet, is left to it.
func TestSweepUnfinished(t *testing.T) {
	emptyTemp(t)
	dir := filepath.Join(os.TempDir(), "sluice-engine-1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(filepath.Join(dir, "storage"), storage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil { // its lock is there, and nobody has it
		t.Fatal(err)
	}
	if err := run(t, engine.Config{}).stop(); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if left := places(t); len(left) != 1 {
		t.Errorf("the temporary directory has %q, want the one that is being made", left)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

// So are the directories of sockets at which nobody listens, once they are old enough.
func TestSweepSockets(t *testing.T) {
	emptyTemp(t)
	old := time.Now().Add(-time.Hour)
	for i, c := range []struct {
		dead bool
		at   time.Time
		left bool
	}{{true, old, false}, {false, old, true}, {true, time.Now(), true}} {
		dir := filepath.Join(os.TempDir(), fmt.Sprintf("sluice-%d", i))
		socket := filepath.Join(dir, "engine.sock")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		if c.dead {
			_ = ln.Close()
		}
		if err := os.Chtimes(socket, c.at, c.at); err != nil {
			t.Fatal(err)
		}
		r := run(t, engine.Config{})
		if _, err := os.Lstat(dir); (err == nil) != c.left {
			t.Errorf("%+v: Lstat() = %v after the start of an engine", c, err)
		}
		if err := r.stop(); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		_ = ln.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// places returns the directories of engines in the temporary one.
func places(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(os.TempDir(), "sluice-engine-*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Services are on the ports above the locator's, the next free one each.
func TestPorts(t *testing.T) {
	emptyTemp(t)
	first := freePorts(t, 2)
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+1))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	e, err := engine.New(engine.Config{Listen: fmt.Sprintf("127.0.0.1:%d", first), RuntimeDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	select {
	case <-e.Ready():
		last := uint16(first + 1) // which is taken
		for _, s := range e.Stats().Services[1:] {
			if port := s.Endpoints[0].Port; port <= last {
				t.Errorf("%s is on port %d, want one above %d", s.Name, port, last)
			} else {
				last = port
			}
		}
		cancel()
		err = <-ended
	case err = <-ended:
		cancel()
	}
	if err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
}
