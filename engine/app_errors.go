package engine

import (
	"errors"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// Categories and codes of the live runtime's own libraries (protocol: error categories).
const (
	categorySystem = 2 // of the asynchronous layer
	categoryMisc   = 5 // likewise; its end of file

	codeEOF          = 2
	codeCanceled     = 125
	categoryDispatch = 7
	codeUnbound      = 5
)

// answer is an error that an application gives, in both dialects.
type answer struct {
	category, code int64
	message        string
	codeV0         int64
	messageV0      string
}

// The answers (protocol: app and node; services in v0). v0 has the codes
// resource error 2, timeout error 3 and deadline error 4.
var (
	answerQueueFull  = &answer{service.CategoryOverseer, service.OverseerQueueIsFull, "queue is full", 2, "the queue is full"}
	answerExpired    = &answer{service.CategoryNode, service.NodeDeadline, "the event has expired in the queue", 4, "the session has expired in the queue"}
	answerOverdue    = &answer{service.CategoryNode, service.NodeTimeout, "invocation has timed out", 3, "invocation has timed out"}
	answerNotRunning = &answer{service.CategoryNode, service.NodeNotRunning, "application is not running", 2, "the engine is not active"}

	answerDied     = &answer{categoryMisc, codeEOF, "slave has been discarded", 2, "slave has unexpectedly disconnected"}
	answerSilent   = &answer{categorySystem, codeCanceled, "slave has been discarded", 2, "slave has timed out"}
	answerLeft     = &answer{categorySystem, codeCanceled, "slave has been discarded", 2, "slave has been terminated"}
	answerHungUp   = &answer{categoryMisc, codeEOF, "End of file", 2, "End of file"}
	answerMisspoke = &answer{categoryDispatch, codeUnbound, "specified slot is not bound", 2, "specified slot is not bound"}
)

// in returns the answer for a peer of a dialect.
func (a *answer) in(d codec.Dialect) (category, code int64, message string) {
	if d == codec.V0 {
		return 0, a.codeV0, a.messageV0
	}
	return a.category, a.code, a.message
}

// err is the answer for a caller in this process.
func (a *answer) err() error {
	return &session.Error{Category: a.category, Code: a.code, Message: a.message, Delivery: session.NotSent}
}

// give answers a client's session that has no worker. On its loop.
func (a *answer) give(s *session.Session) {
	_ = s.SendError(a.in(s.Dialect())) // or its channel is over
	s.Ignore()
}

// translator returns what Splice.Translate is for a client and workers of these dialects.
func translator(client, worker codec.Dialect) func(bool, *session.Error) (category, code int64, message string) {
	return func(fromCallee bool, e *session.Error) (int64, int64, string) {
		var lost *channel.CloseError
		switch {
		case !errors.As(e.Err, &lost): // failed here, e.g. cut for its deadline
			return e.Category, e.Code, e.Message
		case fromCallee:
			return answerOfWorker(lost).in(client)
		default:
			return answerOfClient(lost).in(worker)
		}
	}
}

// answerOfWorker is what a client is told when its worker's channel was lost.
func answerOfWorker(lost *channel.CloseError) *answer {
	switch lost.Code {
	case channel.CodeEOF, channel.CodeTruncated, channel.CodeReset, channel.CodeIO:
		return answerDied
	case channel.CodeDisowned:
		return answerSilent
	case channel.CodeTerminated: // v0 clients are told what the worker said
		if lost.Reason != "" {
			left := *answerLeft
			left.messageV0 = lost.Reason
			return &left
		}
	}
	return answerLeft
}

// answerOfClient is what a worker is told when its client's channel was lost.
func answerOfClient(lost *channel.CloseError) *answer {
	switch lost.Code {
	case channel.CodeBadFrame, channel.CodeBadHeader, channel.CodeBadSession, channel.CodeBadType:
		return answerMisspoke
	}
	return answerHungUp
}
