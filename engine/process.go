package engine

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// process is a worker's process and the group that it leads, as the supervisor sees it.
type process interface {
	pid() int
	// ended is closed when the leader has ended.
	ended() <-chan struct{}
	// signal tells the whole group. It does nothing after reap.
	signal(sig syscall.Signal)
	// reap, after ended, kills what is left of the group, waits until it is dead, and
	// returns how the leader ended.
	reap() (status string)
}

// osProcess is a process of the system.
type osProcess struct {
	cmd   *exec.Cmd
	left  chan struct{}
	guard *guard // of the group

	mu     sync.Mutex // guards the following
	reaped bool
}

// groupWait bounds the wait for a killed group. Its members are no children of ours: a
// system that does not reap orphans keeps them as zombies for ever.
const groupWait = 200 * time.Millisecond

// startProcess runs cfg.Command with the engine's flags. out is its stdout and stderr.
func startProcess(cfg *SlaveConfig, endpoint, uuid string, out *os.File) (*osProcess, error) {
	args := append(append([]string(nil), cfg.Command[1:]...), cfg.args(endpoint, uuid)...)
	cmd := exec.Command(cfg.Command[0], args...)
	cmd.Dir, cmd.Env = cfg.Dir, cfg.env(uuid)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = groupLeader()
	p := &osProcess{cmd: cmd, left: make(chan struct{})}
	started := make(chan error)
	go p.watch(started)
	return p, <-started
}

// watch starts the leader and waits for its end, on a thread that does nothing else: the
// kernel kills the leader when the thread that started it ends, and Go ends threads.
func (p *osProcess) watch(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.left)
	err := p.cmd.Start()
	if _, noDir := os.Stat(p.cmd.Dir); p.cmd.Dir != "" && err != nil && noDir != nil {
		err = noDir // else it would be blamed on the program
	}
	if err != nil {
		started <- err
		return
	}
	p.guard = startGuard(p.cmd.Process)
	started <- nil
	awaitEnd(p.cmd)
}

func (p *osProcess) pid() int { return p.cmd.Process.Pid }

func (p *osProcess) ended() <-chan struct{} { return p.left }

func (p *osProcess) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		signalGroup(p.cmd.Process, sig)
	}
}

// reap kills the group before it reaps the leader, where the system lets us: until then
// the number of the group cannot become somebody else's.
func (p *osProcess) reap() string {
	<-p.left
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return p.cmd.ProcessState.String()
	}
	signalGroup(p.cmd.Process, syscall.SIGKILL)
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Wait() // the state says it all
	}
	p.guard.release()
	p.reaped = true
	for wait := time.Millisecond; wait < groupWait && groupLives(p.cmd.Process); wait *= 2 {
		time.Sleep(wait)
	}
	return p.cmd.ProcessState.String()
}
