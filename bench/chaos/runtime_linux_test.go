package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/worker"
)

// maxHeapBytes bounds what is on a survivor's heap when it has nothing to do.
const maxHeapBytes = 64 << 20

// snapshot is what a runtime tells of itself.
type snapshot struct {
	Goroutines, FDs            int
	Heap                       uint64
	Conns, Pending             int
	Slaves, Load, Queue        int
	Accepted, Spawned, Crashed uint64
	Corrupt                    uint64
	AtWork                     []int // the workers that have served a request
}

// beRuntime is a runtime with one application, whose workers are this program too. It ends
// when its stdin does.
func beRuntime() int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	v0 := os.Getenv(v0Var) != ""
	e, err := engine.New(engine.Config{
		Listen: os.Getenv(addrVar),
		Dir:    os.Getenv(dirVar),
		Grace:  5 * time.Second,
		V0:     v0,
		Apps: []engine.Source{{
			Name: "echo", Command: []string{os.Args[0]}, Profile: "chaos", V0: v0,
			Env: []string{roleVar + "=worker", "GORACE=atexit_sleep_ms=0"},
		}},
		Profiles: map[string]engine.Profile{"chaos": {
			Name: "chaos", PoolLimit: 3, Concurrency: 4, QueueLimit: 1000, GrowThreshold: 2,
			IdleTimeout: time.Second, HandshakeTimeout: patience,
		}},
		Logging: engine.LoggingConfig{Output: io.Discard},
		Logger:  log,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	select {
	case <-e.Ready():
	case err := <-ended:
		fmt.Fprintln(os.Stderr, "Run:", err)
		return 1
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		text, _ := json.Marshal(look(e))
		fmt.Println(string(text))
	}
	cancel()
	if err := <-ended; err != nil {
		fmt.Fprintln(os.Stderr, "Run:", err)
		return 1
	}
	return 0
}

// look takes a snapshot of this process.
func look(e *engine.Engine) snapshot {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	stats := e.Stats()
	s := snapshot{Goroutines: runtime.NumGoroutine(), FDs: len(fds), Heap: m.HeapAlloc, Corrupt: stats.Store.CorruptReads + uint64(stats.Store.Corrupt)}
	for _, service := range stats.Services {
		s.Conns += service.Conns
		s.Pending += service.Pending
		s.Accepted += service.Accepted
	}
	for _, app := range stats.Apps {
		s.Conns += app.Service.Conns
		s.Pending += app.Service.Pending
		s.Accepted += app.Service.Accepted
		if i := app.Info; i != nil {
			s.Slaves += len(i.Slaves)
			s.Load += i.Load
			s.Queue += i.QueueDepth
			s.Spawned += i.Spawned
			s.Crashed += i.Crashed
			for _, slave := range i.Slaves {
				if slave.Accepted > 0 && slave.State == engine.Active {
					s.AtWork = append(s.AtWork, slave.PID)
				}
			}
		}
	}
	return s
}

// beWorker echoes. Some workers have a child, which sees their end.
func beWorker() int {
	w, err := worker.New(worker.FromArgs(os.Args[1:]))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	w.Handle("echo", func(ctx context.Context, s *worker.Session) error {
		for chunk, err := range s.Chunks(ctx) {
			if err != nil {
				return err
			}
			if _, err := s.Write(chunk); err != nil {
				return err
			}
		}
		return nil
	})
	if os.Getpid()%3 == 0 {
		leaf := exec.Command("cat")
		in, err := leaf.StdinPipe()
		if err == nil {
			err = leaf.Start()
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer func() {
			_ = in.Close()
			_ = leaf.Wait()
		}()
	}
	if err := w.Run(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// cloud is a runtime that may be killed and started again at the same address, with the
// same state.
type cloud struct {
	t     *testing.T
	run   string
	v0    bool
	dir   string
	addr  string
	err   string // file with the stderr of all its processes
	proc  *exec.Cmd
	in    io.WriteCloser
	lines chan string // of its stdout; closed when it has ended
	ended chan error
}

// newCloud chooses an address, and starts nothing.
func newCloud(t *testing.T, dir string, v0 bool) *cloud {
	t.Helper()
	port := freePort(t)
	return &cloud{
		t: t, dir: dir, v0: v0, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err: filepath.Join(t.TempDir(), "stderr"),
		run: fmt.Sprintf("%d-%d", os.Getpid(), port),
	}
}

// dialect returns the value of v0Var.
func (c *cloud) dialect() string {
	if c.v0 {
		return "yes"
	}
	return ""
}

// freePort returns a port that the system gives to nobody who connects, so that it is
// still free while the runtime is away.
func freePort(t *testing.T) int {
	t.Helper()
	for try := range 1000 {
		port := 12000 + (os.Getpid()*37+try*101)%18000
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// start starts the runtime; await waits for it.
func (c *cloud) start() {
	c.t.Helper()
	log, err := os.OpenFile(c.err, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	p := exec.Command(os.Args[0])
	p.Env = append(os.Environ(), roleVar+"=runtime", runVar+"="+c.run, dirVar+"="+c.dir, addrVar+"="+c.addr, v0Var+"="+c.dialect(), "GORACE=atexit_sleep_ms=0")
	p.Stderr = log
	out, err := p.StdoutPipe()
	if err == nil {
		c.in, err = p.StdinPipe()
	}
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	lines, ended := make(chan string, 16), make(chan error, 1)
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
		close(lines)
		ended <- p.Wait()
	}()
	c.proc, c.lines, c.ended = p, lines, ended
}

// await waits until the runtime is ready.
func (c *cloud) await() {
	c.t.Helper()
	if line := c.line(); line != "ready" {
		c.t.Fatalf("the runtime said %q, want ready; stderr: %s", line, c.stderr())
	}
}

func (c *cloud) line() string {
	c.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case line, ok := <-c.lines:
		if !ok {
			return "nothing, and ended"
		}
		return line
	case <-late.C:
		return "nothing for a long time"
	}
}

// look asks the runtime for a snapshot.
func (c *cloud) look() (s snapshot) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, "stats\n"); err != nil {
		c.t.Fatalf("the runtime takes no commands: %v; stderr: %s", err, c.stderr())
	}
	line := c.line()
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		c.t.Fatalf("the runtime said %q, want its stats; stderr: %s", line, c.stderr())
	}
	return s
}

// kill ends the runtime as nobody may see coming. Its workers are to end with it.
func (c *cloud) kill() (workers []process) {
	c.t.Helper()
	if c.proc == nil {
		return nil
	}
	workers = workersOf(c.run, c.proc.Process.Pid)
	if err := c.proc.Process.Kill(); err != nil {
		c.t.Errorf("kill the runtime: %v; it has ended by itself; stderr: %s", err, c.stderr())
	}
	for range c.lines { // to the end
	}
	<-c.ended
	_ = c.in.Close()
	c.proc = nil
	return workers
}

// stop ends the runtime in good order.
func (c *cloud) stop() {
	c.t.Helper()
	if c.proc == nil {
		return
	}
	_ = c.in.Close()
	timer := time.AfterFunc(patience, func() { _ = c.proc.Process.Kill() })
	defer timer.Stop()
	for range c.lines {
	}
	if err := <-c.ended; err != nil {
		c.t.Errorf("the runtime ended with %v, want nil; stderr: %s", err, c.stderr())
	}
	c.proc = nil
}

// stderr returns the last of what the processes said there.
func (c *cloud) stderr() string {
	text, _ := os.ReadFile(c.err)
	return string(text[max(0, len(text)-4000):])
}

// wantNoneLeft fails the test if a process of it is left, or anything told of a bug.
func (c *cloud) wantNoneLeft() {
	c.t.Helper()
	var left []process
	if !eventually(patience, func() bool { left = processes(c.run); return len(left) == 0 }) {
		c.t.Errorf("processes are left: %+v", left)
	}
	text, _ := os.ReadFile(c.err)
	if bug := bugIn(string(text)); bug != "" {
		c.t.Errorf("a process of the runtime says: %s", bug)
	}
}

// bugIn returns what a process said of a bug, from there on.
func bugIn(stderr string) string {
	for _, bug := range []string{"panic:", "fatal error:", "DATA RACE"} {
		if i := strings.Index(stderr, bug); i >= 0 {
			return stderr[i:min(len(stderr), i+4000)]
		}
	}
	return ""
}
