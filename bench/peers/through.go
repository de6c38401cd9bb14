package main

import (
	"syscall"
)

// dieWithParent has a child end when the process that started it does, however that is.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
