package engine

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Table is the slave's state machine, for the walk.
var Table = table

// FakeProcess is a process for bubbles: it gets signals and ends when the test says so.
type FakeProcess struct {
	OnSignal func(syscall.Signal) // may call Exit

	begin time.Time
	left  chan struct{}
	out   *io.PipeWriter

	mu      sync.Mutex
	status  string
	signals []string // with the times since the start
	reaped  bool
}

// SpawnFake is Spawn with a fake process and without a socket: connections are admitted.
func SpawnFake(cfg SlaveConfig, p *FakeProcess) (*Slave, error) {
	return spawnFake(home{}, cfg, p)
}

func spawnFake(h home, cfg SlaveConfig, p *FakeProcess) (*Slave, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := newSlave(cfg, h)
	r, w := io.Pipe()
	p.out, p.left, p.begin = w, make(chan struct{}), time.Now()
	s.proc, s.out = p, newOutput(r, &s.cfg)
	go newSupervisor(s).run()
	return s, nil
}

// Admit has a worker's connection come into the slave's lobby.
func (s *Slave) Admit(conn net.Conn) { s.lobby.admit(conn) }

// Exit ends the leader of the group, and its output if all is true.
func (p *FakeProcess) Exit(status string, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status == "" {
		p.status = status
		close(p.left)
	}
	if all {
		_ = p.out.Close()
	}
}

// Write writes to the process's output.
func (p *FakeProcess) Write(text string) { _, _ = io.WriteString(p.out, text) }

// Signals returns what the group got, and when.
func (p *FakeProcess) Signals() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.signals...)
}

func (p *FakeProcess) pid() int { return 4711 }

func (p *FakeProcess) ended() <-chan struct{} { return p.left }

func (p *FakeProcess) signal(sig syscall.Signal) {
	p.mu.Lock()
	p.signals = append(p.signals, sig.String()+" at "+time.Since(p.begin).String())
	p.mu.Unlock()
	if sig == syscall.SIGKILL {
		p.Exit("signal: killed", true)
	} else if p.OnSignal != nil {
		p.OnSignal(sig)
	}
}

func (p *FakeProcess) reap() string {
	<-p.left
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		panic("reaped twice")
	}
	p.reaped = true
	_ = p.out.Close()
	return p.status
}

// NewFakeApp is NewApp with fake processes and without a socket. spawned is called for
// each process before the App knows of it.
func NewFakeApp(cfg AppConfig, spawned func(*Slave, *FakeProcess)) (*App, error) {
	a, err := newApp(cfg)
	if err != nil {
		return nil, err
	}
	a.spawn = func(h home, cfg SlaveConfig) (*Slave, error) {
		p := new(FakeProcess)
		s, err := spawnFake(h, cfg, p)
		if err == nil {
			spawned(s, p)
		}
		return s, err
	}
	a.run()
	return a, nil
}
