//go:build unix && !aix && !solaris

package channel

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
