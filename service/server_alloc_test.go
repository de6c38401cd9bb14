package service_test

import (
	"net"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestServerAllocs: a call that is answered on the loop makes a Session and a Call; its
// arguments and its answer are not copied to the heap.
func TestServerAllocs(t *testing.T) {
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	srv := testServer(t, service.ServerConfig{Declaration: numbered(service.Handled{
		Method: service.Method{Name: "echo", Rx: session.Primitive}, OnLoop: func(c *service.Call) { _ = c.ReplyBytes(c.Args()) }})})
	if err := srv.Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", srv.Endpoints()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	args, answer := codec.Args("data").Bytes(), make([]byte, 100)
	var frame []byte
	n := uint64(0)
	got := testing.AllocsPerRun(1000, func() {
		n++
		frame = codec.AppendFrame(frame[:0], codec.V1, &codec.Frame{Kind: codec.KindCall, Session: n, Args: args})
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(answer); err != nil {
			t.Fatal(err)
		}
	})
	if got > 3 {
		t.Errorf("%v allocations a call, want 2", got)
	}
	_ = conn.Close()
	if err := srv.Close(t.Context()); err != nil {
		t.Errorf("Close() = %v", err)
	}
}
