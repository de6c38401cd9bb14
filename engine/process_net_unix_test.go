//go:build unix

package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/engine/enginetest"
	"github.com/sluice-rpc/sluice/session"
)

// spawn starts this program as a worker, with a temporary directory that must be empty
// again at the end.
func spawn(t *testing.T, role string, cfg engine.SlaveConfig) *engine.Slave {
	t.Helper()
	emptyTemp(t)
	return enginetest.Spawn(t, self(role, cfg))
}

// emptyTemp gives the test a temporary directory that must be empty at the end.
func emptyTemp(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Errorf("the temporary directory: %v", err)
		}
	})
}

// ended waits for a slave to be gone and returns its error.
func ended(t *testing.T, s *engine.Slave) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.Wait(ctx)
	if ctx.Err() != nil {
		t.Fatalf("the slave is %v and does not end", s.State())
	}
	return err
}

// roundTrip invokes the echo and compares the answer.
func roundTrip(t *testing.T, s *engine.Slave) {
	t.Helper()
	call, err := s.Invoke(t.Context(), "event", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := call.Send(t.Context(), []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	if err := call.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(call.Reader(t.Context()))
	if string(got) != "hellohellohello" || err != nil {
		t.Fatalf("the answer is %q, %v, want what was sent", got, err)
	}
}

func TestProcess(t *testing.T) {
	dialects(t, func(t *testing.T, d codec.Dialect) {
		s := spawn(t, "echo", engine.SlaveConfig{Dialect: d})
		roundTrip(t, s)
		roundTrip(t, s)
		if err := s.Terminate(t.Context(), 1, "bye"); err != nil {
			t.Errorf("Terminate() = %v, want nil", err)
		}
		if st := s.Stats(); st.Invoked != 2 || st.Sessions.Completed != 2 || st.Load != 0 || st.State != engine.Gone {
			t.Errorf("Stats() = %+v, want two sessions", st)
		}
	})
}

// The flags of the live runtimes in their order, both outputs in one pipe, the caller's
// directory, the environment with ours in it.
func TestStart(t *testing.T) {
	dialects(t, func(t *testing.T, d codec.Dialect) {
		t.Setenv("OF_OURS", "ours")
		dir := t.TempDir()
		cfg := engine.SlaveConfig{Dialect: d, App: "shop", Locator: "10.0.0.1:10053,[::1]:10053", Dir: dir, Env: []string{"OF_CONFIG=config"}}
		s := spawn(t, "args", cfg)
		se := wantSlaveError(t, ended(t, s), engine.SlaveExited)
		if se.Status != "exit status 0" || len(se.Output) != 2 {
			t.Fatalf("Err() = %+v, want two lines", se)
		}
		protocol := map[codec.Dialect]string{codec.V0: "", codec.V1: "--protocol 1 "}[d]
		endpoint, _, _ := strings.Cut(strings.TrimPrefix(se.Output[0], "--app shop --endpoint "), " ")
		want := "--app shop --endpoint " + endpoint + " --locator 10.0.0.1:10053,[::1]:10053 " + protocol + "--uuid " + s.UUID()
		if se.Output[0] != want || !strings.HasPrefix(endpoint, os.TempDir()) {
			t.Errorf("flags %q, want %q", se.Output[0], want)
		}
		if want := dir + " ours config " + s.UUID(); se.Output[1] != want {
			t.Errorf("directory and environment %q, want %q", se.Output[1], want)
		}
	})
}

func TestUUID(t *testing.T) {
	emptyTemp(t)
	a, b := enginetest.Spawn(t, self("mute", engine.SlaveConfig{})), enginetest.Spawn(t, self("mute", engine.SlaveConfig{}))
	for _, u := range []string{a.UUID(), b.UUID()} {
		if len(u) != 36 || u[14] != '4' || !strings.Contains("89ab", u[19:20]) || strings.Count(u, "-") != 4 {
			t.Errorf("UUID() = %q, want version 4", u)
		}
	}
	if a.UUID() == b.UUID() {
		t.Errorf("two slaves have the uuid %q", a.UUID())
	}
}

// A worker that ends at once: its last lines are in the error.
func TestExitsAtOnce(t *testing.T) {
	s := spawn(t, "exit", engine.SlaveConfig{})
	se := wantSlaveError(t, s.Ready(t.Context()), engine.SlaveExited)
	if n := len(se.Output); n != 50 || se.Output[0] != "line 10" || se.Output[n-1] != "line 59" {
		t.Errorf("Output = %q, want the last 50 lines", se.Output)
	}
	if want := "engine: slave: exited: the process ended by itself (exit status 3); its last line: line 59"; se.Error() != want {
		t.Errorf("Error() = %q, want %q", se, want)
	}
}

func TestNoProgram(t *testing.T) {
	emptyTemp(t)
	_, err := engine.Spawn(t.Context(), engine.SlaveConfig{Command: []string{"no-such-program"}})
	if !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("Spawn() = %v, want that there is no such program", err)
	}
	if _, err = engine.Spawn(t.Context(), engine.SlaveConfig{Command: []string{"/"}}); err == nil {
		t.Error("Spawn(a directory) = nil, want an error")
	}
	_, err = engine.Spawn(t.Context(), self("mute", engine.SlaveConfig{Dir: "/no/such/dir"}))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/dir") {
		t.Errorf("Spawn() = %v, want that there is no such directory", err)
	}
}

