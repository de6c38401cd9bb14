package session_test

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

func perfect() (net.Conn, net.Conn) {
	a, b := channel.Pair(channel.Script{})
	return a, b
}

// A callee that has answered and is then lost has answered once.
func TestForwardAnsweredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, codec.V1, perfect, func(s *session.Session) {
			s.SetHandler(newReceiver())
			_ = s.SendChoke()
		})
		s := c.open(t)
		synctest.Wait()
		closeNow(c.worker)
		synctest.Wait()
		if n := c.answered.Load(); n != 1 {
			t.Errorf("OnAnswered was called %d times, want once", n)
		}
		_ = s.Close()
	})
}

// A session that was cut while it waited for a worker is not forwarded.
func TestForwardCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t, codec.V1, perfect, echoes["loop"])
		a, b := channel.Pair(channel.Script{})
		client, _ := newTable(t, codec.V1, session.Client)
		var held *session.Session
		server, _ := newTable(t, codec.V1, session.Server, serving(func(s *session.Session, _ []byte) {
			held = s
			s.Pause()
		}))
		_, _ = client.Channel().Attach(a), server.Channel().Attach(b)
		defer closeNow(client)
		defer closeNow(server)
		s, err := client.CallOffLoop(t.Context(), callOf(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Fail(42, 1, "never mind")
		synctest.Wait()
		onLoop(t, server, func() {
			if err := held.Forward(c.engine, "echo", nil, session.Splice{}); err == nil {
				t.Error("Forward() = nil, want an error: nobody would end the worker's session")
			}
		})
		if n := c.engine.Stats().Opened; n != 0 {
			t.Errorf("%d sessions were opened, want none", n)
		}
	})
}

// A caller that goes, or fails its direction, while the answer waits for it to read: what
// is kept does not stand in the way of the end.
func TestForwardEndsWhileKept(t *testing.T) {
	for _, how := range []string{"fails", "cancels"} {
		for _, credit := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/credit=%v", how, credit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { forwardEndsWhileKept(t, how, credit) })
			})
		}
	}
}

func forwardEndsWhileKept(t *testing.T, how string, credit bool) {
	patient := func(cfg *session.Config) { cfg.MaxPause = time.Hour }
	c := newChain(t, codec.V1, perfect, func(s *session.Session) { go pour(s) }, patient)
	ours := windows(1000, 100_000)
	full := func(cfg *session.Config) {
		cfg.Channel.HighWaterBytes, cfg.Extensions.NoCredit = 2000, !credit
	}
	script, err := channel.ParseScript("a<>b capacity=2000")
	if err != nil {
		t.Fatal(err)
	}
	r := newService(t, script, func(s *session.Session, _ []byte) {
		if err := s.Forward(c.engine, "e", nil, c.splice); err != nil {
			t.Error(err)
		}
	}, ours, full, patient)
	s := r.call(t, 1)
	pass(time.Second)
	if how == "fails" {
		_ = s.Fail(42, 1, "no more")
		go func() {
			for range s.Chunks(t.Context()) {
			}
		}()
	} else {
		onLoop(t, r.client, func() { s.Cancel(42, 1, "never mind") })
	}
	pass(time.Minute)
	for name, table := range map[string]*session.Table{"client": r.client, "server": r.server, "engine": c.engine, "worker": c.worker} {
		if n := table.Stats().Open; n != 0 {
			t.Errorf("the %s has %d sessions, want none", name, n)
		}
	}
	if a, e := c.answered.Load(), c.ended.Load(); a != 1 || e != 1 {
		t.Errorf("answered %d times, ended %d times, want once", a, e)
	}
}

// pour sends more than anybody holds, whatever comes.
func pour(s *session.Session) {
	for i := range 1000 {
		if _, err := s.Write(pattern(i, 1000)); err != nil {
			break
		}
	}
	_ = s.Close()
	s.Channel().Post(s.Ignore)
}
