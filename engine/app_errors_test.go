package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// What a client is told, and its worker, when things go wrong (protocol: app and
// node).
func TestAppErrors(t *testing.T) {
	type scene struct {
		c    *cloud
		v    *visitor
		p    *spawned
		w    *rawWorker
		call *session.Session
		id   uint64
	}
	for _, tt := range []struct {
		name           string
		play           func(t *testing.T, s *scene)
		category, code int64
		message        string
		codeV0         int64
		messageV0      string
	}{
		{"worker dies", func(t *testing.T, s *scene) { _ = s.w.Close(); s.p.proc.Exit("signal: killed", true) },
			5, 2, "slave has been discarded", 2, "slave has unexpectedly disconnected"},
		{"worker is silent", func(*testing.T, *scene) { time.Sleep(31 * time.Second) },
			2, 125, "slave has been discarded", 2, "slave has timed out"},
		{"worker leaves", func(t *testing.T, s *scene) { _ = s.w.send(terminate(1, "enough")) },
			2, 125, "slave has been discarded", 2, "enough"},
		{"worker fails the call", func(t *testing.T, s *scene) { _ = s.w.send(failure(s.id, 42, 7, "no")) },
			42, 7, "no", 7, "no"},
		{"it takes too long", func(t *testing.T, s *scene) {
			_ = s.c.SetProfile(engine.Profile{RequestTimeout: 5 * time.Second})
			s.call = s.v.enqueue("event")
			s.id++
			s.w.want(t, invoke(s.id, "event"))
			if s.v.d == codec.V0 {
				s.w.want(t, chunk(s.id, "all of it"))
				s.w.want(t, choke(s.id))
				return
			}
			s.w.want(t, failure(s.id, service.CategoryNode, 3, "invocation has timed out"))
		}, service.CategoryNode, 3, "invocation has timed out", 3, "invocation has timed out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pairsOf(t, func(t *testing.T, client, worker codec.Dialect) {
				s := &scene{c: newCloud(t, engine.AppConfig{Dialect: worker}), id: firstOf(worker)}
				s.v = s.c.visit(client)
				s.call = s.v.enqueue("event")
				s.p = s.c.next()
				s.w = s.c.worker(s.p)
				s.w.want(t, invoke(s.id, "event"))
				if client == codec.V0 {
					s.w.want(t, chunk(s.id, "all of it"))
					s.w.want(t, choke(s.id))
				}
				tt.play(t, s)
				if client == codec.V0 {
					s.v.wantError(s.call, 0, tt.codeV0, tt.messageV0)
					return
				}
				s.v.wantError(s.call, tt.category, tt.code, tt.message)
			})
		})
	}
}

// What a client is told that never got to a worker.
func TestAppRefuses(t *testing.T) {
	pairsOf(t, func(t *testing.T, client, worker codec.Dialect) {
		c := newCloud(t, engine.AppConfig{Dialect: worker, Profile: engine.Profile{
			QueueLimit: 1, RequestTimeout: 3 * time.Second, HandshakeTimeout: time.Hour,
		}})
		v := c.visit(client)
		want := func(s *session.Session, category, code int64, text string, codeV0 int64, textV0 string) {
			t.Helper()
			if client == codec.V0 {
				category, code, text = 0, codeV0, textV0
			}
			v.wantError(s, category, code, text)
		}
		first := v.enqueue("waits")
		p := c.next()
		want(v.enqueue("too much"), service.CategoryOverseer, 1, "queue is full", 2, "the queue is full")
		want(first, service.CategoryNode, 1, "the event has expired in the queue", 4, "the session has expired in the queue")
		if i := c.Stats(); i.Accepted != 1 || i.Rejected != 1 || i.QueueDepth != 0 {
			t.Errorf("Info() = %+v, want one accepted, one rejected", i)
		}
		p.proc.OnSignal = nil
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		want(v.enqueue("late"), service.CategoryNode, 6, "application is not running", 2, "the engine is not active")
	})
}

// The header of a request says how long it may wait and run.
func TestAppRequestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, engine.AppConfig{Dialect: codec.V1, Profile: engine.Profile{HandshakeTimeout: time.Hour}})
		v := c.visit(codec.V1)
		began := time.Now()
		call := v.enqueue("event", codec.TimeoutHeader(1500*time.Millisecond, new([8]byte)))
		v.wantError(call, service.CategoryNode, 1, "the event has expired in the queue")
		if took := time.Since(began); took != 1500*time.Millisecond {
			t.Errorf("it expired after %v, want 1.5s", took)
		}
	})
}

// A client that goes away takes its request out of the queue, or has the worker told.
func TestAppClientGone(t *testing.T) {
	pairsOf(t, func(t *testing.T, client, worker codec.Dialect) {
		c := newCloud(t, engine.AppConfig{Dialect: worker})
		v, other := c.visit(client), c.visit(codec.V1)
		v.enqueue("leaves the queue")
		p := c.next()
		v.leave()
		synctest.Wait()
		if i := c.Stats(); i.QueueDepth != 0 {
			t.Errorf("the queue has %d requests, want none", i.QueueDepth)
		}
		w := c.worker(p)
		other.enqueue("event")
		id := firstOf(worker)
		w.want(t, invoke(id, "event"))
		other.leave()
		w.want(t, failure(id, 5, 2, "End of file"))
		if worker == codec.V0 {
			w.want(t, choke(id))
		}
		synctest.Wait()
		if i := c.Stats(); i.Load != 0 {
			t.Errorf("the load is %d, want 0", i.Load)
		}
	})
}

// A client that breaks the protocol loses its connection; its worker is told so.
func TestAppClientMisspeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, engine.AppConfig{Dialect: codec.V1})
		v := c.visit(codec.V1)
		v.enqueue("event")
		w := c.worker(c.next())
		w.want(t, invoke(2, "event"))
		bad := codec.Frame{Kind: codec.KindCall, Session: 1, Type: 17}
		if err := v.table.Channel().SendOffLoop(t.Context(), &bad); err != nil {
			t.Fatal(err)
		}
		w.want(t, failure(2, 7, 5, "specified slot is not bound"))
	})
}

// A client that fails its call in the queue is answered, and no worker hears of it.
func TestAppClientFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, engine.AppConfig{Dialect: codec.V1})
		v := c.visit(codec.V1)
		call := v.enqueue("given up")
		p := c.next()
		if err := call.Fail(42, 17, "too late"); err != nil {
			t.Fatal(err)
		}
		v.wantError(call, 42, 17, "too late")
		v.enqueue("goes on")
		c.worker(p).want(t, invoke(2, "goes on"))
	})
}