func TestNoSocket(t *testing.T) {
	t.Setenv("TMPDIR", "/nonexistent")
	if _, err := engine.Spawn(t.Context(), self("echo", engine.SlaveConfig{})); err == nil {
		t.Error("Spawn() = nil, want an error")
	}
}

func TestShell(t *testing.T) {
	emptyTemp(t)
	cfg := self("args", engine.SlaveConfig{})
	cfg.Command = engine.Shell(`env OF_CONFIG="two words" '` + os.Args[0] + `' "first arg"`)
	s := enginetest.Spawn(t, cfg)
	se := wantSlaveError(t, ended(t, s), engine.SlaveExited)
	if len(se.Output) != 2 || !strings.HasPrefix(se.Output[0], "first arg --app app") || !strings.Contains(se.Output[1], "two words") {
		t.Errorf("Output = %q, want the quoted words", se.Output)
	}
}

func TestNeverShakesHands(t *testing.T) {
	s := spawn(t, "mute", engine.SlaveConfig{HandshakeTimeout: 50 * time.Millisecond, KillTimeout: time.Hour})
	se := wantSlaveError(t, s.Ready(t.Context()), engine.SlaveActivateTimeout)
	if se.Status != "signal: terminated" {
		t.Errorf("Status = %q, want that SIGTERM ended it", se.Status)
	}
}

func TestIgnoresTerminate(t *testing.T) {
	for _, tt := range []struct {
		role, want string
		kill       time.Duration // no matter how slow the machine is, SIGTERM ends the deaf one
	}{
		{"deaf", "signal: terminated", time.Hour},
		{"stubborn", "signal: killed", 50 * time.Millisecond},
	} {
		t.Run(tt.role, func(t *testing.T) {
			s := spawn(t, tt.role, engine.SlaveConfig{TerminateTimeout: 50 * time.Millisecond, KillTimeout: tt.kill})
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			se := wantSlaveError(t, s.Terminate(t.Context(), 1, "bye"), engine.SlaveTerminateTimeout)
			if se.Status != tt.want {
				t.Errorf("Status = %q, want %q", se.Status, tt.want)
			}
		})
	}
}

