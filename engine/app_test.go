package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// firstOf is the number of a worker's first session.
func firstOf(d codec.Dialect) uint64 {
	if d == codec.V0 {
		return 1
	}
	return 2
}

func invoke(id uint64, event string, headers ...codec.Header) codec.Frame {
	return codec.Frame{Kind: codec.KindInvoke, Session: id, Text: event, Headers: headers}
}

func chunk(id uint64, data string) codec.Frame {
	return codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte(data)}
}

func choke(id uint64) codec.Frame { return codec.Frame{Kind: codec.KindChoke, Session: id} }

func failure(id uint64, category, code int64, text string) codec.Frame {
	return codec.Frame{Kind: codec.KindError, Session: id, Category: category, Code: code, Text: text}
}

// pairsOf runs a test in a bubble for each dialect of client and worker.
func pairsOf(t *testing.T, test func(t *testing.T, client, worker codec.Dialect)) {
	for _, client := range []codec.Dialect{codec.V0, codec.V1} {
		for _, worker := range []codec.Dialect{codec.V0, codec.V1} {
			t.Run("client "+client.String()+" worker "+worker.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { test(t, client, worker) })
			})
		}
	}
}

// What a request has waited is taken off the time that its worker is told of.
func TestAppTimeoutOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, engine.AppConfig{Dialect: codec.V1})
		v := c.visit(codec.V1)
		limit := codec.TimeoutHeader(5*time.Second, new([8]byte))
		v.enqueue("event", limit)
		p := c.next()
		<-time.After(2 * time.Second)
		w := c.worker(p)
		w.want(t, invoke(2, "event", codec.TimeoutHeader(3*time.Second, new([8]byte))))
		v.enqueue("event", limit) // there is a worker
		w.want(t, invoke(3, "event", limit))
	})
}

// A call goes to a worker that is started for it, the next one to the same at once.
func TestAppCall(t *testing.T) {
	pairsOf(t, func(t *testing.T, client, worker codec.Dialect) {
		c := newCloud(t, engine.AppConfig{Dialect: worker})
		v := c.visit(client)
		var w *rawWorker
		for n := range uint64(3) {
			call := v.enqueue("event")
			if client == codec.V1 {
				if err := errors.Join(call.Send(t.Context(), []byte("all of it")), call.Close()); err != nil {
					t.Fatal(err)
				}
			}
			if w == nil {
				w = c.worker(c.next())
			}
			id := firstOf(worker) + n
			w.want(t, invoke(id, "event"))
			w.want(t, chunk(id, "all of it"))
			w.want(t, choke(id))
			if err := w.send(chunk(id, "answer"), choke(id)); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(call.Reader(t.Context())); string(got) != "answer" || err != nil {
				t.Fatalf("the answer is %q, %v", got, err)
			}
		}
		synctest.Wait()
		if i := c.Stats(); i.Accepted != 3 || i.Load != 0 || i.Spawned != 1 || i.Slaves[0].Accepted != 3 {
			t.Errorf("Info() = %+v, want three requests on one slave", i)
		}
		c.none()
	})
}

// The headers of the call go to the worker's invoke, also behind a wait in the queue.
func TestAppHeaders(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		if d == codec.V0 {
			t.Skip("v0 has no headers")
		}
		c := newCloud(t, engine.AppConfig{Dialect: d})
		v := c.visit(d)
		h := codec.Header{Name: []byte("x-who"), Value: []byte("me")}
		v.enqueue("queued", h)
		w := c.worker(c.next())
		w.want(t, invoke(2, "queued", h))
		v.enqueue("direct", h)
		w.want(t, invoke(3, "direct", h))
	})
}

// A worker that never shakes hands, or dies before it does, loses nothing of the queue: the
// next ones are started, later and later.
func TestAppRespawn(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		var told diary
		c := newCloud(t, engine.AppConfig{Dialect: d, KillTimeout: time.Millisecond, OnCrash: func(x engine.Crash) {
			told.add("%v %q", x.Code, x.Lines)
		}})
		v := c.visit(d)
		call := v.enqueue("event")
		p := c.next()
		p.proc.Write("cannot\nstart\n")
		p.proc.Exit("exit status 1", true)
		began := time.Now()
		silent := c.next()
		if took := time.Since(began); took != time.Second {
			t.Errorf("the second worker is started after %v, want 1s", took)
		}
		began = time.Now()
		p = c.next()
		if took, want := time.Since(began), engine.DefaultProfile(d).HandshakeTimeout+2*time.Second; took != want {
			t.Errorf("the third worker is started after %v, want %v", took, want)
		}
		<-silent.Done()
		w := c.worker(p)
		w.want(t, invoke(firstOf(d), "event"))
		if err := w.send(choke(firstOf(d))); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(call.Reader(t.Context())); len(got) > 0 || err != nil {
			t.Errorf("the answer is %q, %v, want its end", got, err)
		}
		told.want(t, `exited ["cannot" "start"]`, `activate_timeout []`)
		if list := c.Crashes(); len(list) != 2 || list[0].Status != "exit status 1" || list[0].UUID == "" {
			t.Errorf("Crashes() = %+v, want two", list)
		}
		if i := c.Stats(); i.Crashed != 2 || i.Spawned != 3 {
			t.Errorf("Info() = %+v, want 2 of 3 crashed", i)
		}
	})
}

