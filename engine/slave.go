package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Slave is one worker process, from its start until nothing of it is left. Its methods
// are for any goroutine; those that wait are not for a loop.
type Slave struct {
	// immutable once it is spawned
	cfg   SlaveConfig
	home  home
	uuid  string
	log   *slog.Logger
	lobby *lobby
	proc  process
	out   *output
	began time.Time

	state   atomic.Uint32 // State; written by Spawn, then by the supervisor
	link    atomic.Pointer[link]
	load    atomic.Int64 // sessions that are open or being opened
	invoked atomic.Uint64

	seal, terminate, kill ask
	code                  int64 // of the terminate; written before it is asked
	reason                string

	notes  chan note     // with room for all that links ever send, so they never wait
	idle   sync.Once     // of the note that says so
	ready  chan struct{} // closed when active, or never to be
	done   chan struct{} // closed when gone
	err    error         // written before done is closed
	status string        // of the process; likewise
}

// home is where a slave belongs if it is one of several: their lobby, and who wants to know
// of it. The zero home is for one that has a lobby of its own.
type home struct {
	lobby   *lobby
	moved   func(*Slave, State) // when it is active, terminating, gone; must not block
	settled func(*Slave)        // a session of it is over; on the loop of its channel
}

// ask is something that a slave is asked for, once.
type ask struct {
	once  sync.Once
	asked chan struct{} // closed then
}

func (a *ask) now() { a.once.Do(func() { close(a.asked) }) }

// note is what a link tells the supervisor.
type note struct {
	on  event
	why *SlaveError // of evLost
}

const maxNotes = 3 // ready, lost, idle

// Spawn starts a worker process and returns when it runs; it is not ready then, but see
// [Slave.Ready]. ctx bounds the making of the socket only. The caller ends the slave with
// Terminate or Kill; if Spawn fails, nothing is left. The error wraps that of os/exec.
func Spawn(ctx context.Context, cfg SlaveConfig) (*Slave, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := newSlave(cfg, home{})
	if _, err := s.table(&link{lobby: s.lobby}); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if err := s.lobby.open(ctx, channel.ListenConfig{Logger: cfg.Logger}); err != nil {
		return nil, fmt.Errorf("engine: socket for the worker: %w", err)
	}
	if err := s.start(); err != nil {
		_ = s.lobby.close()
		return nil, err
	}
	go newSupervisor(s).run()
	return s, nil
}

// spawnAt is Spawn for a slave that comes into the lobby of h, which is open.
func spawnAt(h home, cfg SlaveConfig) (*Slave, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := newSlave(cfg, h)
	if err := s.start(); err != nil {
		s.lobby.forget(s)
		return nil, err
	}
	go newSupervisor(s).run()
	return s, nil
}

// newSlave returns a slave without a process; a lobby of its own has no socket yet.
func newSlave(cfg SlaveConfig, h home) *Slave {
	s := &Slave{
		cfg: cfg, home: h, lobby: h.lobby, uuid: newUUID(), began: time.Now(),
		notes: make(chan note, maxNotes), ready: make(chan struct{}), done: make(chan struct{}),
	}
	s.log = cfg.Logger.With("app", cfg.App, "uuid", s.uuid)
	for _, a := range []*ask{&s.seal, &s.terminate, &s.kill} {
		a.asked = make(chan struct{})
	}
	if s.lobby == nil {
		s.lobby = newLobby(s.table)
	}
	s.lobby.expect(s)
	return s
}

// table returns the session table of a new link.
func (s *Slave) table(k *link) (*session.Table, error) {
	return session.New(s.cfg.sessions(k, k.settled))
}

// start runs the process.
func (s *Slave) start() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("engine: start the worker: %w", err)
	}
	p, err := startProcess(&s.cfg, s.lobby.endpoint, s.uuid, w)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return fmt.Errorf("engine: start the worker: %w", err)
	}
	s.proc, s.out = p, newOutput(r, &s.cfg)
	return nil
}

// fire moves the state machine; by Spawn, then by the supervisor only.
func (s *Slave) fire(e event) bool {
	to, ok := table.Next(s.State(), e)
	if ok {
		s.state.Store(uint32(to))
		if s.home.moved != nil {
			s.home.moved(s, to)
		}
	}
	return ok
}

// State returns the present state.
func (s *Slave) State() State { return State(s.state.Load()) }

// UUID returns what the worker is known by: 36 characters, random, of version 4.
func (s *Slave) UUID() string { return s.uuid }

// PID returns the number of the process, which is also that of its group.
func (s *Slave) PID() int { return s.proc.pid() }

// Output returns the last lines that the process wrote, the oldest first.
func (s *Slave) Output() []string { return s.out.last() }

// Done is closed when the slave is gone.
func (s *Slave) Done() <-chan struct{} { return s.done }