// kill -9 of the leader, whose children ignore SIGTERM: nothing of the group is left
// (catalogue D7). Spawn's cleanup looks at the group.
func TestLeaderKilled(t *testing.T) {
	dialects(t, func(t *testing.T, d codec.Dialect) {
		s := spawn(t, "tree", engine.SlaveConfig{Dialect: d})
		roundTrip(t, s)
		if n := len(enginetest.Group(s.PID())); runtime.GOOS == "linux" && n != 4 {
			t.Fatalf("the group has %d processes, want 4 with its guard", n)
		}
		call, err := s.Invoke(t.Context(), "event", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_, err = call.Recv(t.Context())
		var se *session.Error
		if !errors.As(err, &se) || se.Remote {
			t.Errorf("Recv() = %v, want a local error", err)
		}
		gone := wantSlaveError(t, ended(t, s), engine.SlaveExited)
		if gone.Status != "signal: killed" {
			t.Errorf("Status = %q, want that it was killed", gone.Status)
		}
		if left := enginetest.Group(s.PID()); len(left) > 0 {
			t.Errorf("when the slave is gone %v are alive", left)
		}
		if err := syscall.Kill(s.PID(), 0); err != syscall.ESRCH {
			t.Errorf("the leader: %v, want that it was reaped", err)
		}
	})
}

// The same for an orderly end: a leader that exits leaves nobody behind.
func TestChildrenOutliveLeader(t *testing.T) {
	s := spawn(t, "tree", engine.SlaveConfig{})
	roundTrip(t, s)
	if err := s.Terminate(t.Context(), 1, "bye"); err != nil {
		t.Errorf("Terminate() = %v, want nil", err)
	}
	if left := enginetest.Group(s.PID()); len(left) > 0 {
		t.Errorf("when the slave is gone %v are alive", left)
	}
}

// The kernel kills a leader when the thread that started it ends: ours must not.
func TestSpawningThreadEnds(t *testing.T) {
	emptyTemp(t)
	spawned := make(chan *engine.Slave)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		s, err := engine.Spawn(context.Background(), self("echo", engine.SlaveConfig{}))
		if err != nil {
			t.Error(err)
		}
		spawned <- s
	}()
	s := <-spawned
	if s == nil {
		return
	}
	defer func() { s.Kill(); <-s.Done() }()
	for range 20 {
		runtime.GC()
		roundTrip(t, s)
	}
	if err := s.Terminate(t.Context(), 1, "bye"); err != nil {
		t.Errorf("Terminate() = %v, want nil", err)
	}
}

// An engine that is killed takes its workers with it, and the whole group of each: here the
// leader has children that ignore every signal, and see nothing of the channel.
func TestEngineKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=engine", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(enginetest.Group(pid)); runtime.GOOS == "linux" && n != 4 {
		t.Fatalf("the group of the worker %d has %d processes, want 4 with its guard", pid, n)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for begin := time.Now(); len(enginetest.Group(pid)) > 0; time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			left := enginetest.Group(pid)
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			t.Fatalf("%v of the worker's group outlive its engine", left)
		}
	}
}

// Many come and go, killed at any moment; nothing is left of them.
func TestKilledAtAnyMoment(t *testing.T) {
	emptyTemp(t)
	before := openFiles(t)
	for i := range 30 {
		d := codec.Dialect(i % 2)
		s := enginetest.Spawn(t, self("echo", engine.SlaveConfig{Dialect: d}))
		time.Sleep(time.Duration(i) * 300 * time.Microsecond) // from before the connection to after the handshake
		switch i % 3 {
		case 0:
			s.Kill()
		case 1:
			if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		case 2:
			_ = s.Terminate(t.Context(), 1, "bye")
		}
		_ = ended(t, s)
		wantNoChannels(t)
	}
	for begin := time.Now(); openFiles(t) > before; time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("%d descriptors are open, %d were before", openFiles(t), before)
		}
	}
}

// wantNoChannels fails the test if a goroutine of a channel is there to stay. One that has
// told of its end may still have to take its last step.
func wantNoChannels(t *testing.T) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, "sluice/channel") {
			return
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("when the slave is gone a goroutine of its channels is left:\n%s", stacks)
		}
	}
}

// Connections that say nothing are bounded, and end with the slave.
func TestManyStrangers(t *testing.T) {
	s := spawn(t, "mute", engine.SlaveConfig{HandshakeTimeout: -1})
	sockets, err := filepath.Glob(filepath.Join(os.TempDir(), "sluice-*", "engine.sock"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("Glob() = %q, %v, want one socket", sockets, err)
	}
	const admitted, refused = 64, 5
	var list []net.Conn
	for range admitted + refused {
		c, err := net.Dial("unix", sockets[0])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		list = append(list, c)
	}
	for _, c := range list[admitted:] {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("Read() = nil, want that the connection was closed")
		}
	}
	if n := s.Stats().Strangers; n != refused {
		t.Errorf("Stats().Strangers = %d, want %d", n, refused)
	}
	s.Kill()
	_ = ended(t, s)
	wantNoChannels(t)
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
