package service_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// due is the headers of a call that may take two seconds.
func due() []codec.Header {
	return []codec.Header{codec.TimeoutHeader(2*time.Second, new([8]byte))}
}

// late are OnLoop methods that do not answer in time. Each notes its end.
type late struct {
	ends []string
	err  chan error // of the answer behind the deadline
}

func (l *late) note(c *service.Call) {
	name, began := c.Method().Name, time.Now()
	c.OnEnd(func() { l.ends = append(l.ends, name+" "+time.Since(began).String()) })
}

// away goes on in a goroutine.
func (l *late) away(c *service.Call) {
	l.note(c)
	off := c.OffLoop()
	go func() {
		<-off.Done()
		l.err <- off.Reply(codec.Args("late"))
	}()
}

// taken has another handler serve the session.
func (l *late) taken(c *service.Call) {
	l.note(c)
	c.Session().SetHandler(ownHandler{})
}

// ownHandler answers the end of the client's direction with its own.
type ownHandler struct{}

func (ownHandler) OnChunk(*session.Session, []byte)         {}
func (ownHandler) OnChoke(s *session.Session)               { _ = s.SendChoke() }
func (ownHandler) OnError(*session.Session, *session.Error) {}

func (l *late) declaration() service.Declaration {
	stream := session.Streaming
	return numbered(
		service.Handled{Method: service.Method{Name: "never", Rx: session.Primitive}, OnLoop: l.note},
		service.Handled{Method: service.Method{Name: "away", Rx: session.Primitive}, OnLoop: l.away},
		service.Handled{Method: service.Method{Name: "stream", Tx: stream, Rx: stream}, OnLoop: l.note},
		service.Handled{Method: service.Method{Name: "mute", Tx: stream}, OnLoop: l.note},
		service.Handled{Method: service.Method{Name: "held", Tx: stream, Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			l.note(c)
			_ = c.Reply(codec.Args("at once"))
		}},
		service.Handled{Method: service.Method{Name: "taken", Tx: stream, Rx: stream}, OnLoop: l.taken},
	)
}

// TestDeadlineOnLoop: the client of a call on the loop that is not answered by its deadline
// gets an error then, and the method is told that the call is over. A call that was answered
// goes on, and so does one whose session was taken over.
func TestDeadlineOnLoop(t *testing.T) {
	l := &late{}
	bubble(t, service.ServerConfig{Declaration: l.declaration()}, func(t *testing.T, srv *service.Server) {
		l.err = make(chan error, 1)
		c := dial(t, srv, codec.V1)
		defer c.close()
		for method := range uint64(6) {
			c.write(c.frameWith(method+1, method, due()))
			time.Sleep(time.Millisecond) // so that they expire in this order
		}
		c.want(5, codec.V1Value, "at once")
		for _, sess := range []uint64{1, 2, 3} {
			c.wantError(sess, service.CategoryWorker, session.CodeDeadline)
		}
		if err := wantError[*session.Error](t, <-l.err); err.Code != session.CodeDeadline || err.Remote {
			t.Errorf("Reply() = %v, want that it is too late", err)
		}
		time.Sleep(time.Minute)
		if st := srv.Stats(); st.Pending != 1 || st.Sessions != 2 || st.Methods[0].Failed != 1 {
			t.Errorf("Stats() = %+v, want the two calls that go on", st)
		}
		c.write(c.frame(3, codec.V1Write, "late")) // crossed with the error: no reason to cut the client
		c.write(c.frame(5, codec.V1Close))
		c.write(c.frame(6, codec.V1Close))
		c.want(6, codec.V1Close)
		c.wantNothing()
		want := []string{"never 2s", "away 2s", "stream 2s", "mute 2s"}
		if !slices.Equal(l.ends[:4], want) || len(l.ends) != 6 {
			t.Errorf("the calls ended %q, want %q", l.ends, want)
		}
		if n := srv.Stats().Sessions; n != 0 {
			t.Errorf("Stats().Sessions = %d, want 0", n)
		}
	})
}

// TestDeadlineOver: what has ended before its deadline leaves nothing that comes then.
func TestDeadlineOver(t *testing.T) {
	var calls []*service.Call // of the loop
	d := numbered(service.Handled{Method: service.Method{Name: "later", Rx: session.Primitive},
		OnLoop: func(c *service.Call) { calls = append(calls, c) }})
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		calls = nil
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.write(c.frameWith(1, 0, due()))
		synctest.Wait()
		if n := srv.Stats().Sessions; n != 1 {
			t.Errorf("Stats().Sessions = %d, want 1", n)
		}
		k := calls[0]
		k.Session().Channel().Post(func() { _ = k.Reply(codec.Args("in time")) })
		c.want(1, codec.V1Value, "in time")
		time.Sleep(time.Minute)
		c.wantNothing()
		if st := srv.Stats(); st.Methods[0].Failed != 0 {
			t.Errorf("Stats() = %+v, want no failure", st)
		}
	})
}
