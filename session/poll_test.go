package session_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// TryRecv tells a chunk, even an empty one, from nothing yet, and that from the end.
func TestTryRecv(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		for _, tt := range []struct {
			end  string
			want func(err error) bool
		}{
			{"choke 2", func(err error) bool { return err == io.EOF }},
			{"error 2 42 7 no", func(err error) bool {
				var e *session.Error
				return errors.As(err, &e) && e.Remote && e.Code == 7
			}},
		} {
			r := newRig(t, d, session.Worker)
			var s *session.Session
			r.owner.invoke = func(opened *session.Session) { s = opened }
			r.send("invoke 2 e")
			poll := func(want string, wantOK bool) {
				t.Helper()
				if p, ok, err := s.TryRecv(); string(p) != want || ok != wantOK || err != nil {
					t.Fatalf("TryRecv() = %q, %v, %v, want %q, %v", p, ok, err, want, wantOK)
				}
			}
			poll("", false)
			r.send("chunk 2 a", "chunk 2 ", "chunk 2 b")
			poll("a", true)
			poll("", true)
			poll("b", true)
			poll("", false)
			r.send("chunk 2 c", tt.end)
			poll("c", true)
			for range 2 { // the end stays
				if p, ok, err := s.TryRecv(); p != nil || ok || !tt.want(err) {
					t.Errorf("TryRecv() behind %q = %q, %v, %v", tt.end, p, ok, err)
				}
			}
		}
	})
}

// TryRecv lets a channel go on that stood still for the session's inbox, and goes well
// together with Recv.
func TestTryRecvResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Worker, func(c *session.Config) { c.InboxBytes = 1000 })
		var s *session.Session
		r.owner.invoke = func(opened *session.Session) { s = opened }
		r.send("invoke 2 e", "chunk 2 "+string(make([]byte, 2000)))
		r.send("heartbeat")
		r.told()
		if _, ok, err := s.TryRecv(); !ok || err != nil {
			t.Fatalf("TryRecv() = %v, %v, want the chunk", ok, err)
		}
		r.told("heartbeat")
		got := make(chan string, 1)
		go func() {
			p, _ := s.Recv(t.Context())
			got <- string(p)
		}()
		synctest.Wait() // TryRecv has left nothing behind that would wake it
		r.send("chunk 2 x")
		if p := <-got; p != "x" {
			t.Errorf("Recv() = %q, want x", p)
		}
	})
}

// On a graph of several messages the slot is the one of the chunk.
func TestTryRecvMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served *session.Session
		client, _ := callPair(t, codec.V1, func(s *session.Session, _ []byte) { served = s })
		s, err := client.CallOffLoop(t.Context(), callOf(5), nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, typ := range []uint64{0, 4, 5} {
			if slot, p, ok, err := served.TryRecvMessage(); slot != nil || p != nil || ok || err != nil {
				t.Fatalf("TryRecvMessage() = %v, %x, %v, %v, want nothing", slot, p, ok, err)
			}
			if err := s.SendMessageOffLoop(t.Context(), typ, codec.Args(int(typ)).Bytes()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			slot, p, ok, err := served.TryRecvMessage()
			if typ == 5 {
				if ok || err != io.EOF {
					t.Errorf("TryRecvMessage() behind the end = %v, %v, want io.EOF", ok, err)
				}
				continue
			}
			if !ok || err != nil || slot == nil || slot.Type != typ || len(p) != 2 {
				t.Errorf("TryRecvMessage() = %v, %x, %v, %v, want message %d", slot, p, ok, err, typ)
			}
		}
	})
}

// A session that is polled holds back a peer of ours by its window, as one that is read.
func TestTryRecvCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := creditCouple(t, channel.Script{}, 1000, 100_000)
		served := make(chan *session.Session, 1)
		c.wo.invoke = func(s *session.Session) { served <- s }
		s := c.open("slow")
		slow := <-served
		const sends = 40
		done := make(chan error, 1)
		go func() {
			for range sends {
				if err := s.Send(t.Context(), make([]byte, 300)); err != nil {
					done <- err
					return
				}
			}
			done <- s.Close()
		}()
		got := 0
		for {
			pass(10 * time.Millisecond)
			_, ok, err := slow.TryRecv()
			if err != nil {
				break
			}
			if got += 300; !ok {
				t.Fatalf("nothing has come behind %d bytes", got)
			}
		}
		if err := <-done; err != nil || got != 300*sends {
			t.Errorf("%d bytes came, the sender got %v, want %d", got, err, 300*sends)
		}
	})
}
