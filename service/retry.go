package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/session"
)

// attempt runs a call on a connection, and again on another one if it may be repeated:
// nothing of it was sent, or the method is declared idempotent, or a full queue refused
// it and there is another instance.
func (s *Service) attempt(ctx context.Context, method string, f func(l lease) (Outcome, error)) error {
	s.counts.calls.Add(1)
	if ctx.Err() != nil { // a call that comes too late is not begun, though it could be sent at once
		s.counts.failed.Add(1)
		return cutError(context.Cause(ctx))
	}
	var tried []*Instance
	var unknown error // of a try that the service may have got
	for n := 0; ; n++ {
		l, err := s.acquire(ctx, method, tried)
		if err != nil {
			s.counts.failed.Add(1)
			return behind(unknown, err)
		}
		outcome, err := f(l)
		if err == nil {
			s.counts.answered.Add(1)
			if outcome != pendingOutcome {
				s.route.release(l, outcome)
			}
			return nil
		}
		closed, lost := lossIn(err)
		if lost = lost && ctx.Err() == nil; lost { // else it may be in the cause of ctx: another channel's
			s.counts.lost.Add(1)
			l.base.lose(l.link, closed) // its channel may not have come to say so
		}
		s.route.release(l, outcome)
		if l.instance != nil {
			tried = append(tried, l.instance)
		}
		if n >= s.client.MaxRetries || ctx.Err() != nil || !s.repeatable(method, err, lost, tried) {
			s.ended(err)
			return behind(unknown, err)
		}
		if lost && deliveryOf(err) == session.Unknown {
			unknown = err
		}
		s.counts.retried.Add(1)
	}
}

// behind returns the error of a repeat, or of the wait for one. If it does not say what
// became of the call, the service may still have got it by an earlier try.
func behind(unknown, err error) error {
	if unknown == nil || isAnswer(err) {
		return err
	}
	if e, ok := err.(*session.Error); ok && e.Delivery == session.Unknown {
		return err
	}
	return fmt.Errorf("%w; repeated: %w", unknown, err)
}

// isAnswer reports whether err is what the service itself has answered a call with.
func isAnswer(err error) bool {
	e, ok := err.(*session.Error)
	var reply *ReplyError
	return ok && e.Remote || errors.As(err, &reply)
}

func deliveryOf(err error) session.Delivery {
	var e *session.Error
	if errors.As(err, &e) {
		return e.Delivery
	}
	return session.NotSent
}

// pendingOutcome is the Outcome of a stream, which is released when it ends.
const pendingOutcome = Outcome(255)

// repeatable reports whether a call that failed with err may be made again.
func (s *Service) repeatable(method string, err error, lost bool, tried []*Instance) bool {
	var e *session.Error
	if !errors.As(err, &e) {
		return false
	}
	if e.Remote { // nothing of it was done, but the same queue is as full as before
		return Is(err, CategoryOverseer, OverseerQueueIsFull) && s.route.another(tried)
	}
	return lost && (e.Delivery == session.NotSent || s.idempotent[method])
}

// ended counts a call that will not be made again.
func (s *Service) ended(err error) {
	var e *session.Error
	if errors.As(err, &e) && e.Remote {
		s.counts.answered.Add(1)
		return
	}
	s.counts.failed.Add(1)
}

// lossIn returns how a channel ended, and whether that is why the call did, unless it lies in
// the cause of the context.
func lossIn(err error) (*channel.CloseError, bool) {
	var e *session.Error
	var closed *channel.CloseError
	return closed, errors.As(err, &e) && !e.Remote && errors.As(err, &closed)
}

func isLost(err error) bool {
	_, lost := lossIn(err)
	return lost
}

// outcomeOf says what the end of a call says about the instance that it was made to.
func outcomeOf(err error) Outcome {
	var e *session.Error
	switch {
	case err == nil, errors.As(err, &e) && e.Remote:
		return Succeeded
	case isLost(err), errors.Is(err, context.DeadlineExceeded):
		return Failed
	}
	return Neutral
}
