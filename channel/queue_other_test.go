//go:build !unix

package channel

// shortQueue makes a listening socket's queue as short as it can be, where that is known
// how to.
func shortQueue(uintptr) {}
