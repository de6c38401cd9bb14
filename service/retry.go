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
	var tried []*Instance
	var last error // of the try before
	for n := 0; ; n++ {
		l, err := s.acquire(ctx, method, tried)
		if err != nil {
			s.counts.failed.Add(1)
			return behind(last, err)
		}
		outcome, err := f(l)
		if err == nil {
			s.counts.answered.Add(1)
			if outcome != pendingOutcome {
				s.route.release(l, outcome)
			}
			return nil
		}
		lost := isLost(err)
		if lost {
			s.counts.lost.Add(1)
			l.base.lose(l.link, err) // its channel may not have come to say so
		}
		s.route.release(l, outcome)
		if l.instance != nil {
			tried = append(tried, l.instance)
		}
		if n >= s.client.MaxRetries || ctx.Err() != nil || !s.repeatable(method, err, lost, tried) {
			s.ended(err)
			return err
		}
		s.counts.retried.Add(1)
		last = err
	}
}

// behind is the error of a call that got no connection when it was to be repeated: that it
// may have been carried out must not be lost.
func behind(last, err error) error {
	var cut *session.Error
	if errors.As(last, &cut) && cut.Delivery == session.Unknown {
		return fmt.Errorf("%w; repeated: %w", last, err)
	}
	return err
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

// isLost reports whether a call ended because its channel did.
func isLost(err error) bool {
	var e *session.Error
	var closed *channel.CloseError
	return errors.As(err, &e) && !e.Remote && errors.As(err, &closed)
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