// A stranger's uuid is closed, and the slave waits on.
func TestAppForeignUUID(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		c := newCloud(t, engine.AppConfig{Dialect: d})
		v := c.visit(d)
		v.enqueue("event")
		p := c.next()
		w := c.stranger(p)
		if err := w.send(handshake("f0000000-0000-4000-8000-000000000000"), heartbeat); err != nil {
			t.Fatal(err)
		}
		w.wantEnd(t)
		c.worker(p).want(t, invoke(firstOf(d), "event"))
		c.none()
		if n := c.Stats().Strangers; n != 1 {
			t.Errorf("Strangers = %d, want 1", n)
		}
	})
}

// An idle slave is asked to leave; nothing counts it as a crash.
func TestAppIdle(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		c := newCloud(t, engine.AppConfig{Dialect: d, Profile: engine.Profile{IdleTimeout: 20 * time.Second}})
		v := c.visit(codec.V1)
		call := v.enqueue("event")
		p := c.next()
		w := c.worker(p)
		id := firstOf(d)
		w.want(t, invoke(id, "event"))
		if err := errors.Join(call.Close(), w.send(choke(id))); err != nil {
			t.Fatal(err)
		}
		w.want(t, choke(id))
		began := time.Now()
		code := int64(13)
		if d == codec.V0 {
			code = 1
		}
		w.want(t, terminate(code, "slave is idle"))
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("it is asked after %v, want 20s", took)
		}
		if err := w.send(terminate(1, "bye")); err != nil {
			t.Fatal(err)
		}
		p.proc.Exit("exit status 0", true)
		<-p.Done()
		synctest.Wait()
		if i := c.Stats(); i.Crashed != 0 || len(i.Slaves) != 0 || len(c.Crashes()) != 0 {
			t.Errorf("Info() = %+v, want nothing left, and no crash", i)
		}
	})
}

// Control has slaves started, and surplus ones sealed.
func TestAppControl(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		var told diary
		c := newCloud(t, engine.AppConfig{
			Dialect: d, Profile: engine.Profile{PublishOn: 2, UnpublishUnder: 2},
			OnPublish: func(on bool) { told.add("%v", on) },
		})
		c.Control(2)
		p, q := c.next(), c.next()
		w, x := c.worker(p), c.worker(q)
		told.want(t, "true")
		c.Control(1)
		sealed, ended := w, p
		synctest.Wait()
		if q.State() != engine.Active {
			sealed, ended = x, q
		}
		code := int64(14)
		if d == codec.V0 {
			code = 1
		}
		sealed.want(t, terminate(code, "slave is sealing"))
		told.want(t, "true", "false")
		ended.proc.Exit("exit status 0", true)
		<-ended.Done()
		c.Control(0)
		c.none()
	})
}

// Stop lets what waits and runs end, then asks the workers to.
func TestAppStop(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		var told diary
		c := newCloud(t, engine.AppConfig{
			Dialect: d, Profile: engine.Profile{Concurrency: 1},
			OnPublish: func(on bool) { told.add("%v", on) },
		})
		v := c.visit(codec.V1)
		v.enqueue("first")
		v.enqueue("second")
		p := c.next()
		w := c.worker(p)
		id := firstOf(d)
		w.want(t, invoke(id, "first"))
		synctest.Wait() // true is told; nobody is told of what is over by then
		stopped := make(chan error)
		go func() { stopped <- c.Stop(t.Context()) }()
		synctest.Wait()
		v.wantError(v.enqueue("late"), service.CategoryNode, 6, "application is not running")
		for _, next := range []codec.Frame{invoke(id+1, "second"), {}} {
			if err := w.send(failure(id, 42, 1, "over")); err != nil {
				t.Fatal(err)
			}
			w.want(t, choke(id))
			if next.Kind != 0 {
				w.want(t, next)
			}
			id++
		}
		code, text := int64(11), "overseer is shutting down"
		if d == codec.V0 {
			code, text = 1, "the engine is shutting down"
		}
		w.want(t, terminate(code, text))
		if err := w.send(terminate(code, text)); err != nil {
			t.Fatal(err)
		}
		p.proc.Exit("exit status 0", true)
		if err := <-stopped; err != nil {
			t.Errorf("Stop() = %v", err)
		}
		told.want(t, "true", "false")
		if err := c.Stop(t.Context()); err != nil || len(c.Crashes()) != 0 {
			t.Errorf("Stop() again = %v, crashes %v, want none", err, c.Crashes())
		}
	})
}

