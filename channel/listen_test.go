//go:build unix && !aix && !solaris

package channel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

var quietLog = slog.New(slog.DiscardHandler)

// socketDir is a directory that Listen trusts, empty again at the end of the test.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, remove, err := PrivateDir("sluice-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mustListen(t *testing.T, network, addr string, cfg ListenConfig) *Listener {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quietLog
	}
	l, err := Listen(t.Context(), network, addr, cfg)
	if err != nil {
		t.Fatalf("Listen(%s, %q) = %v", network, addr, err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return l
}

// refused checks that Listen fails, and that what is at path stays.
func refused(t *testing.T, path, why string) {
	t.Helper()
	before, _ := os.Lstat(path)
	l, err := Listen(t.Context(), "unix", path, ListenConfig{})
	if err == nil {
		_ = l.Close()
		t.Fatalf("%s: Listen(%q) works", why, path)
	}
	if before != nil {
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: what was at %q is gone: %v", why, path, err)
		}
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), why) {
		t.Errorf("Listen(%q) = %v, want an error that says %q", path, err, why)
	}
}

// fileNames lists a directory.
func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// deadSocketAt leaves a socket at path that nobody listens on.
func deadSocketAt(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
}

// greet serves l with one line for each connection, until the test ends.
func greet(t *testing.T, l *Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- l.Serve(func(c net.Conn) {
			_, _ = c.Write([]byte("hello\n"))
			_ = c.Close()
			l.Release()
		})
	}()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
}

// greeting connects and returns what it is told, "" if it is refused.
func greeting(t *testing.T, network, addr string) string {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	text, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("no answer from %s: %v", addr, err)
	}
	return strings.TrimSpace(string(text))
}

func TestListenServe(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, network := range []string{"tcp", "tcp4", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(socketDir(t), "s")
			}
			l := mustListen(t, network, addr, ListenConfig{})
			greet(t, l)
			for range 3 {
				if got := greeting(t, network, l.Addr().String()); got != "hello" {
					t.Fatalf("greeting() = %q", got)
				}
			}
			if err := errors.Join(l.Close(), l.Close()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			if got, want := l.Stats(), (ListenStats{Accepted: 3}); got != want {
				t.Errorf("Stats() = %+v, want %+v", got, want)
			}
			if err := l.Serve(nil); err == nil {
				t.Error("a second Serve works")
			}
		})
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestListenBadNetwork(t *testing.T) {
	for _, network := range []string{"", "udp", "unixgram", "tcp9"} {
		var unknown net.UnknownNetworkError
		if _, err := Listen(t.Context(), network, "127.0.0.1:0", ListenConfig{}); !errors.As(err, &unknown) {
			t.Errorf("Listen(%q) = %v, want UnknownNetworkError", network, err)
		}
	}
	if _, err := Listen(t.Context(), "tcp", "127.0.0.1:99999", ListenConfig{}); err == nil {
		t.Error("Listen on port 99999 works")
	}
}

// fakeAcceptor gives out what the test puts into next.
type fakeAcceptor struct {
	next      chan any // net.Conn or error
	closed    chan struct{}
	deadline  atomic.Bool
	exhausted atomic.Bool // EMFILE, whatever is in next
}

func newFakeListener(cfg ListenConfig) (*fakeAcceptor, *Listener) {
	if cfg.Logger == nil {
		cfg.Logger = quietLog
	}
	f := &fakeAcceptor{next: make(chan any, 100), closed: make(chan struct{})}
	return f, newListener(f, pairAddr(0), nil, cfg)
}

