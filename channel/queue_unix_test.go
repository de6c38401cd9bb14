//go:build unix

package channel

import "syscall"

// shortQueue makes a listening socket's queue as short as it can be.
func shortQueue(fd uintptr) { _ = syscall.Listen(int(fd), 0) }
