package engine

import (
	"os/exec"
	"syscall"
)

// groupLeader makes the process the leader of a group of its own, and has the kernel kill
// it should this process, or the thread that starts it, end first.
func groupLeader() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitEnd returns when the process has ended, and leaves it to be reaped.
func awaitEnd(cmd *exec.Cmd) {
	const byPID = 1 // P_PID
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(cmd.Process.Pid), 0,
			syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		switch errno {
		case 0:
			return
		case syscall.EINTR:
		default: // no waitid here
			_ = cmd.Wait()
			return
		}
	}
}
