package engine

import (
	"container/heap"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// request is one call of an application, from its enqueue until both sides have ended.
type request struct {
	// immutable
	app      *App
	client   *session.Session // nil: a caller in this process
	event    string
	born     time.Time
	deadline time.Time  // zero: none
	granted  chan grant // of a caller in this process; room for one

	headers []codec.Header // owned by the client's loop; borrowed until it waits

	// guarded by the App's mu
	number     uint64 // in the order of their coming
	stage      stage
	member     *member // that serves it; nil while it waits
	prev, next *request
	place      int // in deadlines, from 1 on; 0: not there
}

// stage says how far a request has come.
type stage uint8

const (
	stageFresh   stage = iota
	stageWaiting       // in the queue
	stageRunning       // a slave was chosen
	stageEnded         // answered, or its client is gone
)

// grant tells a caller in this process of its turn: a slave, or why there is none.
type grant struct {
	member *member
	err    error
}

// queue is the requests that wait for a slave, the next one first. Any of them can leave
// it at any time, which is why it is a list.
type queue struct {
	first, last *request
	depth       int
}

// push puts a request at the end.
func (q *queue) push(r *request) {
	r.prev, r.next = q.last, nil
	if q.last != nil {
		q.last.next = r
	} else {
		q.first = r
	}
	q.last = r
	q.depth++
}

// pushBack puts a request where it was: before all who came later. It had its turn, and
// nothing came of it; only others of that kind are before it.
func (q *queue) pushBack(r *request) {
	next := q.first
	for next != nil && next.number < r.number {
		next = next.next
	}
	if next == nil {
		q.push(r)
		return
	}
	r.prev, r.next = next.prev, next
	if next.prev != nil {
		next.prev.next = r
	} else {
		q.first = r
	}
	next.prev = r
	q.depth++
}

// remove takes a request out that is in the queue.
func (q *queue) remove(r *request) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		q.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		q.last = r.prev
	}
	r.prev, r.next = nil, nil
	q.depth--
}

// deadlines is a heap of requests, the one that expires next first. Most come in the order
// in which they expire, so adding one hardly ever moves another.
type deadlines []*request

// Len, Less, Swap, Push and Pop are for container/heap.
func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i+1, j+1
}
func (d *deadlines) Push(x any) {
	r := x.(*request)
	*d = append(*d, r)
	r.place = len(*d)
}
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	r := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	r.place = 0
	return r
}

// add has the request expire; one without a deadline does not.
func (d *deadlines) add(r *request) {
	if !r.deadline.IsZero() {
		heap.Push(d, r)
	}
}

// remove has the request expire no more.
func (d *deadlines) remove(r *request) {
	if r.place > 0 {
		heap.Remove(d, r.place-1)
	}
}

// next returns when the first one expires; zero: never.
func (d deadlines) next() time.Time {
	if len(d) == 0 {
		return time.Time{}
	}
	return d[0].deadline
}

// expired takes out one that has expired by now; nil if there is none.
func (d *deadlines) expired(now time.Time) *request {
	if len(*d) == 0 || (*d)[0].deadline.After(now) {
		return nil
	}
	return heap.Pop(d).(*request)
}
