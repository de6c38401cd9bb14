package service_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

func dialects(t *testing.T, f func(t *testing.T, v0 bool)) {
	for _, v0 := range []bool{false, true} {
		t.Run(map[bool]string{false: "v1", true: "v0"}[v0], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, v0) })
		})
	}
}

func TestCall(t *testing.T) {
	dialects(t, func(t *testing.T, v0 bool) {
		c := newCloud(t, v0)
		c.add("a", echo(v0))
		s := c.client(nil).Service("echo")
		reply, err := s.Call(t.Context(), "echo", codec.Args("hello"))
		wantString(t, reply, err, "hello")
		reply, err = s.Call(t.Context(), "void", codec.Arguments{})
		if err != nil || reply.Len() != 0 {
			t.Errorf("Call(void) = %v, %v, want nothing", reply, err)
		}
		_, err = s.Call(t.Context(), "fail", codec.Arguments{})
		want := session.Error{Category: 12, Code: 2, Message: "no such key", Remote: true}
		if v0 {
			want.Category = 0
		}
		if e := wantError[*session.Error](t, err); *e != want {
			t.Errorf("Call(fail) = %+v, want %+v", e, want)
		}
		if v, err := s.Version(t.Context()); v != 7 || err != nil {
			t.Errorf("Version() = %d, %v, want 7", v, err)
		}
		if n := c.resolved(); n != 1 {
			t.Errorf("%d resolves, want 1", n)
		}
		st := s.Stats()
		if st.State != service.Connected || st.Calls != 3 || st.Answered != 3 || st.Failed != 0 || st.Endpoint != at("a") {
			t.Errorf("Stats() = %+v", st)
		}
	})
}

// TestCallWhatIsNot: a call of the wrong name or kind says which would be right.
func TestCallWhatIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		client := c.client(nil)
		s := client.Service("echo")
		_, err := s.Call(t.Context(), "ecco", codec.Arguments{})
		if e := wantError[*service.MethodError](t, err); !slices.Contains(e.Names, "enqueue") || !strings.Contains(err.Error(), "there are: echo, void") {
			t.Errorf("Call(ecco) = %v, want the names that there are", err)
		}
		for method, hint := range map[string]string{"emit": "Notify", "enqueue": "Open", "count": "Open"} {
			if _, err := s.Call(t.Context(), method, codec.Arguments{}); err == nil || !strings.Contains(err.Error(), hint) {
				t.Errorf("Call(%s) = %v, want a hint at %s", method, err, hint)
			}
		}
		if err := s.Notify(t.Context(), "echo", codec.Arguments{}); err == nil || !strings.Contains(err.Error(), "use Call") {
			t.Errorf("Notify(echo) = %v, want a hint at Call", err)
		}
		if _, err := s.Open(t.Context(), "emit", codec.Arguments{}); err == nil || !strings.Contains(err.Error(), "Notify") {
			t.Errorf("Open(emit) = %v, want a hint at Notify", err)
		}
		if _, err := s.Call(t.Context(), "echo", codec.Args(struct{}{})); err == nil {
			t.Error("Call() with a struct gave no error")
		}
		_, err = client.Service("nobody").Call(t.Context(), "x", codec.Arguments{})
		wantError[*service.ResolveError](t, err)
		if !service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) {
			t.Errorf("Call() = %v, want the locator's answer", err)
		}
		if _, err := client.Service("").Call(t.Context(), "x", codec.Arguments{}); err == nil || !strings.Contains(err.Error(), "empty name") {
			t.Errorf("Call() of the service \"\" = %v, want that the name is empty", err)
		}
		if client.Service("echo") != s {
			t.Error("Service() returned another Service for the same name")
		}
	})
}

func TestVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		client := c.client(nil)
		for want, ok := range map[uint32]bool{0: true, 7: true, 8: false} {
			s, err := client.NewService(service.ServiceConfig{Name: "echo", Version: want})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Connect(t.Context())
			if ok {
				if err != nil {
					t.Errorf("Connect() of version %d = %v", want, err)
				}
				continue
			}
			e := wantError[*service.VersionError](t, err)
			if e.Have != 7 || e.Want != want {
				t.Errorf("Connect() = %+v, want version 7 of %d", e, want)
			}
		}
		if n := len(c.dialledTo("a:1")); n != 2 {
			t.Errorf("%d connections, want none for the wrong version", n)
		}
	})
}

