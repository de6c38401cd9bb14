//go:build !unix || aix || solaris

package storage

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// lockFile fails: without a lock, and a sync of directories, there is no store.
func lockFile(*os.File) error {
	return fmt.Errorf("on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
