package main

import (
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// serveGoEpoll is the least that a loop in Go can be: an epoll of our own, system calls
// that the scheduler does not see, one read buffer, one write a turn.
func serveGoEpoll(network, addr string) error {
	l, err := listenEpoll(network, addr)
	if err != nil {
		return err
	}
	for events := make([]unix.EpollEvent, 256); ; {
		n := l.wait(events)
		for _, ev := range events[:n] {
			if int(ev.Fd) == l.listener {
				l.accept()
			} else if c := l.conns[int(ev.Fd)]; !l.turn(c) {
				_ = unix.Close(c.fd)
				delete(l.conns, c.fd)
			}
		}
	}
}

type epollServer struct {
	epoll, listener int
	tcp             bool
	conns           map[int]*epollConn
	buf             []byte
	keep            net.Listener // or the collector closes it
}

type epollConn struct {
	fd    int
	state echoState
	in    []byte // a frame that was begun
}

func listenEpoll(network, addr string) (*epollServer, error) {
	ln, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	l := &epollServer{tcp: network == "tcp", conns: make(map[int]*epollConn), buf: make([]byte, 64<<10), keep: ln}
	f, err := ln.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil, err
	}
	if l.listener, err = unix.Dup(int(f.Fd())); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(l.listener, true); err != nil {
		return nil, err
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	ready(ln.Addr().String())
	return l, l.watch(l.listener)
}

func (l *epollServer) watch(fd int) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// wait looks first without telling the scheduler, and waits if there is nothing.
func (l *epollServer) wait(events []unix.EpollEvent) int {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), 0, 0, 0)
	if e == 0 && n > 0 {
		return int(n)
	}
	more, err := unix.EpollWait(l.epoll, events, -1)
	if err != nil {
		return 0
	}
	return more
}

func (l *epollServer) accept() {
	for {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if l.tcp {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
		l.conns[fd] = &epollConn{fd: fd, state: newPrefixEcho()}
		if l.watch(fd) != nil {
			_ = unix.Close(fd)
		}
	}
}

// turn reads once and answers; it reports false when the connection is over.
func (l *epollServer) turn(c *epollConn) bool {
	if len(c.in) == 0 {
		n, e := rawIO(unix.SYS_READ, c.fd, l.buf)
		if n <= 0 {
			return e == unix.EAGAIN
		}
		used := c.state.feed(l.buf[:n])
		c.in = append(c.in, l.buf[used:n]...)
		return c.answer()
	}
	if cap(c.in)-len(c.in) < 64<<10 {
		c.in = append(make([]byte, 0, len(c.in)+256<<10), c.in...)
	}
	n, e := rawIO(unix.SYS_READ, c.fd, c.in[len(c.in):len(c.in)+64<<10])
	if n <= 0 {
		return e == unix.EAGAIN
	}
	c.in = c.in[:len(c.in)+n]
	c.in = c.in[:copy(c.in, c.in[c.state.feed(c.in):])]
	return c.answer()
}

func (c *epollConn) answer() bool {
	for out := c.state.replies(); len(out) > 0; {
		n, e := rawIO(unix.SYS_WRITE, c.fd, out)
		if e != 0 && e != unix.EAGAIN {
			return false
		}
		out = out[max(n, 0):]
	}
	return true
}

// rawIO is read(2) or write(2) on a socket that does not block.
func rawIO(call uintptr, fd int, p []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), e
}
