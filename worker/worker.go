package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/session"
)

// Session is one invocation: an event, a stream each way.
type Session = session.Session

// Worker serves one application under an engine. Handlers are registered before Run.
type Worker struct {
	cfg   Config       // without the token
	token func() Token // nobody who prints a Worker sees into it
	log   *slog.Logger
	mux   mux
	t     *session.Table
	ch    *channel.Channel

	state   atomic.Uint32 // State; written on the loop once the channel is open
	used    atomic.Bool
	early   early
	base    context.Context // of every handler; cancelled at the end of the grace
	cancel  context.CancelCauseFunc
	running sync.WaitGroup // handlers in goroutines

	// owned by the loop
	active   int           // handlers in goroutines that a terminate waits for
	waiting  []*invocation // for one of Config.Concurrency
	beat     *channel.Timer
	disown   *channel.Timer
	pending  bool   // a heartbeat of ours is not answered
	heardAt  uint64 // bytes received when it was sent
	doubt    bool   // the disown deadline has passed
	grace    *channel.Timer
	overdue  bool      // the grace is over
	asked    terminate // what we will say when all have finished
	answered bool      // and that we did
	result   error     // what Run returns

	watch  watchdog
	counts counts
}

// early keeps what was asked for before the channel was open.
type early struct {
	mu     sync.Mutex
	opened bool     // there is a loop to ask
	asks   []func() // what it has to do first
	dial   context.Context
	giveUp context.CancelFunc
}

// terminate is the last control message: the engine's, or ours.
type terminate struct {
	code   int64
	reason string
}

// Codes of terminate in v0 (PROTOCOL.md, 3); v1 workers use the same.
const (
	terminateNormal   = 1
	terminateAbnormal = 2
)

// maxReasonBytes of a terminate; the rest is not sent. It must go out whatever it says.
const maxReasonBytes = 16 << 10

func (w *Worker) shorten(reason string) string {
	if n := min(maxReasonBytes, w.ch.MaxPayloadBytes()); len(reason) > n {
		return strings.ToValidUTF8(reason[:n], "")
	}
	return reason
}

// New returns a worker that has not connected yet, or says what is wrong with cfg.
// It starts nothing.
func New(cfg Config) (*Worker, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	w := &Worker{cfg: cfg, token: func() Token { return cfg.Token }, log: cfg.Logger}
	w.cfg.Token = Token{}
	w.early.dial, w.early.giveUp = context.WithCancel(context.Background())
	w.mux.init()
	t, err := session.New(cfg.sessions(events{w}, w.settled))
	if err != nil {
		return nil, err
	}
	w.t, w.ch = t, t.Channel()
	w.beat = w.ch.NewTimer(w.sendBeat)
	w.disown = w.ch.NewTimer(w.silent)
	w.grace = w.ch.NewTimer(w.graceOver)
	return w, nil
}

// State returns the present state. Any goroutine.
func (w *Worker) State() State { return State(w.state.Load()) }

// App returns the application's name. Any goroutine.
func (w *Worker) App() string { return w.cfg.App }

// Locators returns the addresses that the engine gave. Any goroutine.
func (w *Worker) Locators() []string { return w.cfg.Locators }

// Token returns the token that the engine gave. Any goroutine.
func (w *Worker) Token() Token { return w.token() }

// fire moves the state machine and reports whether the event was legal.
func (w *Worker) fire(e event) bool {
	to, ok := table.Next(w.State(), e)
	if ok {
		w.state.Store(uint32(to))
	}
	return ok
}

