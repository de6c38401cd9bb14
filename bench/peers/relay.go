package main

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// serveRelay is what stands between a client and a worker when nobody looks at the bytes:
// goepoll's loop with two sockets instead of one. The worker is sluice-v1 in a process of
// its own, behind a unix socket as an engine has it, and greets through the relay.
func serveRelay(network, addr string) error {
	dir, err := os.MkdirTemp("", "peers-relay")
	if err != nil {
		return err
	}
	worker := filepath.Join(dir, "worker")
	if err := startWorker(worker); err != nil {
		return err
	}
	l, err := listenEpoll(network, addr)
	if err != nil {
		return err
	}
	other := make(map[int]int) // the two ends of each connection
	buf := make([]byte, 64<<10)
	for events := make([]unix.EpollEvent, 256); ; {
		n := l.wait(events)
		for _, ev := range events[:n] {
			switch to, ok := other[int(ev.Fd)]; {
			case int(ev.Fd) == l.listener:
				if err := l.acceptPair(worker, other); err != nil {
					return err
				}
			case ok && !relay(int(ev.Fd), to, buf):
				_, _ = unix.Close(int(ev.Fd)), unix.Close(to)
				delete(other, int(ev.Fd))
				delete(other, to)
			}
		}
	}
}

// startWorker runs this program as the worker, for as long as we live.
func startWorker(path string) error {
	cmd := exec.Command(os.Args[0], "server", "-peer", "sluice-v1", "-net", "unix", "-addr", path, "-life", time.Hour.String())
	cmd.SysProcAttr = dieWithParent()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), readyMark) {
			return nil
		}
	}
	return errors.New("the worker did not start")
}

// acceptPair takes the connections that wait, and makes one to the worker for each.
func (l *epollServer) acceptPair(worker string, other map[int]int) error {
	before := make(map[int]bool, len(l.conns))
	for fd := range l.conns {
		before[fd] = true
	}
	l.accept()
	for fd := range l.conns {
		if before[fd] {
			continue
		}
		conn, err := net.Dial("unix", worker)
		if err != nil {
			return err
		}
		f, err := conn.(*net.UnixConn).File()
		_ = conn.Close()
		if err != nil {
			return err
		}
		back, err := unix.Dup(int(f.Fd()))
		_ = f.Close()
		if err != nil {
			return err
		}
		if err := errors.Join(unix.SetNonblock(back, true), l.watch(back)); err != nil {
			return err
		}
		other[fd], other[back] = back, fd
		delete(l.conns, fd)
	}
	return nil
}

// relay moves what is there; false if one of the two is over.
func relay(from, to int, buf []byte) bool {
	n, e := rawIO(unix.SYS_READ, from, buf)
	if n <= 0 {
		return e == unix.EAGAIN
	}
	for out := buf[:n]; len(out) > 0; {
		n, e := rawIO(unix.SYS_WRITE, to, out)
		if e != 0 && e != unix.EAGAIN {
			return false
		}
		out = out[max(n, 0):]
	}
	return true
}
