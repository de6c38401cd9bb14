package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/internal/invariants"
)

// ListenConfig sets up a Listener. The zero value works.
type ListenConfig struct {
	// MaxConns bounds the connections that were accepted and not yet given back with
	// Release. What comes beyond is accepted, closed at once and counted. If zero,
	// 10000. If negative, no limit.
	MaxConns int
	// Logger for refusals and for errors that Serve survives, at most one line in
	// 10 s. If nil, slog.Default().
	Logger *slog.Logger
}

// ListenStats is a snapshot of what a Listener did.
type ListenStats struct {
	Accepted uint64 // given to Serve's function
	Refused  uint64 // accepted and closed at once, over MaxConns or out of descriptors
	Retries  uint64 // errors of accept after which Serve went on
	Active   int    // accepted and not released
}

const (
	acceptMinDelay = 10 * time.Millisecond
	acceptMaxDelay = time.Second
	refuseWait     = time.Millisecond
	acceptLogEvery = 10 * time.Second
)

// A Listener accepts connections on one address. It survives running out of
// descriptors or memory, and connections that die in the queue. Any goroutine may call
// its methods.
type Listener struct {
	// immutable
	ln     acceptor
	addr   net.Addr
	remove func() error // of the socket's file; nil if there is none
	max    int64
	log    *slog.Logger
	stop   chan struct{} // closed by Close
	done   chan struct{} // closed when Serve returns
	close  func() error  // once

	// owned by the goroutine in Serve
	reserve reserve
	logged  time.Time
	silent  int // lines that were not logged since

	active, accepted, refused, retries atomic.Int64

	mu      sync.Mutex // guards serving; held while stop is closed
	serving bool
}

// acceptor is what a Listener needs of a *net.TCPListener or *net.UnixListener.
type acceptor interface {
	Accept() (net.Conn, error)
	Close() error
	SetDeadline(time.Time) error
}

// Listen opens a listener of network "tcp", "tcp4", "tcp6" or "unix"; it starts no
// goroutine. Connections wait in the kernel until Serve takes them.
//
// Of a unix socket addr is the path. On unix systems:
//   - the path is at most 107 bytes long (103 outside Linux). On Linux "@name" is an
//     abstract socket, which has no file: every user of the network namespace may
//     connect to it;
//   - the directory exists, belongs to us or to root, and nobody else may write to it,
//     unless it is sticky like /tmp;
//   - a socket at the path that nobody answers on is replaced. One that answers gives an
//     error that is syscall.EADDRINUSE; its owner sees a connection come and go.
//     Anything else there, a file, a directory or a symbolic link, is an error and stays;
//   - the socket appears at its path when it listens, with mode 0600 whatever the umask.
//     It was bound under a longer name in the same directory, and that is what
//     LocalAddr of the connections and tools like ss show.
//
// On other systems a unix socket is what the net package makes of it.
func Listen(ctx context.Context, network, addr string, cfg ListenConfig) (*Listener, error) {
	var ln acceptor
	var at net.Addr
	var remove func() error
	var err error
	switch network {
	case "tcp", "tcp4", "tcp6":
		ln, at, err = listenTCP(ctx, network, addr)
	case "unix":
		at = &net.UnixAddr{Name: addr, Net: network}
		if ln, remove, err = listenUnix(ctx, addr); err != nil {
			err = &net.OpError{Op: "listen", Net: network, Addr: at, Err: err}
		}
	default:
		err = &net.OpError{Op: "listen", Net: network, Err: net.UnknownNetworkError(network)}
	}
	if err != nil {
		return nil, err
	}
	return newListener(ln, at, remove, cfg), nil
}

func listenTCP(ctx context.Context, network, addr string) (acceptor, net.Addr, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // Go's default is one more layer in the kernel, for many paths
	ln, err := lc.Listen(ctx, network, addr)
	if err != nil {
		return nil, nil, err
	}
	return ln.(*net.TCPListener), ln.Addr(), nil
}