// TestMerge has many callers wait for one resolve and one connection.
func TestMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.slow = time.Second
		s := c.client(nil).Service("echo")
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
				wantString(t, reply, err, "x")
			})
		}
		synctest.Wait()
		if st := s.Stats(); st.Pending != 50 || st.Stage != service.StageResolve {
			t.Errorf("Stats() = %+v, want 50 pending, resolving", st)
		}
		wg.Wait()
		if n, m := c.resolved(), len(c.dialledTo("a:1")); n != 1 || m != 1 {
			t.Errorf("%d resolves and %d connections, want 1 of each", n, m)
		}
	})
}

func TestEndpointsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		srv := c.add("c", echo(false))
		c.name("echo", service.Resolved{Endpoints: []service.Endpoint{at("a"), at("b"), at("c")}, Version: 7, API: srv.API()})
		client := c.client(func(cfg *service.Config) { cfg.MaxConnects = 1 })
		s := client.Service("echo")
		if err := s.Connect(t.Context()); err != nil {
			t.Fatalf("Connect() = %v, want the third endpoint", err)
		}
		if st := s.Stats(); st.Endpoint != at("c") {
			t.Errorf("Stats().Endpoint = %v, want c", st.Endpoint)
		}
		c.host("c:1", nil)
		c.cut("c:1")
		synctest.Wait()
		time.Sleep(time.Minute) // the one try to come back
		began := len(c.dialledTo("a:1"))
		err := s.Connect(t.Context())
		e := wantError[*service.ResolveError](t, err)
		if len(e.Tries) != 3 || e.Tries[0].Endpoint != at("a") || e.Tries[2].Endpoint != at("c") || e.Name != "echo" {
			t.Errorf("Connect() = %+v, want three tries", e)
		}
		if service.Errno(err) == 0 || strings.Count(err.Error(), "connection refused") != 3 {
			t.Errorf("Connect() = %v, want three causes", err)
		}
		if n := len(c.dialledTo("a:1")); n != began+1 {
			t.Errorf("%d tries, want one", n-began)
		}
		if s.State() != service.Errored {
			t.Errorf("State() = %v, want error", s.State())
		}
	})
}

// TestBackoff has a service come late, and counts the tries until then.
func TestBackoffOfConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.host("a:1", nil)
		s := c.client(func(cfg *service.Config) {
			cfg.MaxConnects, cfg.Backoff = 5, service.Backoff{Base: time.Second, Max: 4 * time.Second}
		}).Service("echo")
		began := time.Now()
		err := s.Connect(t.Context())
		e := wantError[*service.ResolveError](t, err)
		if took := time.Since(began); len(e.Tries) != 5 || took > 11*time.Second || took == 0 {
			t.Errorf("Connect() = %v after %v, want 5 tries in 1+2+4+4 s at most", err, took)
		}
		when := c.dialledTo("a:1")
		for i := 1; i < len(when); i++ {
			if gap, most := when[i]-when[i-1], min(time.Second<<(i-1), 4*time.Second); gap > most {
				t.Errorf("try %d came after %v, want %v at most", i, gap, most)
			}
		}
		if n := c.resolved(); n != 5 {
			t.Errorf("%d resolves, want one for each try", n)
		}
	})
}

func TestFailFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.host("a:1", nil)
		s := c.client(func(cfg *service.Config) {
			cfg.FailFast, cfg.Backoff = true, service.Backoff{Base: time.Hour, Max: time.Hour}
		}).Service("echo")
		for range 2 { // the first waits for the try, the second finds one that failed
			began := time.Now()
			_, err := s.Call(t.Context(), "echo", codec.Args("x"))
			if e := wantError[*service.ResolveError](t, err); time.Since(began) > 0 || len(e.Tries) != 1 {
				t.Errorf("Call() = %v after %v, want the cause at once", err, time.Since(began))
			}
		}
		if n := len(c.dialledTo("a:1")); n != 1 {
			t.Errorf("%d tries, want 1", n)
		}
		c.serve("a:1", echo(false))
		time.Sleep(time.Hour)
		synctest.Wait()
		reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
		wantString(t, reply, err, "x")
		c.cut("a:1")
		synctest.Wait()
		_, err = s.Call(t.Context(), "echo", codec.Args("x"))
		wantError[*service.ResolveError](t, err)
		wantError[*channel.CloseError](t, err)
	})
}

func TestMaxPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.slow = time.Second
		s := c.client(func(cfg *service.Config) { cfg.MaxPending = 3 }).Service("echo")
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
				wantString(t, reply, err, "x")
			})
		}
		synctest.Wait()
		if _, err := s.Call(t.Context(), "echo", codec.Args("x")); !errors.Is(err, service.ErrTooManyPending) {
			t.Errorf("Call() = %v, want ErrTooManyPending", err)
		}
		wg.Wait()
		if st := s.Stats(); st.Refused != 1 || st.Pending != 0 {
			t.Errorf("Stats() = %+v, want one refused", st)
		}
	})
}