// Run connects to the engine and serves until the worker ends; it may be called once.
// It returns nil after the engine's terminate and after an end that we asked for
// (ctx, Terminate, Close), ErrDisowned if the engine fell silent, a *TerminateError if
// the engine called the worker abnormal, and otherwise why the connection failed (a
// *channel.CloseError is in the chain).
//
// When ctx ends the worker terminates normally, within Config.Grace. Handlers get a
// context with the values of ctx, which outlives it by that grace. Run returns after
// all handlers did, or a grace after the connection is gone.
func (w *Worker) Run(ctx context.Context) error {
	if !w.used.CompareAndSwap(false, true) {
		return ErrUsed
	}
	w.base, w.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	defer w.cancel(nil)
	defer w.early.giveUp()
	w.mux.freeze()
	w.fire(evConnect)
	if err := w.connect(ctx); err != nil {
		return w.notConnected(ctx, err)
	}
	stop := w.watch.start(w)
	defer stop()
	select {
	case <-w.ch.Done():
	case <-ctx.Done():
		w.Terminate(false, "the worker was asked to stop")
		<-w.ch.Done()
	}
	_ = w.ch.Close(context.Background()) // waits for the transport
	w.awaitHandlers()
	return w.result
}

// connect opens the channel, unless the end was asked for before.
func (w *Worker) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.ConnectTimeout)
	defer cancel()
	defer context.AfterFunc(w.early.dial, cancel)()
	err := errors.Join(ctx.Err(), w.early.dial.Err())
	switch conn := w.cfg.Conn; {
	case conn != nil && err != nil:
		_ = conn.Close()
		return err
	case conn != nil:
		return w.ch.Attach(conn)
	case err != nil:
		return err
	}
	return w.ch.Connect(ctx, network(w.cfg.Endpoint), w.cfg.Endpoint)
}

// notConnected is the end of a Run that came to no connection.
func (w *Worker) notConnected(ctx context.Context, err error) error {
	w.fire(evLost)
	if ctx.Err() != nil || w.early.dial.Err() != nil {
		return nil // it was asked to end
	}
	err = fmt.Errorf("worker: connect to the engine: %w", err)
	if w.cfg.Observer.OnError != nil {
		w.cfg.Observer.OnError(err)
	}
	return err
}

// ask runs f on the loop. Before there is one it gives up the dial, and has f run first
// if the dial succeeds all the same.
func (w *Worker) ask(f func()) {
	e := &w.early
	e.mu.Lock()
	if e.opened {
		e.mu.Unlock()
		w.ch.Post(f)
		return
	}
	e.asks = append(e.asks, f)
	e.mu.Unlock()
	e.giveUp()
}

// open returns what was asked for until now; from now on the loop is asked.
func (e *early) open() []func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opened = true
	return e.asks
}

// awaitHandlers gives handlers a last grace to see that their context is done.
func (w *Worker) awaitHandlers() {
	w.cancel(ErrTerminating)
	done := make(chan struct{})
	go func() {
		w.running.Wait()
		close(done)
	}()
	t := time.NewTimer(w.cfg.Grace)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		w.log.Error("worker: handlers do not return; they are left behind")
	}
}

// Terminate asks the engine to let the worker go. A normal end refuses new sessions
// and lets the running ones finish within Config.Grace; an abnormal one cuts them. In
// v0 an abnormal end (code 2) makes the engine stop the whole application. Run returns
// when it is done, or at once if there is no connection yet. Any goroutine.
func (w *Worker) Terminate(abnormal bool, reason string) {
	w.ask(func() {
		if w.State() == Stopping || !w.fire(evStop) || w.State() != Stopping {
			return
		}
		w.asked = terminate{terminateNormal, w.shorten(reason)}
		w.startGrace()
		if abnormal {
			w.asked.code = terminateAbnormal
			w.cutAll(reason)
		}
		w.finishIfIdle()
	})
}

// Close ends the connection at once and drops what was not sent. Any goroutine.
func (w *Worker) Close() {
	w.ask(func() {
		w.fire(evStop)
		w.ch.Fail(&channel.CloseError{Code: channel.CodeClosed, Reason: "the worker was closed"})
	})
}

// ended says what Run returns after the channel closed with err.
func (w *Worker) ended(err *channel.CloseError) error {
	asked := w.State() == Stopping || w.State() == Terminated
	switch {
	case w.result != nil:
		return w.result
	case !asked || err.Code == channel.CodePanic:
		return fmt.Errorf("worker: lost the engine: %w", err)
	case err.Code != channel.CodeClosed && (!w.answered || err.Undelivered > 0):
		w.log.Warn("worker: ended before all was answered and delivered", "err", err)
	}
	return nil
}
