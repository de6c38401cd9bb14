package channel

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"

	errorx "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

// eventLoops says whether this system has the event loop.
const eventLoops = true

// pollLoop runs channels on gnet's poller. Everything that gnet does is in this file:
// the poller says which descriptor is ready; reading, writing and closing are ours,
// since gnet's own Conn can neither pause reading nor tell that a socket is writable
// (ARCHITECTURE.md has the figures). Waking up is ours as well: the poller runs what is
// posted to it until nothing is left before it looks at any socket.
type pollLoop struct {
	loop
	poller  *netpoll.Poller
	log     *slog.Logger
	streams []*pollStream // by descriptor; owned by the loop
	stopped bool          // owned by the loop

	wakeMu sync.Mutex // held while wakeFd is written to, so that no reused number is
	wakeFd int        // an eventfd; closed and -1 when the loop is over
}

// pollStream is a socket on a pollLoop.
type pollStream struct {
	l        *pollLoop
	c        *Channel
	fd       int
	paused   bool
	interest interest // what the poller is told
}

type interest uint8

const (
	pollRead interest = 1 << iota
	pollWrite
)

func openPollLoop(log *slog.Logger) (*pollLoop, error) {
	p, err := netpoll.OpenPoller()
	if err != nil {
		return nil, fmt.Errorf("open poller: %w", err)
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err == nil {
		// Edge-triggered: each write is one event, and nobody has to read.
		if err = p.AddRead(&netpoll.PollAttachment{FD: fd}, true); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("open the poller's wake-up: %w", err)
	}
	l := &pollLoop{poller: p, log: log, wakeFd: fd}
	l.wake = l.wakeUp
	return l, nil
}

// wakeUp makes an event for the loop. Any goroutine.
func (l *pollLoop) wakeUp() {
	one := binary.NativeEndian.AppendUint64(make([]byte, 0, 8), 1)
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	if l.wakeFd < 0 {
		return
	}
	if _, err := unix.Write(l.wakeFd, one); err != nil {
		l.log.Error("channel: waking the event loop failed", "err", err)
	}
}

// run polls until stop.
func (l *pollLoop) run() {
	err := l.poller.Polling(l.onEvent)
	if !l.stopped {
		l.log.Error("channel: the event loop ended", "err", err)
		l.end()
	}
	l.wakeMu.Lock()
	_ = unix.Close(l.wakeFd)
	l.wakeFd = -1
	l.wakeMu.Unlock()
	if err := l.poller.Close(); err != nil {
		l.log.Warn("channel: closing the poller", "err", err)
	}
}

// stop ends the loop's channels and then the loop. Any goroutine.
func (l *pollLoop) stop() { l.post(nil, func() { l.stopped = true }) }

// end runs what was posted in time, and ends what is on the loop.
func (l *pollLoop) end() {
	l.loop.close()
	l.runPosts()
	for _, s := range l.streams {
		if s != nil {
			s.c.Fail(&CloseError{Code: CodeClosed, Reason: "its event loop was closed"})
		}
	}
	l.endTurn()
}

// onWake is the turn of posts: one for every wake-up.
func (l *pollLoop) onWake() error {
	l.runPosts()
	l.endTurn()
	if l.stopped {
		l.end()
		return errorx.ErrEngineShutdown
	}
	return nil
}

// onEvent is the turn of one readable or writable socket. The event may be stale (the
// descriptor was closed and reused since the kernel reported it), so it is only a hint
// to try: what read and write then say is what counts.
func (l *pollLoop) onEvent(fd int, ev netpoll.IOEvent, _ netpoll.IOFlags) error {
	switch {
	case fd == l.wakeFd:
		return l.onWake()
	case fd >= len(l.streams) || l.streams[fd] == nil:
		return nil
	}
	s := l.streams[fd]
	if ev&netpoll.WriteEvents != 0 || netpoll.IsErrorEvent(ev, 0) {
		s.setInterest(s.interest &^ pollWrite)
		s.c.writable()
	}
	if ev&^netpoll.WriteEvents != 0 && !s.paused {
		s.read()
	}
	l.endTurn()
	return nil
}

// attach takes the socket out of Go's own poller and puts it on this loop.
func (l *pollLoop) attach(c *Channel, conn net.Conn, open func()) error {
	fd, err := takeFd(conn)
	if err != nil {
		return err
	}
	s := &pollStream{l: l, c: c, fd: fd}
	c.loop, c.stream = &l.loop, s
	ok := l.post(nil, func() {
		for len(l.streams) <= fd {
			l.streams = append(l.streams, nil)
		}
		l.streams[fd] = s
		open()
		if s.fd >= 0 {
			s.setInterest(s.interest | pollRead)
		}
	})
	if !ok {
		_ = unix.Close(fd)
		return fmt.Errorf("the event loop is closed: %w", net.ErrClosed)
	}
	return nil
}

// takeFd duplicates the socket's descriptor and closes the original.
func takeFd(conn net.Conn) (fd int, err error) {
	defer func() { _ = conn.Close() }()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	if cerr != nil {
		return -1, cerr
	}
	return fd, os.NewSyscallError("dup", err)
}

// setInterest tells the poller what to watch. Watching nothing takes the descriptor
// out: level-triggered hang-ups would otherwise be reported without end.
func (s *pollStream) setInterest(want interest) {
	if s.paused {
		want &^= pollRead
	}
	if want == s.interest {
		return
	}
	pa := netpoll.PollAttachment{FD: s.fd}
	p, had := s.l.poller, s.interest
	s.interest = want
	var err error
	switch {
	case want == 0:
		err = p.Delete(s.fd)
	case had == 0 && want == pollRead:
		err = p.AddRead(&pa, false)
	case had == 0 && want == pollWrite:
		err = p.AddWrite(&pa, false)
	case had == 0:
		err = p.AddReadWrite(&pa, false)
	case want == pollRead:
		err = p.ModRead(&pa, false)
	case want == pollWrite: // there is no ModWrite
		if err = p.Delete(s.fd); err == nil {
			err = p.AddWrite(&pa, false)
		}
	default:
		err = p.ModReadWrite(&pa, false)
	}
	if err != nil {
		s.c.breakWith(err)
	}
}

// read takes what the socket has, up to one buffer, and delivers it.
func (s *pollStream) read() {
	defer s.c.guard()
	for s.c.mayRead() {
		n, err := unix.Read(s.fd, s.c.readSpace())
		switch {
		case n > 0:
			s.c.gotInput(n)
		case n == 0 && err == nil:
			s.setInterest(s.interest &^ pollRead)
			s.c.inputEnded(io.EOF)
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
		default:
			s.c.inputEnded(os.NewSyscallError("read", err))
		}
		return
	}
}

func (s *pollStream) write(p []byte) (n int, later bool, err error) {
	for {
		n, err = unix.Write(s.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			n = 0
		case err != nil:
			return 0, false, os.NewSyscallError("write", err)
		}
		if n < len(p) {
			s.setInterest(s.interest | pollWrite)
		}
		return n, false, nil
	}
}

func (s *pollStream) setPaused(paused bool) {
	s.paused = paused
	if paused {
		s.setInterest(s.interest)
		return
	}
	s.setInterest(s.interest | pollRead)
	s.l.post(s.c, s.c.deliver)
}

func (s *pollStream) unread() bool { return unreadOf(s.fd) }

// unreadOf reports whether bytes wait in a socket.
func unreadOf(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	return err == nil && n > 0
}

// socketUnread is unreadOf for a connection that is not ours, and may be closed.
func socketUnread(raw syscall.RawConn) (unread bool) {
	err := raw.Control(func(fd uintptr) { unread = unreadOf(int(fd)) })
	return err == nil && unread
}

func (s *pollStream) poll() {
	if s.interest&pollRead != 0 {
		s.read()
	}
}

func (s *pollStream) closeWrite() { _ = unix.Shutdown(s.fd, unix.SHUT_WR) }

// close gives the descriptor back. After it the number may belong to somebody else:
// nothing uses s.fd any more, since the channel has dropped the stream.
func (s *pollStream) close() {
	if s.l.streams[s.fd] == s {
		s.l.streams[s.fd] = nil
	}
	_ = unix.Close(s.fd)
	s.fd, s.interest = -1, 0
}

func (s *pollStream) wait() {}
