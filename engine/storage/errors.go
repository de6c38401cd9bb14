package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// What callers branch on, with errors.Is.
var (
	// ErrNotFound says that there is no value under the key.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt says that the record of the key is damaged. It is kept until the key
	// is written or removed.
	ErrCorrupt = errors.New("corrupt record")
	// ErrLocked says that the directory belongs to another Store, here or in another
	// process.
	ErrLocked = errors.New("in use by another store")
	// ErrBroken says that the directory could not be synced, so that the disk may lack
	// what readers see. Whoever was told it with the first such error has changed the
	// value for now; later changes are refused. Opening the store anew ends it, and is
	// to be trusted only if the disk is.
	ErrBroken = errors.New("broken: the directory could not be synced")
	// ErrClosed says that the Store is closed.
	ErrClosed = errors.New("closed")
)

// Error is what every method of Store and Open return.
type Error struct {
	Op         string // open, read, write, remove, find
	Collection string // empty for open
	Key        string // empty for open and find
	Err        error  // the cause; wraps a syscall.Errno, a context's error or one of the above

	dir string
}

// Error returns the operation, the names and the cause.
func (e *Error) Error() string {
	switch e.Op {
	case "open":
		return fmt.Sprintf("storage: open %q: %v", e.dir, e.Err)
	case "find":
		return fmt.Sprintf("storage: find in %q: %v", e.Collection, e.Err)
	}
	return fmt.Sprintf("storage: %s %q in %q: %v", e.Op, e.Key, e.Collection, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errno returns the cause as a number, which is what the live runtime answers (category
// 12): that of the system's error; ENOENT for ErrNotFound, EIO for ErrCorrupt and whatever
// has no number.
func (e *Error) Errno() syscall.Errno {
	var errno syscall.Errno
	switch {
	case errors.Is(e.Err, ErrNotFound):
		return syscall.ENOENT
	case errors.Is(e.Err, ErrLocked):
		return syscall.EBUSY
	case errors.Is(e.Err, ErrClosed), errors.Is(e.Err, context.Canceled):
		return syscall.ECANCELED
	case errors.Is(e.Err, context.DeadlineExceeded):
		return syscall.ETIMEDOUT
	case errors.As(e.Err, &errno):
		return errno
	}
	return syscall.EIO
}

// Text returns what the live runtime prints: the path that the names make and the text
// of the number, "<directory>/<collection>/<key>: No such file or directory". It is for
// people, or rather for programs that are used to it: our files have other names.
func (e *Error) Text() string {
	path := strings.TrimSuffix(e.dir, "/")
	for _, name := range []string{e.Collection, e.Key} {
		if name != "" {
			path += "/" + name
		}
	}
	reason := "no such file or directory" // whatever the system calls it
	if errno := e.Errno(); errno != syscall.ENOENT {
		reason = errno.Error()
	}
	return path + ": " + strings.ToUpper(reason[:1]) + reason[1:]
}

func corrupt(reason string) error { return fmt.Errorf("%w: %s", ErrCorrupt, reason) }
