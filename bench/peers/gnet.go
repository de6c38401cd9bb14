package main

import (
	"fmt"
	"net/netip"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
	"golang.org/x/sys/unix"
)

// serveGnet is bare gnet with one event loop: frames where they lie, one Write a turn.
func serveGnet(newState func() echoState) func(network, addr string) error {
	return func(network, addr string) error {
		return gnet.Run(&gnetServer{network: network, addr: addr, newState: newState}, network+"://"+addr,
			gnet.WithNumEventLoop(1), gnet.WithLogLevel(logging.ErrorLevel))
	}
}

type gnetServer struct {
	gnet.BuiltinEventEngine
	network, addr string
	newState      func() echoState
}

// OnBoot says where the server listens; gnet keeps it to itself.
func (g *gnetServer) OnBoot(e gnet.Engine) gnet.Action {
	if g.network == "unix" {
		ready(g.addr)
		return gnet.None
	}
	fd, err := e.Dup()
	if err != nil {
		panic(err)
	}
	defer unix.Close(fd)
	at, err := boundTo(fd)
	if err != nil {
		panic(err)
	}
	ready(at)
	return gnet.None
}

// boundTo returns the address of a TCP socket.
func boundTo(fd int) (string, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	v4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return "", fmt.Errorf("bound to a %T", sa)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port)).String(), nil
}

// OnOpen makes the connection's state.
func (g *gnetServer) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(g.newState())
	return nil, gnet.None
}

// OnTraffic is the turn of one connection.
func (g *gnetServer) OnTraffic(c gnet.Conn) gnet.Action {
	buf, _ := c.Peek(-1)
	s := c.Context().(echoState)
	if n := s.feed(buf); n > 0 { // Discard(0) would discard everything
		_, _ = c.Discard(n)
	}
	if out := s.replies(); len(out) > 0 {
		_, _ = c.Write(out)
	}
	return gnet.None
}
