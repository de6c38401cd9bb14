package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// stallTimeout is how long a client waits for the server in one read or write.
const stallTimeout = 5 * time.Second

// A link is one connection of a client: a blocking socket without Go's poller, nearly
// as cheap as in C and the same for every server. It answers what it reads in one
// write, as a batching client does.
type link struct {
	fd     int
	wire   *wire
	in     []byte // in[:have] is received and not taken
	have   int
	size   int // of every payload that comes back; 0: any
	verify *verifier
}

// dial connects and opens that many sessions.
func dial(network, addr string, w *wire, sessions int) (*link, error) {
	fd, err := connect(network, addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	l := &link{fd: fd, wire: w, in: make([]byte, 256<<10)}
	for greeted := 0; greeted < w.greets; {
		if _, err := l.read(); err != nil {
			return nil, fmt.Errorf("waiting for the server's greeting: %w", err)
		}
		for l.have > 0 && greeted < w.greets {
			a, err := w.next(l.in[:l.have])
			if err != nil {
				return nil, err
			}
			if a.size == 0 {
				break
			}
			if a.payload != nil {
				return nil, errors.New("the server begins with a chunk")
			}
			greeted++
			l.drop(a.size)
		}
	}
	var opening []byte
	for i := 0; w.open != nil && i < sessions; i++ {
		opening = w.open(opening, w.session(i))
	}
	return l, l.write(opening)
}

func connect(network, addr string) (int, error) {
	family, to := unix.AF_UNIX, unix.Sockaddr(&unix.SockaddrUnix{Name: addr})
	if network == "tcp" {
		at, err := netip.ParseAddrPort(addr)
		if err != nil || !at.Addr().Is4() || !at.Addr().IsLoopback() {
			return -1, fmt.Errorf("%q is no address of loopback", addr)
		}
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if network == "tcp" {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	limit := unix.NsecToTimeval(int64(stallTimeout))
	return fd, errors.Join(err,
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.Connect(fd, to))
}

func (l *link) write(p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(l.fd, p)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return errors.New("the server does not read")
		case err != nil:
			return fmt.Errorf("write: %w", err)
		default:
			p = p[n:]
		}
	}
	return nil
}

// read waits for bytes behind those that are left.
func (l *link) read() (int, error) {
	if l.have == len(l.in) {
		return 0, errors.New("a frame of more than the client's buffer")
	}
	for {
		n, err := unix.Read(l.fd, l.in[l.have:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, errors.New("the server does not answer")
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		case n == 0:
			return 0, io.ErrUnexpectedEOF
		}
		l.have += n
		return n, nil
	}
}

// drop forgets the first n bytes received.
func (l *link) drop(n int) { l.have = copy(l.in, l.in[n:l.have]) }

// receive reads once and returns how many chunks that completed. Heartbeats between
// them are passed over.
func (l *link) receive() (chunks int, err error) {
	if _, err := l.read(); err != nil {
		return 0, err
	}
	at := 0
	for at < l.have {
		a, err := l.wire.next(l.in[at:l.have])
		if err != nil {
			return chunks, err
		}
		if a.size == 0 {
			break
		}
		at += a.size
		if a.payload == nil {
			continue
		}
		chunks++
		if len(a.payload) != l.size && l.size > 0 {
			return chunks, fmt.Errorf("a payload of %d bytes came back, want %d", len(a.payload), l.size)
		}
		if l.verify != nil {
			if err := l.verify.check(&a); err != nil {
				return chunks, err
			}
		}
	}
	l.drop(at)
	return chunks, nil
}

// count asks the server how many chunks it has had on this connection, the question
// included. Nothing else may be under way.
func (l *link) count() (uint64, error) {
	question := make([]byte, 32)
	question[0] = markCount
	if err := l.write(l.wire.chunk(nil, l.wire.session(0), question)); err != nil {
		return 0, err
	}
	for {
		if _, err := l.read(); err != nil {
			return 0, err
		}
		if l.wire.bare {
			if l.have < 8 {
				continue
			}
			n := binary.BigEndian.Uint64(l.in)
			l.drop(8)
			return n, nil
		}
		for l.have > 0 {
			a, err := l.wire.next(l.in[:l.have])
			if err != nil {
				return 0, err
			}
			if a.size == 0 {
				break
			}
			if a.payload == nil {
				l.drop(a.size)
				continue
			}
			if len(a.payload) != 8 {
				return 0, fmt.Errorf("the count has %d bytes", len(a.payload))
			}
			n := binary.BigEndian.Uint64(a.payload)
			l.drop(a.size)
			return n, nil
		}
	}
}

// payload returns size bytes of which the first is mark.
func payload(size int, mark byte) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i*7) & 0x7f
	}
	p[0] = mark
	return p
}

// A verifier gives every payload a number and content of its own, and wants them back
// unharmed, in order.
type verifier struct {
	want []expected // a queue
	seq  uint64
	buf  []byte
}

type expected struct {
	session uint64
	size    int
	seq     uint64
}

// next returns the payload of the next frame, until the next call.
func (v *verifier) next(session uint64, size int) []byte {
	v.seq++
	v.want = append(v.want, expected{session, size, v.seq})
	v.buf = fill(v.buf, size, v.seq)
	return v.buf
}

// fill makes a payload that tells its number in every 8 bytes.
func fill(p []byte, size int, seq uint64) []byte {
	p = append(p[:0], markEcho)
	for i := 0; len(p) < size; i++ {
		p = binary.LittleEndian.AppendUint64(p, (seq+uint64(i))*0x9e3779b97f4a7c15)
	}
	return p[:size]
}

func (v *verifier) check(a *answer) error {
	if len(v.want) == 0 {
		return errors.New("an answer to nothing")
	}
	e := v.want[0]
	v.want = v.want[1:]
	if v.buf = fill(v.buf, e.size, e.seq); a.session != e.session || !bytes.Equal(a.payload, v.buf) {
		return fmt.Errorf("payload %d came back on session %d with %d bytes; want session %d, %d bytes, unharmed",
			e.seq, a.session, len(a.payload), e.session, e.size)
	}
	return nil
}