func (f *fakeAcceptor) Accept() (net.Conn, error) {
	if f.exhausted.Load() {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	if f.deadline.Load() && len(f.next) == 0 {
		return nil, os.ErrDeadlineExceeded
	}
	select {
	case v := <-f.next:
		if c, ok := v.(net.Conn); ok {
			return c, nil
		}
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", v.(error))}
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

func (f *fakeAcceptor) Close() error { close(f.closed); return nil }

func (f *fakeAcceptor) SetDeadline(t time.Time) error { f.deadline.Store(!t.IsZero()); return nil }

// fakeConn is one end of a pair whose other end is closed.
func fakeConn() net.Conn {
	a, b := Pair(Script{})
	_ = b.Close()
	return a
}

func TestListenBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		var times []time.Duration
		start := time.Now()
		done := make(chan error, 1)
		go func() {
			done <- l.Serve(func(c net.Conn) { times = append(times, time.Since(start)); _ = c.Close() })
		}()
		ms := time.Millisecond
		for _, v := range []any{
			syscall.ENOBUFS, syscall.ECONNABORTED, fakeConn(), // 10 + 20 ms
			syscall.ENOMEM, fakeConn(), // 10 ms again
			syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS,
			syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS, fakeConn(), // 10 … 640, 1000, 1000
		} {
			f.next <- v
		}
		passTime(time.Minute)
		synctest.Wait()
		if want := []time.Duration{30 * ms, 40 * ms, 3310 * ms}; !slices.Equal(times, want) {
			t.Errorf("accepted after %v, want %v", times, want)
		}
		if got, want := l.Stats(), (ListenStats{Accepted: 3, Retries: 12, Active: 3}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
		for range 8 {
			f.next <- syscall.ENOBUFS
		}
		passTime(10 * ms * 127)
		within(t, "Close in a wait of a second", 0, func() { _ = l.Close() })
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
}

func TestListenUnusable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		f.next <- syscall.EBADF
		if err := l.Serve(nil); !errors.Is(err, syscall.EBADF) {
			t.Errorf("Serve() = %v, want EBADF", err)
		}
		_ = l.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		_ = l.Close()
		f.next <- fakeConn()
		if err := l.Serve(nil); err != nil {
			t.Errorf("Serve() after Close = %v", err)
		}
	})
}

// TestListenReserve runs out of descriptors: one waiting connection is refused in each
// round, and none is waited for if there is none.
func TestListenReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		f.next <- syscall.EMFILE
		f.next <- fakeConn()
		f.next <- syscall.ENFILE
		go func() { _ = l.Serve(func(c net.Conn) { _ = c.Close() }) }()
		passTime(time.Second)
		f.next <- fakeConn()
		synctest.Wait()
		if got, want := l.Stats(), (ListenStats{Accepted: 1, Active: 1, Refused: 1, Retries: 2}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
		_ = l.Close()
	})
}

func TestListenLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		f, l := newFakeListener(ListenConfig{MaxConns: 1, Logger: slog.New(slog.NewTextHandler(&text, nil))})
		go func() { _ = l.Serve(func(net.Conn) {}) }()
		for range 50 {
			f.next <- fakeConn()
		}
		passTime(time.Minute)
		f.next <- fakeConn()
		synctest.Wait()
		_ = l.Close()
		if n := strings.Count(text.String(), "\n"); n != 2 || !strings.Contains(text.String(), "unlogged=48") {
			t.Errorf("%d lines for 50 refusals:\n%s", n, text.String())
		}
	})
}

