//go:build unix && !aix && !solaris

package channel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path of a unix socket: 107 bytes on Linux, 103 on others.
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

const (
	bindTries    = 16
	bindLockWait = 2 * time.Second
	probeWait    = time.Second
)

// listenUnix binds path by the rules of Listen. remove, if not nil, removes its file.
func listenUnix(ctx context.Context, path string) (_ acceptor, remove func() error, err error) {
	switch {
	case path == "" || path == "@":
		return nil, nil, errors.New("the path is empty")
	case path[0] == '@' && runtime.GOOS != "linux":
		return nil, nil, errors.New("abstract sockets exist on Linux only")
	case path[0] == '@' && len(path) > maxSocketPath+1: // no NUL at its end
		return nil, nil, fmt.Errorf("the name has %d bytes, the limit is %d", len(path), maxSocketPath+1)
	case path[0] == '@':
		ln, err := bindAt(ctx, path)
		if err != nil {
			return nil, nil, err
		}
		return ln, nil, nil
	case len(path) > maxSocketPath:
		return nil, nil, fmt.Errorf("the path has %d bytes, the limit is %d", len(path), maxSocketPath)
	}
	return bindFile(ctx, filepath.Clean(path))
}

// bindFile makes a listening socket appear at path. The directory is locked meanwhile,
// so that of several starters one decides at a time. The lock is on the directory
// itself: there is no lock file to be left behind, or to be put there by another.
func bindFile(ctx context.Context, path string) (_ acceptor, remove func() error, err error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("directory of the socket: %w", err)
	}
	defer dir.Close()
	if err := checkDir(dir); err != nil {
		return nil, nil, err
	}
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()

	dead, err := deadSocket(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	ln, temp, err := bindTemp(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	ours, err := os.Lstat(temp)
	if err == nil {
		err = publish(temp, path, dead)
	}
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close(), os.Remove(temp))
	}
	return ln, func() error { return removeSocket(full, ours) }, nil
}

// checkDir refuses a directory in which others could put something at our path, or
// take our socket away.
func checkDir(dir *os.File) error {
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("directory %s belongs to user %d, want root or user %d", dir.Name(), st.Uid, os.Geteuid())
	}
	if mode := info.Mode(); mode.Perm()&0o022 != 0 && mode&os.ModeSticky == 0 {
		return fmt.Errorf("directory %s has mode %v: others may write to it and it is not sticky", dir.Name(), mode)
	}
	return nil
}

// lockDir takes the lock of a directory. It is held for the time of a few calls, so
// waiting is done by asking again.
func lockDir(ctx context.Context, dir *os.File) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, bindLockWait)
	defer cancel()
	fd := int(dir.Fd())
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// Not left to close: a child just forked may hold the descriptor too.
			return func() { _ = unix.Flock(fd, unix.LOCK_UN) }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return nil, fmt.Errorf("lock directory %s: %w", dir.Name(), err)
		}
		again := time.NewTimer(time.Millisecond)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil, fmt.Errorf("lock directory %s: %w", dir.Name(), context.Cause(ctx))
		}
	}
}

// deadSocket looks at what is at path: nothing (nil), or a socket that may be replaced.
func deadSocket(ctx context.Context, path string) (os.FileInfo, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("there is something that is no socket (mode %v); it stays", info.Mode())
	}
	d := net.Dialer{Timeout: probeWait}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return nil, fmt.Errorf("in use by a live listener: %w", syscall.EADDRINUSE)
	case errors.Is(err, syscall.ECONNREFUSED):
		return info, nil
	case errors.Is(err, syscall.EAGAIN):
		return nil, fmt.Errorf("in use by a live listener, whose queue is full: %w", syscall.EADDRINUSE)
	}
	return nil, fmt.Errorf("cannot tell if the socket is in use: %w", err)
}

// bindTemp listens under a name of its own beside path, with mode 0600.
func bindTemp(ctx context.Context, path string) (ln *net.UnixListener, temp string, err error) {
	for range bindTries {
		temp = tempName(path)
		if ln, err = bindAt(ctx, temp); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("bind beside the path: %w", err)
	}
	if err := os.Chmod(temp, 0o600); err != nil {
		return nil, "", errors.Join(err, ln.Close(), os.Remove(temp))
	}
	return ln, temp, nil
}

// tempName is another name in the directory of path, random, that says what it is for
// as far as the limit lets it. A process that is killed before publish leaves it behind.
func tempName(path string) string {
	dir, base := filepath.Split(path)
	for {
		name := base + "." + strconv.FormatUint(1<<31+rand.Uint64N(1<<31), 36)
		temp := dir + name[max(0, len(dir)+len(name)-maxSocketPath):]
		if temp != path {
			return temp
		}
	}
}

func bindAt(ctx context.Context, path string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// Linux gives the file the mode of the socket, less the umask: nobody else can
		// connect before the chmod. Systems that know nothing of it say EINVAL.
		return raw.Control(func(fd uintptr) { _ = unix.Fchmod(int(fd), 0o600) })
	}}
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the rest names the temporary path
		}
		return nil, err
	}
	unixLn := ln.(*net.UnixListener)
	unixLn.SetUnlinkOnClose(false) // it would remove the name it was bound to
	return unixLn, nil
}

// publish moves the socket from temp to path: in the place of the dead socket that was
// seen there, else only if there is still nothing.
func publish(temp, path string, dead os.FileInfo) error {
	if dead == nil {
		err := os.Link(temp, path)
		switch {
		case err == nil:
			return os.Remove(temp)
		case errors.Is(err, fs.ErrExist):
			return errors.New("something appeared there just now")
		}
		// This file system has no links to sockets: look, then move.
	}
	now, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case dead == nil || !os.SameFile(now, dead):
		return errors.New("something else appeared there just now")
	}
	return os.Rename(temp, path)
}

// removeSocket removes the socket's file if it is still ours. The lock keeps a starter
// from putting its own there between the look and the removal.
func removeSocket(path string, ours os.FileInfo) error {
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_DIRECTORY, 0)
	if err != nil {
		return ignoreNotExist(err)
	}
	defer dir.Close()
	unlock, err := lockDir(context.Background(), dir)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := os.Lstat(path)
	if err != nil || !os.SameFile(now, ours) {
		return ignoreNotExist(err)
	}
	return os.Remove(path)
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// reserve is a descriptor that is held only to be given up.
type reserve struct {
	fd   int
	held bool
}

func (r *reserve) take() {
	if r.held {
		return
	}
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	r.fd, r.held = fd, err == nil
}

// release gives the descriptor up and reports whether there was one.
func (r *reserve) release() bool {
	held := r.held
	if held {
		_ = unix.Close(r.fd)
		r.held = false
	}
	return held
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// acceptAgain reports whether accept may work again after err: resources ran out, or
// the error is one that the connection brought with it (accept(2), "Error handling").
func acceptAgain(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EAGAIN, syscall.EPERM, syscall.EPROTO,
		syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENOPROTOOPT,
		syscall.ETIMEDOUT:
		return true
	}
	return false
}
