//go:build unix

package session_test

import (
	"syscall"
	"testing"
)

// huge is a slice that takes address space and no memory, for as long as nobody writes it.
func huge(t *testing.T, n int) []byte {
	t.Helper()
	p, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(p) })
	return p
}