// TestListenDescriptors runs out of descriptors in earnest, in a child process that
// allows itself few.
func TestListenDescriptors(t *testing.T) {
	if os.Getenv("SLUICE_TEST_DESCRIPTORS") != "" {
		fewDescriptors(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestListenDescriptors$")
	cmd.Env = append(os.Environ(), "SLUICE_TEST_DESCRIPTORS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	ask := func(command string) string {
		_, _ = fmt.Fprintln(in, command)
		lines.Scan()
		return lines.Text()
	}
	addr := ask("addr")
	for _, step := range []struct{ command, want string }{{"", "hello"}, {"exhaust", ""}, {"", ""}, {"free", "hello"}, {"", "hello"}} {
		if step.command != "" {
			t.Logf("%s: %s", step.command, ask(step.command))
		}
		if got := greeting(t, "tcp", addr); got != step.want {
			t.Errorf("after %q: greeting() = %q, want %q", step.command, got, step.want)
		}
	}
	if got := ask("stats"); !strings.HasPrefix(got, "accepted 3 refused 2 ") {
		t.Errorf("stats: %s", got)
	}
}

// fewDescriptors is the child of TestListenDescriptors.
func fewDescriptors(t *testing.T) {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	l := mustListen(t, "tcp", "127.0.0.1:0", ListenConfig{})
	greet(t, l)
	var taken []int
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		switch commands.Text() {
		case "addr":
			fmt.Println(l.Addr())
		case "exhaust":
			fd, err := unix.Dup(0)
			for ; err == nil; fd, err = unix.Dup(0) {
				taken = append(taken, fd)
			}
			fmt.Println(err)
		case "free":
			for _, fd := range taken {
				_ = unix.Close(fd)
			}
			fmt.Println(len(taken))
		case "stats":
			s := l.Stats()
			fmt.Println("accepted", s.Accepted, "refused", s.Refused, "retries", s.Retries)
		}
	}
}

// TestCatalogueListen has the rows of the fault catalogue that listeners answer for.
func TestCatalogueListen(t *testing.T) {
	t.Run("D1", func(t *testing.T) {
		t.Run("once", TestListenBackoff)
		t.Run("30s", exhaustedFor30s)
	})
	t.Run("D2", tooManyConns)
	t.Run("D17", otherThingsAtPath)
	t.Run("D18", liveAndDead)
	t.Run("D19", untrustedPlaces)
	t.Run("D20", umasks)
	t.Run("D23", addresses)
}

func exhaustedFor30s(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		f.exhausted.Store(true)
		served := make(chan struct{})
		go func() { _ = l.Serve(func(c net.Conn) { _ = c.Close(); close(served) }) }()
		passTime(30 * time.Second)
		f.exhausted.Store(false)
		f.next <- fakeConn()
		// Looks after 0, 10, 30 … 630 ms, then at 1.27 s and every second after it.
		if got, want := l.Stats(), (ListenStats{Retries: 36}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
		within(t, "recovery", 270*time.Millisecond, func() { <-served })
		_ = l.Close()
	})
}

