//go:build unix && !linux

package engine

import (
	"os/exec"
	"syscall"
)

// groupLeader makes the process the leader of a group of its own.
func groupLeader() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitEnd returns when the process has ended and was reaped. The number of its group
// stays taken while the group has other members.
func awaitEnd(cmd *exec.Cmd) { _ = cmd.Wait() }
