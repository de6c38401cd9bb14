//go:build !linux

package channel

import "testing"

// reusedDescriptor (C6): without the event loop the net package owns the descriptors.
func reusedDescriptor(t *testing.T) { t.Skip("no descriptor of ours on this system") }
