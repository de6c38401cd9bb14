//go:build !unix

package engine

import (
	"os"
	"os/exec"
	"syscall"
)

// There are no process groups here: only the process that was started is ended.

func groupLeader() *syscall.SysProcAttr { return nil }

func awaitEnd(cmd *exec.Cmd) { _ = cmd.Wait() }

// signalGroup ends the process at the last signal; there are no others.
func signalGroup(leader *os.Process, sig syscall.Signal) {
	if sig == syscall.SIGKILL {
		_ = leader.Kill()
	}
}

func groupLives(*os.Process) bool { return false }

// guard is for groups.
type guard struct{}

func startGuard(*os.Process) *guard { return nil }

func (*guard) release() {}
