package service

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace counts turns in every second, for those who come at the same time and for those
// who come one behind the other.
func TestPace(t *testing.T) {
	for _, rate := range []int{1, 2, 5, 10, 499, 500, 5000} {
		synctest.Test(t, func(t *testing.T) {
			p := newPace(rate)
			began := time.Now()
			var mu sync.Mutex
			var turns []time.Duration
			take := func() {
				if err := p.wait(t.Context()); err != nil {
					t.Errorf("wait() = %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				turns = append(turns, time.Since(began))
			}
			var wg sync.WaitGroup
			for range 2 * rate {
				wg.Go(take)
			}
			wg.Wait()
			time.Sleep(10 * time.Second) // what is not used is not saved up
			for range 2 * rate {
				take()
			}
			for i := range turns {
				if j := i + rate; j < len(turns) && turns[j]-turns[i] < time.Second {
					t.Fatalf("rate %d: %d turns in %v", rate, rate+1, turns[j]-turns[i])
				}
			}
			if took := time.Since(began); took > 10*time.Second+time.Duration(4*rate)*2*time.Second/time.Duration(rate) {
				t.Errorf("rate %d: %d turns took %v", rate, 4*rate, took)
			}
		})
	}
}

func TestPaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1)
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := p.wait(ctx); err != nil {
			t.Errorf("wait() = %v, want the first turn at once", err)
		}
		cause := errors.New("enough")
		time.AfterFunc(time.Millisecond, func() { cancel(cause) })
		if err := p.wait(ctx); err != cause {
			t.Errorf("wait() = %v, want the cause", err)
		}
	})
	if p := newPace(0); p != nil || p.wait(t.Context()) != nil {
		t.Errorf("newPace(0) = %v, want none", p)
	}
}

// TestLastAnswer is about what counts when a locator is asked.
func TestLastAnswer(t *testing.T) {
	good := Resolved{Endpoints: []Endpoint{{Host: "a", Port: 1}}, Version: 1}
	better := Resolved{Endpoints: []Endpoint{{Host: "b", Port: 1}}, Version: 2}
	away := errors.New("away")
	var a lastAnswer
	ask := func(r Resolved, err error, wantVersion uint32, wantErr error) {
		t.Helper()
		if got, gotErr := a.or(r, err); got.Version != wantVersion || gotErr != wantErr {
			t.Errorf("or(%v, %v) = version %d, %v, want %d, %v", r.Version, err, got.Version, gotErr, wantVersion, wantErr)
		}
	}
	ask(Resolved{}, away, 0, away) // there is none yet
	ask(good, nil, 1, nil)
	for range 2 { // so often in a row, and again once it has worked
		for range maxStale {
			ask(Resolved{}, away, 1, nil)
		}
		a.works()
	}
	ask(better, nil, 2, nil)
	for range maxStale {
		ask(Resolved{}, away, 2, nil)
	}
	ask(Resolved{}, away, 0, away)
	ask(Resolved{}, away, 0, away)
	ask(good, nil, 1, nil)
	gone := &VersionError{Name: "x", Have: 2, Want: 1}
	ask(Resolved{}, gone, 0, gone) // an answer is no reason to believe the last one
	ask(Resolved{}, away, 0, away)
}
