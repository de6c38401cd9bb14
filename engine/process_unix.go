//go:build unix

package engine

import (
	"os"
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
