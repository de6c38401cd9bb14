package engine

import (
	"context"
	"math"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Enqueue takes over s, a client's session that was just opened and of which nothing was
// handed over: it is joined to a new session of a worker, at once if a slave has a free
// slot, else when its turn in the queue comes. headers are those of the client's call;
// they are copied and go to the worker's invoke, and request_timeout among them bounds the
// request. The client is always answered: by the worker, or by an error that says why not
// (protocol: app and node). What it sends meanwhile is kept within
// session.Config.InboxBytes and MaxPause of its table, so those of a queue that is long
// are better generous. On the loop of s; it does not block.
func (a *App) Enqueue(s *session.Session, event string, headers []codec.Header) {
	now := time.Now()
	r := &request{app: a, client: s, event: event, born: now}
	a.mu.Lock()
	r.deadline = a.deadline(headers, now)
	v := a.pool.admit(r, now)
	a.meter.mark(now, a.pool.queue.depth)
	if v == isAssigned {
		a.armLocked(now, r.deadline)
		a.mu.Unlock()
		r.headers = headers
		r.forward()
		return
	}
	if v == isQueued {
		r.headers = codec.CloneHeaders(headers)
	}
	a.mu.Unlock()
	switch v {
	case isFull:
		answerQueueFull.give(s)
	case isStopping:
		answerNotRunning.give(s)
	case isExpired:
		answerExpired.give(s)
	default:
		s.Pause()
		s.SetHandler(waiter{r})
		a.turn() // for the pool to grow
	}
}

// EnqueueWhole is Enqueue for a v0 call, which carries all that the client has to say:
// data goes to the worker as one chunk with a choke behind it (protocol: app service, v0).
// data is copied.
func (a *App) EnqueueWhole(s *session.Session, event string, data []byte, headers []codec.Header) {
	s.Preload(data)
	a.Enqueue(s, event, headers)
}

// deadline is when a request of now expires; zero: never.
func (a *App) deadline(headers []codec.Header, now time.Time) time.Time {
	limit := a.pool.profile.RequestTimeout
	if d, ok := codec.TimeoutOf(headers); ok {
		limit = d
	}
	if limit > math.MaxInt64/2 {
		return time.Time{}
	}
	return now.Add(limit)
}

// waiter is the Handler of a client in the queue. Its session is paused, so that only its
// end is told.
type waiter struct{ r *request }

// OnChunk, OnChoke and OnError are for the session.
func (waiter) OnChunk(*session.Session, []byte) {}
func (waiter) OnChoke(*session.Session)         {}
func (w waiter) OnError(s *session.Session, e *session.Error) {
	if e.Remote { // the client has failed it, and awaits no answer but an end
		_ = s.SendError(e.Category, e.Code, e.Message)
	}
	w.r.over()
}

// forward joins the client with the slave that was chosen. On the client's loop.
func (r *request) forward() {
	a, m := r.app, r.member
	if r.client.Err() != nil { // gone while the decision was under way
		a.unused(r)
		return
	}
	err := m.slave.forward(r.client, r.event, r.headers, session.Splice{
		Translate: a.translate[r.client.Dialect()],
		OnEnd:     r.over,
	})
	if err != nil {
		r.returned()
		return
	}
	r.headers = nil
}

// returned puts a request back that its slave did not get. On the client's loop.
func (r *request) returned() {
	a := r.app
	r.headers = codec.CloneHeaders(r.headers)
	r.client.Pause()
	r.client.SetHandler(waiter{r})
	a.mu.Lock()
	v := a.pool.putBack(r, time.Now())
	a.mu.Unlock()
	if v == isStopping {
		answerNotRunning.give(r.client)
	}
	a.turn()
}

// unused frees the slot of a request that ended before its slave got it.
func (a *App) unused(r *request) {
	a.mu.Lock()
	a.pool.end(r)
	a.pool.unassign(r, time.Now())
	a.mu.Unlock()
	a.turn()
}

// over is the end of a request, on the loop of either side.
func (r *request) over() {
	a := r.app
	now := time.Now()
	a.mu.Lock()
	was := a.pool.end(r)
	if was == stageRunning {
		a.meter.took(now.Sub(r.born))
	}
	again := was == stageWaiting // the queue has room, and the pool may be drained
	a.mu.Unlock()
	if again {
		a.turn()
	}
}

// Invoke opens a session on a worker for a caller in this process, whose session it is: it
// reads by Recv, writes by Send, and ends both directions. It waits in the queue for its
// turn until ctx ends, or the time of the request_timeout header or the profile is over;
// after that the caller bounds it. An error is a *session.Error with Delivery NotSent, or
// the cause of ctx. Any goroutine but a loop.
func (a *App) Invoke(ctx context.Context, event string, headers []codec.Header) (*session.Session, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	now := time.Now()
	r := &request{app: a, event: event, born: now, granted: make(chan grant, 1)}
	a.mu.Lock()
	r.deadline = a.deadline(headers, now)
	v := a.pool.admit(r, now)
	m := r.member
	a.meter.mark(now, a.pool.queue.depth)
	a.armLocked(now, r.deadline)
	a.mu.Unlock()
	switch v {
	case isFull:
		return nil, answerQueueFull.err()
	case isStopping:
		return nil, answerNotRunning.err()
	case isExpired:
		return nil, answerExpired.err()
	case isQueued:
		a.turn()
	}
	for {
		if v == isQueued {
			var err error
			if m, err = a.awaitGrant(ctx, r); err != nil {
				return nil, err
			}
			headers = r.spent(codec.CloneHeaders(headers), time.Now())
		}
		call, err := m.slave.open(ctx, event, headers)
		if err == nil {
			a.mu.Lock()
			a.pool.end(r) // the slot is freed when the session is over
			a.mu.Unlock()
			return call, nil
		}
		if ctx.Err() != nil {
			a.unused(r)
			return nil, context.Cause(ctx)
		}
		a.mu.Lock()
		v = a.pool.putBack(r, time.Now())
		a.mu.Unlock()
		a.turn()
		switch v {
		case isAnswered:
			return nil, answerExpired.err()
		case isStopping:
			return nil, answerNotRunning.err()
		}
	}
}

// awaitGrant waits for the turn of a caller in this process.
func (a *App) awaitGrant(ctx context.Context, r *request) (*member, error) {
	select {
	case g := <-r.granted:
		return g.member, g.err
	case <-ctx.Done():
	}
	a.mu.Lock()
	was := a.pool.end(r)
	a.mu.Unlock()
	if was == stageRunning { // the grant is there, or on its way
		if g := <-r.granted; g.err == nil {
			a.unused(r)
		}
	}
	a.turn()
	return nil, context.Cause(ctx)
}

// assign has a chosen request go to its slave. Any goroutine.
func (r *request) assign(m *member) {
	if r.client == nil {
		r.granted <- grant{member: m}
		return
	}
	forward := func() {
		r.headers = r.spent(r.headers, time.Now())
		r.forward()
	}
	if !r.client.Channel().Post(forward) {
		r.app.unused(r)
	}
}

// spent returns headers with the time in the queue taken off what the worker is told it
// has. The list is written to: it is a copy of ours.
func (r *request) spent(headers []codec.Header, now time.Time) []codec.Header {
	if _, ok := codec.TimeoutOf(headers); !ok || r.deadline.IsZero() {
		return headers
	}
	left := codec.TimeoutHeader(max(r.deadline.Sub(now), time.Millisecond), new([8]byte))
	for i, h := range headers {
		if string(h.Name) == string(left.Name) {
			headers[i] = left
		}
	}
	return headers
}

// refuse answers a request that waited. Any goroutine.
func (r *request) refuse(why *answer) {
	if r.client == nil {
		r.granted <- grant{err: why.err()}
		return
	}
	r.client.Channel().Post(func() { why.give(r.client) }) // or the client is gone
}

// cut ends a request that runs for too long, on both sides. Any goroutine. A caller in
// this process, which is opening its session now, sees to it itself.
func (r *request) cut() {
	if r.client == nil {
		return
	}
	r.client.Channel().Post(func() {
		r.client.Cut(answerOverdue.in(r.client.Dialect()))
	})
}
