package channel

import (
	"net"
	"testing"
)

// addressed is a connection between two addresses.
type addressed struct {
	net.Conn
	local, remote net.Addr
}

func (a addressed) LocalAddr() net.Addr  { return a.local }
func (a addressed) RemoteAddr() net.Addr { return a.remote }

func TestSameMachine(t *testing.T) {
	pipe, other := net.Pipe()
	defer func() { _, _ = pipe.Close(), other.Close() }()
	end, peer := Pair(Script{})
	defer func() { _, _ = end.Close(), peer.Close() }()
	tcp := func(ip string) *net.TCPAddr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 10053} }
	for _, tt := range []struct {
		name string
		conn net.Conn
		want bool
	}{
		{"local pair", end, true},
		{"pipe", pipe, true},
		{"unix", addressed{local: &net.UnixAddr{}, remote: &net.UnixAddr{Name: "/s", Net: "unix"}}, true},
		{"loopback", addressed{local: tcp("127.0.0.1"), remote: tcp("127.8.0.1")}, true},
		{"loopback of v6", addressed{local: tcp("::1"), remote: tcp("::1")}, true},
		{"an address of our own", addressed{local: tcp("192.0.2.1"), remote: tcp("192.0.2.1")}, true},
		{"v4 in v6", addressed{local: tcp("192.0.2.1"), remote: tcp("::ffff:192.0.2.1")}, true},
		{"away", addressed{local: tcp("192.0.2.1"), remote: tcp("192.0.2.2")}, false},
		{"away, without an address of our own", addressed{remote: tcp("192.0.2.2")}, false},
		{"unknown", addressed{}, false},
		{"of another network", addressed{remote: &net.IPAddr{IP: net.ParseIP("127.0.0.1")}}, false},
	} {
		if got := sameMachine(tt.conn); got != tt.want {
			t.Errorf("%s: sameMachine() = %v, want %v", tt.name, got, tt.want)
		}
	}
	if c, err := New(Config{}, &counter{}); err != nil || c.Near() {
		t.Errorf("Near() of an idle channel = %v, %v, want false", c.Near(), err)
	}
}
