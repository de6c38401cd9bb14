//go:build unix

package engine

import (
	"os"
	"os/exec"
	"syscall"
)

// signalGroup sends sig to every process of the group that leader leads or led.
func signalGroup(leader *os.Process, sig syscall.Signal) {
	_ = syscall.Kill(-leader.Pid, sig) // no such group: nothing to tell
}

// groupLives reports whether a process of the group is there, if only as a zombie.
func groupLives(leader *os.Process) bool {
	return syscall.Kill(-leader.Pid, 0) == nil
}

// guard is a process in a worker's group that kills the group when this process ends: that
// closes the pipe which it reads. The kernel kills no more than the leader, and that on
// Linux only; others of the group may not notice, or not care. It is nil where the system
// has no shell.
type guard struct {
	cmd  *exec.Cmd
	pipe *os.File // nothing is ever written to it
}

// guardScript outlives the signals that are for the worker.
const guardScript = `trap "" HUP INT QUIT TERM; read -r x; kill -KILL 0`

// startGuard starts the guard of the group that leader leads, which has not been reaped.
func startGuard(leader *os.Process) *guard {
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", guardScript)
	cmd.Dir, cmd.Env, cmd.Stdin = "/", []string{}, r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: leader.Pid}
	if cmd.Start() != nil {
		_ = w.Close()
		return nil
	}
	return &guard{cmd, w}
}

// release ends the guard, with whatever of its group still lives, and reaps it.
func (g *guard) release() {
	if g == nil {
		return
	}
	_ = g.pipe.Close()
	_ = g.cmd.Wait() // it was killed
}