func tooManyConns(t *testing.T) {
	const limit, extra = 5, 20
	l := mustListen(t, "tcp", "127.0.0.1:0", ListenConfig{MaxConns: limit})
	served := make(chan net.Conn, limit+extra)
	go func() { _ = l.Serve(func(c net.Conn) { served <- c }) }()
	var kept []net.Conn
	for range limit {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s := <-served
		defer s.Close()
		kept = append(kept, c, s)
	}
	for range extra {
		if got := greeting(t, "tcp", l.Addr().String()); got != "" {
			t.Errorf("over the limit: %q", got)
		}
	}
	for i := 0; i < len(kept); i += 2 {
		buf := make([]byte, 4)
		_, _ = kept[i].Write([]byte("ping"))
		if _, err := io.ReadFull(kept[i+1], buf); err != nil || string(buf) != "ping" {
			t.Errorf("a connection within the limit: %q, %v", buf, err)
		}
	}
	if got, want := l.Stats(), (ListenStats{Accepted: limit, Active: limit, Refused: extra}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
	_ = kept[0].Close()
	l.Release()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = (<-served).Close()
}

// otherThingsAtPath: what is no socket is never removed, neither at the start nor at
// the end.
func otherThingsAtPath(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	refused(t, filepath.Join(dir, "missing", "s"), "no such file or directory")
	refused(t, "", "empty")
	for name, thing := range otherThings(t, dir) {
		thing(path)
		refused(t, path, "no socket")
		refused(t, filepath.Join(path, "s"), "directory")
		if err := errors.Join(os.RemoveAll(path), os.RemoveAll(filepath.Join(dir, "s.d"))); err != nil {
			t.Fatal(err)
		}

		l := mustListen(t, "unix", path, ListenConfig{})
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		thing(path)
		if err := l.Close(); err != nil {
			t.Errorf("%s in its place: Close() = %v", name, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("Close removed the %s in the socket's place", name)
		}
		if err := errors.Join(os.RemoveAll(path), os.RemoveAll(filepath.Join(dir, "s.d"))); err != nil {
			t.Fatal(err)
		}
	}
	l := mustListen(t, "unix", path, ListenConfig{})
	_ = os.Remove(path)
	bound := l.ln.(*net.UnixListener).Addr().String() // the kernel's name of the socket
	if err := os.WriteFile(bound, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close() without the file = %v", err)
	}
	if err := os.Remove(bound); err != nil {
		t.Errorf("Close removed another file: %v", err)
	}
	if left := fileNames(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func otherThings(t *testing.T, dir string) map[string]func(path string) {
	return map[string]func(path string){
		"file": func(path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Error(err)
			}
		},
		"directory": func(path string) {
			if err := os.MkdirAll(filepath.Join(path, "precious"), 0o777); err != nil {
				t.Error(err)
			}
			if err := os.Chmod(path, 0o777); err != nil { // refused as a parent too
				t.Error(err)
			}
		},
		"link": func(path string) {
			if err := os.Symlink("nowhere-directory", path); err != nil {
				t.Error(err)
			}
		},
		"link to a dead socket": func(path string) {
			deadSocketAt(t, filepath.Join(dir, "s.d"))
			if err := os.Symlink("s.d", path); err != nil {
				t.Error(err)
			}
		},
	}
}

func liveAndDead(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	inUse := func(why string) {
		t.Helper()
		refused(t, path, "in use by a live listener")
		if _, err := Listen(t.Context(), "unix", path, ListenConfig{}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: Listen() = %v, want EADDRINUSE", why, err)
		}
	}
	deadSocketAt(t, path)
	l := mustListen(t, "unix", path, ListenConfig{})
	inUse("ours, not served")
	greet(t, l)
	inUse("ours")
	if got := greeting(t, "unix", path); got != "hello" {
		t.Errorf("greeting() = %q", got)
	}
	if got := fileNames(t, dir); !slices.Equal(got, []string{"s"}) {
		t.Errorf("in the directory: %v, want the socket only", got)
	}
	_ = l.Close()
	if got := fileNames(t, dir); len(got) > 0 {
		t.Errorf("after Close: %v", got)
	}
	t.Run("other listener", func(t *testing.T) {
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		inUse("of another program")
	})
	t.Run("full queue", func(t *testing.T) { fullQueue(t, path, func() { inUse("with a full queue") }) })
	t.Run("datagram socket", func(t *testing.T) {
		c, err := net.ListenPacket("unixgram", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		refused(t, path, "cannot tell")
	})
	t.Run("starters", startersRace)
}

// fullQueue runs f while the listener at path has no room for another connection.
func fullQueue(t *testing.T, path string, f func()) {
	socket := func() int {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	at := &unix.SockaddrUnix{Name: path}
	fd := socket()
	if err := errors.Join(unix.Bind(fd, at), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	for range 10 {
		c := socket()
		_ = unix.SetNonblock(c, true)
		if err := unix.Connect(c, at); err != nil {
			f()
			return
		}
	}
	t.Error("the queue takes any number of connections")
}

// startersRace: of many that start at once, one wins and the others say "in use",
// whether nothing or a dead socket is at the path.
func startersRace(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	for round := range 30 {
		if round%2 == 1 {
			deadSocketAt(t, path)
		}
		var wg sync.WaitGroup
		var winner atomic.Pointer[Listener]
		for range 6 {
			wg.Go(func() {
				l, err := Listen(t.Context(), "unix", path, ListenConfig{})
				switch {
				case err == nil:
					if !winner.CompareAndSwap(nil, l) {
						t.Error("two starters won")
					}
				case !errors.Is(err, syscall.EADDRINUSE):
					t.Errorf("Listen() = %v, want EADDRINUSE", err)
				}
			})
		}
		wg.Wait()
		if winner.Load() == nil {
			t.Fatal("no starter won")
		}
		if err := winner.Load().Close(); err != nil {
			t.Error(err)
		}
		if left := fileNames(t, dir); len(left) > 0 {
			t.Fatalf("left behind: %v", left)
		}
	}
}

func untrustedPlaces(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	defer os.Chmod(dir, 0o700)
	for mode, ok := range map[os.FileMode]bool{
		0o700: true, 0o755: true, 0o777 | os.ModeSticky: true, 0o770 | os.ModeSticky: true,
		0o777: false, 0o770: false, 0o702: false,
	} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if !ok {
			refused(t, path, "others may write")
			continue
		}
		_ = mustListen(t, "unix", path, ListenConfig{}).Close()
	}
	_ = os.Chmod(dir, 0o700)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, filepath.Join(file, "s"), "not a directory")
	live := mustListen(t, "unix", filepath.Join(dir, "live"), ListenConfig{})
	if err := os.Symlink("live", path); err != nil {
		t.Fatal(err)
	}
	refused(t, path, "no socket")
	_ = live.Close()
	t.Run("owner", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can make a directory of somebody else")
		}
		dir := socketDir(t)
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		refused(t, filepath.Join(dir, "s"), "belongs to user 65534")
	})
}

func umasks(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	for _, mask := range []int{0, 0o022, 0o777} {
		old := unix.Umask(mask)
		l, err := Listen(t.Context(), "unix", path, ListenConfig{})
		private, remove, dirErr := PrivateDir("sluice-test")
		unix.Umask(old)
		if err := errors.Join(err, dirErr); err != nil {
			t.Fatalf("umask %03o: %v", mask, err)
		}
		for p, want := range map[string]os.FileMode{path: os.ModeSocket | 0o600, private: os.ModeDir | 0o700} {
			if info, err := os.Lstat(p); err != nil || info.Mode() != want {
				t.Errorf("umask %03o: %v, %v, want mode %v", mask, info.Mode(), err, want)
			}
		}
		if err := errors.Join(l.Close(), remove()); err != nil {
			t.Error(err)
		}
	}
}

// TestBindMode: on Linux the socket's file is never open to others, not even before
// the chmod.
func TestBindMode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux gives the file the mode of the socket")
	}
	path := filepath.Join(socketDir(t), "s")
	old := unix.Umask(0)
	ln, err := bindAt(t.Context(), path)
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func addresses(t *testing.T) {
	t.Run("abstract", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			refused(t, "@sluice-test", "Linux only")
			return
		}
		name := fmt.Sprintf("@sluice-test-%d", os.Getpid())
		l := mustListen(t, "unix", name, ListenConfig{})
		greet(t, l)
		if got := greeting(t, "unix", l.Addr().String()); got != "hello" {
			t.Errorf("greeting() = %q", got)
		}
		refused(t, name, "address already in use")
		refused(t, "@", "empty")
		refused(t, "@"+strings.Repeat("x", maxSocketPath+1), "the limit is")
		mustListen(t, "unix", name+strings.Repeat("x", maxSocketPath+1-len(name)), ListenConfig{})
	})
	t.Run("path", func(t *testing.T) {
		dir := socketDir(t)
		base := strings.Repeat("s", maxSocketPath-len(dir)-1)
		refused(t, filepath.Join(dir, base+"s"), "the limit is")
		deep := filepath.Join(dir, base[:len(base)-2])
		if err := os.Mkdir(deep, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(deep)
		for _, path := range []string{filepath.Join(dir, base), filepath.Join(deep, "s")} {
			l := mustListen(t, "unix", path, ListenConfig{})
			greet(t, l)
			if got := greeting(t, "unix", path); got != "hello" {
				t.Errorf("greeting() = %q", got)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("relative path", func(t *testing.T) {
		dir := socketDir(t)
		t.Chdir(dir)
		l := mustListen(t, "unix", "./x/../s", ListenConfig{})
		t.Chdir("/")
		if err := l.Close(); err != nil || len(fileNames(t, dir)) > 0 {
			t.Errorf("Close() = %v, left %v", err, fileNames(t, dir))
		}
	})
	t.Run("scope", func(t *testing.T) {
		host := linkLocal()
		if host == "" {
			t.Skip("no interface has a link-local IPv6 address")
		}
		l := mustListen(t, "tcp6", net.JoinHostPort(host, "0"), ListenConfig{})
		greet(t, l)
		if got := greeting(t, "tcp6", l.Addr().String()); got != "hello" {
			t.Errorf("greeting() = %q", got)
		}
	})
}

// linkLocal returns an address with its zone, or "".
func linkLocal() string {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() == nil && ip.IP.IsLinkLocalUnicast() {
				return ip.IP.String() + "%" + i.Name
			}
		}
	}
	return ""
}

func TestListenLockHeld(t *testing.T) {
	dir := socketDir(t)
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unlock, err := lockDir(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Listen(ctx, "unix", filepath.Join(dir, "s"), ListenConfig{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Listen() while another starter holds the lock = %v", err)
	}
}

func TestTempName(t *testing.T) {
	long := "/" + strings.Repeat("d", maxSocketPath-3) + "/s"
	for range 1000 {
		for _, path := range []string{"s", "/run/s", long} {
			temp := tempName(path)
			if temp == path || filepath.Dir(temp) != filepath.Dir(path) || len(temp) > maxSocketPath {
				t.Fatalf("tempName(%q) = %q", path, temp)
			}
		}
	}
	if temp := tempName("/run/s"); !strings.HasPrefix(temp, "/run/s.") {
		t.Errorf("tempName does not say what it is for: %q", temp)
	}
}

// TestPublish has something appear at the path after the look at it.
func TestPublish(t *testing.T) {
	dir := socketDir(t)
	path, temp := filepath.Join(dir, "s"), filepath.Join(dir, "s.t")
	deadSocketAt(t, temp)
	other, err := os.Lstat(temp)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dead := range []os.FileInfo{nil, other} {
		if err := publish(temp, path, dead); err == nil || !strings.Contains(err.Error(), "appeared") {
			t.Errorf("publish() over a new file = %v", err)
		}
	}
	_ = os.Remove(path)
	if err := publish(temp, path, other); err != nil { // the dead one is gone meanwhile
		t.Errorf("publish() = %v", err)
	}
}

func TestPrivateDir(t *testing.T) {
	dir, remove, err := PrivateDir("sluice-test")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(dir)
	if err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	deadSocketAt(t, filepath.Join(dir, "s"))
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err == nil {
		t.Error("remove enters directories")
	}
	if got := fileNames(t, dir); !slices.Equal(got, []string{"sub"}) {
		t.Errorf("left: %v", got)
	}
	_ = os.Remove(sub)
	if err := errors.Join(remove(), remove()); err != nil {
		t.Errorf("remove() = %v", err)
	}
	if err := os.Symlink(t.TempDir(), dir); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err == nil {
		t.Error("remove follows a link in the directory's place")
	}
	_ = os.Remove(dir)

	t.Setenv("TMPDIR", "/tmp/"+strings.Repeat("x", maxSocketPath))
	if dir, remove, err = PrivateDir("sluice-test"); err != nil || filepath.Dir(dir) != "/tmp" {
		t.Errorf("with a long TMPDIR: PrivateDir() = %q, %v", dir, err)
	}
	_ = remove()
	if _, _, err := PrivateDir("a/b"); err == nil {
		t.Error("a prefix with a separator works")
	}
}
