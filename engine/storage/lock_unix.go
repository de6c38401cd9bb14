//go:build unix && !aix && !solaris

package storage

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks an open file for as long as it is open, here and in every other process.
// A process that dies gives it up.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return os.NewSyscallError("flock", err)
}