func newListener(ln acceptor, addr net.Addr, remove func() error, cfg ListenConfig) *Listener {
	orInt(&cfg.MaxConns, 10_000)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	l := &Listener{
		ln: ln, addr: addr, remove: remove, max: int64(cfg.MaxConns), log: cfg.Logger,
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	l.close = sync.OnceValue(l.shut)
	return l
}

// Addr returns the address that peers connect to.
func (l *Listener) Addr() net.Addr { return l.addr }

// Stats returns what happened so far.
func (l *Listener) Stats() ListenStats {
	return ListenStats{
		Accepted: uint64(l.accepted.Load()), Refused: uint64(l.refused.Load()),
		Retries: uint64(l.retries.Load()), Active: int(l.active.Load()),
	}
}

// Release says that one connection that Serve's function was given is closed, so that
// another one may come. Call it once for each.
func (l *Listener) Release() {
	invariants.Check(l.active.Add(-1) >= 0, "Release without a connection")
}

// Serve accepts connections and calls f with each, on this goroutine, until Close; then
// it returns nil. f owns the connection, must be quick, and must not call Close. Serve
// is called once.
//
// Errors of single connections and of exhausted resources are survived: Serve waits
// 10 ms, then twice as long each time up to 1 s, and goes on. Out of descriptors, it
// gives up one that it holds in reserve to refuse one waiting connection each time,
// which would hang otherwise. Serve returns the error only if the socket is unusable.
func (l *Listener) Serve(f func(net.Conn)) error {
	if !l.begin() {
		return errors.New("channel: Serve was called before on this Listener")
	}
	defer close(l.done)
	l.reserve.take()
	defer l.reserve.release()
	var delay time.Duration
	for !l.stopped() {
		c, err := l.ln.Accept()
		switch {
		case err == nil:
			delay = 0
			l.admit(c, f)
		case l.stopped():
		case !acceptAgain(err):
			return fmt.Errorf("channel: accept on %v: %w", l.addr, err)
		default:
			delay = min(max(2*delay, acceptMinDelay), acceptMaxDelay)
			l.survive(err, delay)
		}
	}
	return nil
}

// begin reports whether this is the first Serve. It has either begun before Close,
// which then waits for it, or sees that the Listener is stopped.
func (l *Listener) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := !l.serving
	l.serving = true
	return first
}

func (l *Listener) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// admit gives c to f, or refuses it.
func (l *Listener) admit(c net.Conn, f func(net.Conn)) {
	switch {
	case l.stopped():
		_ = c.Close()
	case l.active.Load() >= l.max:
		l.refuse(c)
		l.warn("channel: connection refused", "max_conns", l.max)
	default:
		l.active.Add(1)
		l.accepted.Add(1)
		f(c)
	}
}

func (l *Listener) refuse(c net.Conn) {
	l.refused.Add(1)
	_ = c.Close()
}

// survive waits after an error of accept, until Close at most.
func (l *Listener) survive(err error, delay time.Duration) {
	l.retries.Add(1)
	l.warn("channel: accept failed, going on", "err", err, "delay", delay)
	if outOfDescriptors(err) {
		l.refuseOne()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.stop:
	}
}

// refuseOne has the reserve's descriptor carry a waiting connection to its end. There
// may be none: Linux takes the descriptor before it looks.
func (l *Listener) refuseOne() {
	defer l.reserve.take()
	if !l.reserve.release() {
		return
	}
	_ = l.ln.SetDeadline(time.Now().Add(refuseWait))
	c, err := l.ln.Accept()
	_ = l.ln.SetDeadline(time.Time{})
	if err == nil {
		l.refuse(c)
	}
}

// warn logs a line unless one was logged just now.
func (l *Listener) warn(msg string, args ...any) {
	now := time.Now()
	if !l.logged.IsZero() && now.Sub(l.logged) < acceptLogEvery {
		l.silent++
		return
	}
	l.log.Warn(msg, append(args, "addr", l.addr.String(), "unlogged", l.silent)...)
	l.logged, l.silent = now, 0
}

// Close stops Serve and waits for it, which is until f returns at most. A unix socket's
// file is removed if it is still ours. Connections that were accepted live on; those
// that wait in the kernel are reset. Close returns the same error every time.
func (l *Listener) Close() error { return l.close() }

func (l *Listener) shut() error {
	l.mu.Lock()
	serving := l.serving
	close(l.stop)
	l.mu.Unlock()
	var err error
	if l.remove != nil {
		err = l.remove() // before the socket is closed: its inode is ours until then
	}
	err = errors.Join(err, l.ln.Close())
	if serving {
		<-l.done
	}
	return err
}

// PrivateDir makes a fresh directory of mode 0700 for sockets, named prefix and a
// number, in [os.TempDir], or in /tmp if names of 32 bytes would not fit there. remove
// deletes the files and sockets in it and then the directory; it fails rather than to
// enter another directory.
func PrivateDir(prefix string) (dir string, remove func() error, err error) {
	parent := os.TempDir()
	longest := filepath.Join(parent, prefix+strconv.FormatUint(math.MaxUint32, 10), strings.Repeat("x", 32))
	if len(longest) > maxSocketPath && os.PathSeparator == '/' {
		parent = "/tmp"
	}
	dir, err = os.MkdirTemp(parent, prefix)
	if err != nil {
		return "", nil, fmt.Errorf("channel: private directory: %w", err)
	}
	made, err := os.Lstat(dir)
	if err == nil {
		err = os.Chmod(dir, 0o700) // the umask may have taken from us
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("channel: private directory: %w", err), os.Remove(dir))
	}
	return dir, func() error { return removeDir(dir, made) }, nil
}

// removeDir removes dir, if it is still the one that was made, and the files in it.
func removeDir(dir string, made os.FileInfo) error {
	now, err := os.Lstat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !os.SameFile(now, made):
		return fmt.Errorf("channel: %s is not the directory that was made", dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !e.IsDir() {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(err, os.Remove(dir))
}
