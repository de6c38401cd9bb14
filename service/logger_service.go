package service

import "context"

// logService is what a Logger needs of the logging service. Only its sender calls it, one
// method at a time.
type logService interface {
	// emit sends one record, without waiting for an answer. args is borrowed.
	emit(ctx context.Context, args []byte) error
	// verbosity asks for it.
	verbosity(ctx context.Context) (int, error)
	// connection returns a number that changes with each new connection.
	connection() uint64
}