// Err returns nil before the slave is gone, and after it ended as it was asked to by
// Terminate or Seal; otherwise a *SlaveError.
func (s *Slave) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Wait waits for the slave to be gone and returns Err; or the cause of ctx, which ends
// the waiting only.
func (s *Slave) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.err
	default:
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ready waits until the slave is active, at most for SlaveConfig.HandshakeTimeout. The
// error is a *SlaveError, once the slave is gone and it is known why; or the cause of ctx,
// which ends the waiting only.
func (s *Slave) Ready(ctx context.Context) error {
	if err := s.awaitReady(ctx); err != nil {
		return err
	}
	if s.State() <= Sealing {
		return nil
	}
	return s.gone(ctx)
}

// awaitReady waits for the slave to be active, or never to be.
func (s *Slave) awaitReady(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	default:
	}
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gone waits for the end and returns why, an error even if it was asked for.
func (s *Slave) gone(ctx context.Context) error {
	if err := s.Wait(ctx); err != nil {
		return err
	}
	return &SlaveError{Code: SlaveInvalidState, Reason: "the slave was asked to end"}
}

// Invoke opens a session on the worker, when the slave is active. It waits for that, and
// for room in the output, until ctx ends. headers are v1 only and copied. The session is
// the caller's: it is read by Recv, and both of its directions must end for it to leave
// the slave's load. An error is a *session.Error whose Delivery is session.NotSent: it is
// safe to try another slave.
func (s *Slave) Invoke(ctx context.Context, event string, headers []codec.Header) (*session.Session, error) {
	if err := s.awaitReady(ctx); err != nil {
		return nil, refused(err)
	}
	return s.open(ctx, event, headers)
}

// open is Invoke for a slave that was active a moment ago.
func (s *Slave) open(ctx context.Context, event string, headers []codec.Header) (*session.Session, error) {
	if err := s.take(); err != nil {
		return nil, err
	}
	call, err := s.link.Load().table.OpenOffLoop(ctx, event, headers, nil)
	if err != nil {
		s.unload()
		return nil, err
	}
	s.invoked.Add(1)
	return call, nil
}

// forward joins client with a new session of the worker. An error says that nothing was
// opened, and client is as it was. On the loop of client.
func (s *Slave) forward(client *session.Session, event string, headers []codec.Header, cfg session.Splice) error {
	if err := s.take(); err != nil {
		return err
	}
	if err := client.Forward(s.link.Load().table, event, headers, cfg); err != nil {
		s.unload()
		return err
	}
	s.invoked.Add(1)
	return nil
}

// take adds a session to the load of an active slave.
func (s *Slave) take() error {
	s.load.Add(1) // before the look: Seal looks at the load after it has changed the state
	if state := s.State(); state != Active {
		s.unload()
		return refused(&SlaveError{Code: SlaveInvalidState, Reason: "the slave is " + state.String()})
	}
	return nil
}

func refused(err error) error {
	return &session.Error{Message: "the session was not opened", Delivery: session.NotSent, Err: err}
}

// settled is told of each session that is over. On the loop.
func (s *Slave) settled() {
	s.unload()
	if s.home.settled != nil {
		s.home.settled(s)
	}
}

// unload takes one session off the load.
func (s *Slave) unload() {
	if s.load.Add(-1) == 0 {
		s.noteIdle()
	}
}

// noteIdle tells a supervisor that seals when no session is open.
func (s *Slave) noteIdle() {
	if s.State() == Sealing && s.load.Load() == 0 {
		s.idle.Do(func() { s.notes <- note{on: evTerminate} })
	}
}

// Terminate asks the worker to end, and waits until the slave is gone; it returns Err. The
// worker gets a terminate with code and reason (in v0 code is 1; 2 says that the
// application is broken) and SlaveConfig.TerminateTimeout to let its sessions finish, to
// answer and to exit; then SIGTERM, and after KillTimeout SIGKILL, which goes to its whole
// group. A worker that has not shaken hands gets SIGTERM at once. If ctx ends first the
// group is killed. Of several calls the first one's code and reason count.
func (s *Slave) Terminate(ctx context.Context, code int64, reason string) error {
	s.askTerminate(code, reason)
	return s.end(ctx)
}

// askTerminate is Terminate without the waiting.
func (s *Slave) askTerminate(code int64, reason string) {
	s.terminate.once.Do(func() {
		s.code, s.reason = code, reason
		close(s.terminate.asked)
	})
}

// Seal has the worker take no more sessions, lets the open ones go on for at most
// SlaveConfig.SealTimeout, and then does what Terminate does. A slave that is not active
// is terminated at once.
func (s *Slave) Seal(ctx context.Context) error {
	s.seal.now()
	return s.end(ctx)
}

// end waits for the end, with force once ctx has ended.
func (s *Slave) end(ctx context.Context) error {
	select {
	case <-s.done:
	case <-ctx.Done():
		s.Kill()
		<-s.done
	}
	return s.err
}

// Kill kills the worker's process group at once and does not wait: Done is closed when the
// system has ended it. It may be called at any time, more than once, also on a loop.
func (s *Slave) Kill() { s.kill.now() }