// TestLoss cuts a connection below a call, and has the next one find the service at
// another place.
func TestLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		var changes []service.State
		client := c.client(nil)
		s, err := client.NewService(service.ServiceConfig{Name: "echo", OnState: func(c service.Change) { changes = append(changes, c.To) }})
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error)
		go func() {
			_, err := s.Call(t.Context(), "sleep", codec.Args(1000))
			result <- err
		}()
		synctest.Wait()
		c.host("a:1", nil)
		c.add("b", echo(false))
		c.cut("a:1")
		e := wantError[*session.Error](t, <-result)
		if e.Remote || e.Delivery != session.Unknown {
			t.Errorf("Call() = %+v, want a local error of unknown delivery", e)
		}
		reply, err := s.Call(t.Context(), "echo", codec.Args("again"))
		wantString(t, reply, err, "again")
		want := []service.State{service.Connecting, service.Connected, service.Errored, service.Connecting, service.Connected}
		if synctest.Wait(); !slices.Equal(changes, want) {
			t.Errorf("states %v, want %v", changes, want)
		}
		if st := s.Stats(); st.Endpoint != at("b") || st.Losses != 1 || st.Connects != 2 || st.Lost != 1 || st.Retried != 0 {
			t.Errorf("Stats() = %+v, want one loss and b", st)
		}
	})
}

// TestLossIdle comes back without anybody asking, and does not give up at MaxConnects.
func TestLossIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		s := c.client(func(cfg *service.Config) { cfg.MaxConnects = 3 }).Service("echo")
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.cut("a:1")
		time.Sleep(2 * time.Second)
		if s.State() != service.Connected {
			t.Fatalf("State() = %v, want connected again", s.State())
		}
		c.host("a:1", nil)
		c.cut("a:1")
		time.Sleep(10 * time.Minute)
		if n := len(c.dialledTo("a:1")); n < 2+30 || n > 2+200 || s.State() != service.Errored {
			t.Errorf("%d connections tried, in state %v; want some 75 more and error", n-2, s.State())
		}
		// Whoever calls does not wait for the next try, and is told after three.
		began := time.Now()
		_, err := s.Call(t.Context(), "echo", codec.Args("x"))
		var failed *service.ResolveError
		if tries := c.dialledTo("a:1"); !errors.As(err, &failed) || len(failed.Tries) != 3 || tries[len(tries)-3] != began.Sub(c.began) {
			t.Errorf("Call() = %v at %v, tries %v; want a first one at once, of three", err, began.Sub(c.began), tries[max(0, len(tries)-3):])
		}
	})
}

func TestContextEnds(t *testing.T) {
	dialects(t, func(t *testing.T, v0 bool) {
		c := newCloud(t, v0)
		c.add("a", echo(v0))
		s := c.client(func(cfg *service.Config) { cfg.CallTimeout = 5 * time.Second }).Service("echo")
		began := time.Now()
		_, err := s.Call(t.Context(), "sleep", codec.Args(8))
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 5*time.Second {
			t.Errorf("Call() = %v after %v, want the deadline after 5 s", err, took)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(io.ErrNoProgress) })
		if _, err = s.Call(ctx, "sleep", codec.Args(8)); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("Call() = %v, want the cause", err)
		}
		time.Sleep(20 * time.Second) // the late answers
		reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
		wantString(t, reply, err, "x")
		if st := s.Stats(); st.Abandoned != 2 || st.Connects != 1 {
			t.Errorf("Stats() = %+v, want two abandoned on one connection", st)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.name("dead", service.Resolved{Endpoints: []service.Endpoint{at("dead")}, API: new(service.API)})
		client := c.client(nil)
		errs := make(chan error, 2)
		go func() {
			_, err := client.Service("echo").Call(t.Context(), "sleep", codec.Args(1000))
			errs <- err
		}()
		go func() {
			_, err := client.Service("dead").Call(t.Context(), "x", codec.Arguments{})
			errs <- err
		}()
		synctest.Wait()
		closeClient(t, client)
		for range 2 {
			if err := <-errs; err == nil {
				t.Error("a call outlived Close")
			}
		}
		if _, err := client.Service("echo").Call(t.Context(), "echo", codec.Arguments{}); !errors.Is(err, service.ErrClosed) {
			t.Errorf("Call() = %v, want ErrClosed", err)
		}
		if _, err := client.Service("new").Call(t.Context(), "x", codec.Arguments{}); !errors.Is(err, service.ErrClosed) {
			t.Errorf("Call() = %v, want ErrClosed", err)
		}
		if _, err := client.Locator().Resolve(t.Context(), "echo"); !errors.Is(err, service.ErrClosed) {
			t.Errorf("Resolve() = %v, want ErrClosed", err)
		}
	})
}