// Stop does not wait for ever: a request that does not end has the seal timeout, and a
// context that ends kills.
func TestAppStopForced(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		c := newCloud(t, engine.AppConfig{Dialect: d, Profile: engine.Profile{SealTimeout: 7 * time.Second}})
		v := c.visit(codec.V1)
		call := v.enqueue("runs on")
		p := c.next()
		w := c.worker(p)
		w.want(t, invoke(firstOf(d), "runs on"))
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
		defer cancel()
		began := time.Now()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("Stop() = %v", err)
		}
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("Stop() takes %v, want 9s", took)
		}
		if got := p.proc.Signals(); !slices.Contains(got, "killed at 9s") {
			t.Errorf("the process got %q, want it killed", got)
		}
		v.wantError(call, 2, 125, "slave has been discarded")
	})
}

// A caller in this process has a session of its own.
func TestAppInvoke(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		c := newCloud(t, engine.AppConfig{Dialect: d, Profile: engine.Profile{Concurrency: 1, QueueLimit: 1, HandshakeTimeout: time.Hour}})
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Invoke(brief, "event", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Invoke() = %v, want its context's end", err)
		}
		result := make(chan *session.Session)
		go func() {
			s, err := c.Invoke(t.Context(), "event", nil)
			if err != nil {
				t.Errorf("Invoke() = %v", err)
			}
			result <- s
		}()
		synctest.Wait()
		var e *session.Error
		if _, err := c.Invoke(t.Context(), "event", nil); !errors.As(err, &e) || e.Category != service.CategoryOverseer || e.Delivery != session.NotSent {
			t.Errorf("Invoke() = %v, want a full queue", err)
		}
		w := c.worker(c.next())
		id := firstOf(d)
		w.want(t, invoke(id, "event"))
		call := <-result
		if err := errors.Join(w.send(chunk(id, "hello"), choke(id)), call.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(call.Reader(t.Context())); string(got) != "hello" || err != nil {
			t.Errorf("the answer is %q, %v", got, err)
		}
		w.want(t, choke(id))
		synctest.Wait()
		if i := c.Stats(); i.Load != 0 || i.Accepted != 2 {
			t.Errorf("Info() = %+v, want no load, 2 accepted", i)
		}
	})
}

func TestAppConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  engine.AppConfig
	}{
		{"no name", engine.AppConfig{Command: []string{"x"}}},
		{"no command", engine.AppConfig{Name: "x"}},
		{"dialect", engine.AppConfig{Name: "x", Command: []string{"x"}, Dialect: 7}},
		{"profile", engine.AppConfig{Name: "x", Command: []string{"x"}, Profile: engine.Profile{PoolLimit: 9999}}},
	} {
		if _, err := engine.NewApp(t.Context(), tt.cfg); err == nil {
			t.Errorf("%s: NewApp() = nil, want an error", tt.name)
		}
	}
}

// A request whose slave's output is full goes back to the queue, and to the slave when there
// is room; none is lost.
func TestAppOutputFull(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		cfg := engine.AppConfig{Dialect: d, Profile: engine.Profile{PoolLimit: 1, Concurrency: 1000}}
		cfg.Sessions.Channel.StallTimeout = time.Hour
		c := newCloud(t, cfg)
		v, other := c.visit(codec.V1), c.visit(codec.V1)
		big := v.enqueue("big")
		w := c.worker(c.next())
		w.want(t, invoke(firstOf(d), "big"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for big.Send(ctx, make([]byte, 64<<10)) == nil { // until it waits for the worker, which does not read
			synctest.Wait()
		}
		var want, got []string
		for c.Stats().QueueDepth < 3 {
			if len(want) == 900 {
				t.Fatal("the worker's output is never full")
			}
			want = append(want, fmt.Sprintf("%03d%s", len(want), strings.Repeat("x", 800)))
			other.enqueue(want[len(want)-1])
			synctest.Wait()
		}
		time.Sleep(time.Second) // it is tried again and again
		for len(got) < len(want) {
			_, m, err := w.next()
			if err != nil {
				t.Fatal(err)
			}
			if m.NumArgs == 1 && len(m.Payload) == 803 {
				got = append(got, string(m.Payload))
			}
		}
		slices.Sort(got) // one may find room that one before it did not
		if !slices.Equal(got, want) {
			t.Errorf("the worker got other requests than were made")
		}
	})
}
