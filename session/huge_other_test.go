//go:build !unix

package session_test

import "testing"

// huge is as much as a 32-bit system has, too.
func huge(t *testing.T, n int) []byte { return make([]byte, min(n, 32<<20)) }