func TestConnectNoLocator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		cfg := c.config()
		cfg.Locators, cfg.MaxConnects = []string{"x:1,y:2", "z:3"}, 1
		_, err := service.Connect(t.Context(), cfg)
		if e := wantError[*service.ResolveError](t, err); len(e.Tries) != 3 || e.Tries[2].Endpoint.Host != "z" {
			t.Errorf("Connect() = %v, want a try for each locator", err)
		}
		cfg.Locators = []string{"host:port:x"}
		if _, err := service.Connect(t.Context(), cfg); err == nil {
			t.Error("Connect() took a locator that makes no sense")
		}
	})
}

// TestServices: services of a client are found together, and live and end one by one.
func TestServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.add("w", who("w", nil))
		client := c.client(nil)
		list, err := client.Services(t.Context(), "echo", "who")
		if err != nil || len(list) != 2 || list[0].State() != service.Connected || list[1].Name() != "who" {
			t.Errorf("Services() = %v, %v, want both connected", list, err)
		}
		if _, err := client.Services(t.Context(), "echo", "nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
			t.Errorf("Services() = %v, want the error of nobody", err)
		}
		if err := list[0].Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		s := client.Service("echo")
		reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
		wantString(t, reply, err, "x")
		if s == list[0] {
			t.Error("Service() returned one that is closed")
		}
		api, err := s.API(t.Context())
		if _, ok := api.ByName("echo"); !ok || err != nil || s.Dialect() != codec.V1 || s.Stage() != service.StageNone {
			t.Errorf("API() = %v, %v", api, err)
		}
		if e, err := s.Endpoints(t.Context()); err != nil || !slices.Equal(e, []service.Endpoint{at("a")}) {
			t.Errorf("Endpoints() = %v, %v", e, err)
		}
		if s.Close(t.Context()); client.Locator().State() != service.Connected {
			t.Error("the end of a Service ended the locator")
		}
		if _, err := s.API(t.Context()); !errors.Is(err, service.ErrClosed) {
			t.Errorf("API() = %v, want ErrClosed", err)
		}
	})
}

// TestAttachedAndGone has a service that closes each connection at once: tries go on with
// a back-off, and a call gets an answer by its deadline.
func TestAttachedAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.host("a:1", func(conn net.Conn) { _ = conn.Close() })
		s := c.client(func(cfg *service.Config) { cfg.CallTimeout = 10 * time.Minute }).Service("echo")
		if _, err := s.Call(t.Context(), "echo", codec.Args("x")); err == nil {
			t.Error("Call() gave no error")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := len(c.dialledTo("a:1")); n > 200 {
			t.Errorf("%d connections in ten minutes, want a back-off", n)
		}
	})
}

// TestErrorTexts compares what people read.
func TestErrorTexts(t *testing.T) {
	tries := []service.Try{{Stage: service.StageResolve, Err: io.EOF}, {Stage: service.StageDial, Endpoint: at("a"), Err: io.ErrUnexpectedEOF}}
	for err, want := range map[error]string{
		&service.ResolveError{Name: "s", Tries: tries}:                                     `service "s": no connection: resolve: EOF; dial a:1: unexpected EOF`,
		&service.ResolveError{Name: "s", Tries: tries[:1], Err: context.Canceled}:          `service "s": no connection: context canceled: resolve: EOF`,
		&service.VersionError{Name: "s", Have: 2, Want: 1}:                                 `service "s" has version 2, want 1 (0 takes any)`,
		&service.MethodError{Service: "s", Method: "m"}:                                    `service "s" has no method "m", nor any other`,
		&service.MethodError{Service: "s", Method: "m", Names: []string{"a", "b"}}:         `service "s" has no method "m"; there are: a, b`,
		&service.MethodError{Service: "s", Method: "m", Hint: "never answers: use Notify"}: `service "s": method "m" never answers: use Notify`,
		&service.ReplyError{Service: "s", Method: "m", Err: io.EOF}:                        `service "s": the answer of "m": EOF`,
	} {
		if err.Error() != want {
			t.Errorf("Error() = %q, want %q", err, want)
		}
	}
	if err := error(&service.ResolveError{Tries: tries}); !errors.Is(err, io.ErrUnexpectedEOF) || service.Errno(err) != 0 {
		t.Error("a ResolveError does not wrap its causes")
	}
}
