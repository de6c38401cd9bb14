package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-rpc/sluice/session"
)

var (
	// ErrNoEndpoint says that no engine started this process: the flag --endpoint is
	// missing.
	ErrNoEndpoint = errors.New("worker: no --endpoint: a worker is started by an engine, " +
		"for a try use: sluice invoke --worker 'COMMAND' EVENT")
	// ErrDisowned says that the engine was silent for Config.Disown.
	ErrDisowned = errors.New("worker: disowned: the engine is silent")
	// ErrUsed says that Run was called a second time.
	ErrUsed = errors.New("worker: Run was called before; make a new worker")
	// ErrTerminating is the cause of a handler's context at the end of the grace.
	ErrTerminating = errors.New("worker: terminating")
)

// TerminateError says that the engine ended the worker as abnormal (v0 code 2).
type TerminateError struct {
	Code   int64
	Reason string
}

// Error returns the code and the engine's reason.
func (e *TerminateError) Error() string {
	return fmt.Sprintf("worker: terminated by the engine: [%d] %s", e.Code, e.Reason)
}

// Errorf returns an error that a handler may return to have the peer get the given
// code (category 42, as every framework sends) and text.
func Errorf(code int64, format string, args ...any) error {
	return workerError(code, format, args...)
}

func workerError(code int64, format string, args ...any) *session.Error {
	return &session.Error{Category: session.CategoryWorker, Code: code, Message: fmt.Sprintf(format, args...)}
}

// sessionError returns what the peer is told of a handler's result; nil is a choke.
func sessionError(err error) *session.Error {
	var se *session.Error
	switch {
	case err == nil, err == error((*session.Error)(nil)):
		return nil
	case errors.As(err, &se) && se != nil:
		e := *se
		if e.Category == 0 {
			e.Category = session.CategoryWorker
		}
		if e.Message == "" && e.Err != nil {
			e.Message = e.Err.Error()
		}
		return &e
	case errors.Is(err, context.DeadlineExceeded):
		return workerError(session.CodeDeadline, "%v", err)
	case errors.Is(err, ErrTerminating):
		return workerError(session.CodeTerminating, "%v", err)
	}
	return workerError(session.CodeFailed, "%v", err)
}
