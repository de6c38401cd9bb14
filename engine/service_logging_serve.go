package engine

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// discarding is what a client may send behind the calls that stay open until it says so:
// one discard (protocol: locator, publish and routing).
func discarding() *session.Graph {
	return session.NewGraph(append([]session.Slot{{Type: 0, Name: "discard", Kind: session.Value}}, service.ControlSlots()...)...)
}

// Declaration returns the service "logging" of a dialect. In v1 that is the one of the live
// runtime, but for set_verbosity, which works here; v0 has no such method, and answers an
// emit (protocol: logging).
func (l *LoggingService) Declaration(d codec.Dialect) service.Declaration {
	emit := service.Handled{
		Method: service.Method{ID: 0, Name: "emit"},
		OnLoop: func(c *service.Call) {
			if err := l.emit(codec.V1, c.Args()); err != nil {
				c.BadArgs(err)
			}
		},
	}
	verbosity := service.Handled{
		Method: service.Method{ID: 1, Name: "verbosity", Rx: session.Primitive},
		Args:   []service.Arg{},
		OnLoop: func(c *service.Call) {
			v := l.Verbosity()
			if c.Dialect() == codec.V0 {
				v = 4 - v
			}
			_ = c.Reply(codec.Args(v))
		},
	}
	if d == codec.V0 {
		emit.Rx = session.Primitive
		emit.OnLoop = func(c *service.Call) {
			if err := l.emit(codec.V0, c.Args()); err != nil {
				c.BadArgs(err)
				return
			}
			_ = c.ReplyBytes(nil)
		}
		return service.Declaration{Name: "logging", Version: 1, Methods: []service.Handled{emit, verbosity}}
	}
	return service.Declaration{Name: "logging", Version: 2, Methods: []service.Handled{emit, verbosity, {
		Method: service.Method{ID: 2, Name: "set_verbosity", Rx: session.Primitive},
		Args:   []service.Arg{{Name: "verbosity", Kind: service.IntArg}},
		OnLoop: l.onSetVerbosity,
	}}}
}

func (l *LoggingService) onSetVerbosity(c *service.Call) {
	r := c.Reader()
	v := r.Int64()
	if err := l.SetVerbosity(int(max(min(v, math.MaxInt8), math.MinInt8))); r.Err() != nil || err != nil {
		_ = c.Fail(service.CategoryDispatch, service.DispatchInvalidArgument,
			"set_verbosity: want 0 debug, 1 info, 2 warning, 3 error or 4 none")
		return
	}
	_ = c.ReplyBytes(nil)
}

// TailDeclaration returns the service "tail", which is ours and v1 only. It has one method:
//
//	0 tail ([source string], [severity int], [recent int], [follow bool])  <- discard
//
// It answers with a stream of values: first the last records that are kept, at most recent
// of them, all if that is missing; then, unless follow is false, those that come, until the
// client sends discard or goes. Only records of at least the severity are sent, and only those of the source, or
// of one below it: "app" has "app/echo" too; an empty source has all. Each message is
//
//	[number, microseconds since 1970, severity, source, message, [[key, value]...], missed]
//
// where number counts all records of the service, and missed those that the client was too
// slow for since the message before.
func (l *LoggingService) TailDeclaration() service.Declaration {
	return service.Declaration{Name: "tail", Version: 1, Methods: []service.Handled{{
		Method: service.Method{ID: 0, Name: "tail", Tx: discarding(), Rx: service.Values},
		Args: []service.Arg{
			{Name: "source", Kind: service.StringArg, Optional: true},
			{Name: "severity", Kind: service.IntArg, Optional: true},
			{Name: "recent", Kind: service.UintArg, Optional: true},
			{Name: "follow", Kind: service.BoolArg, Optional: true},
		},
		Serve:   l.serveTail,
		Endless: true,
	}}}
}

// serveTail sends records until the client has enough.
func (l *LoggingService) serveTail(ctx context.Context, c *service.Call) error {
	source, severity, recent, follow := "", int64(0), l.cfg.MaxRecent, true
	r := c.Reader()
	if r.Len() > 0 {
		source = r.String()
	}
	if r.Len() > 0 {
		severity = r.Int64()
	}
	if r.Len() > 0 {
		recent = int(min(r.Uint64(), uint64(recent)))
	}
	if r.Len() > 0 {
		follow = r.Bool()
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("%w: %w", service.ErrBadArgs, err)
	}
	ear, ok := l.recent.news.listen()
	if !ok {
		return refuse("%d clients follow the log already, limit LoggingConfig.MaxTails", l.cfg.MaxTails)
	}
	defer l.recent.news.leave(ear)
	ctx, stop := untilDiscard(ctx, c)
	defer stop()
	t := l.recent.tailFrom(source, severity, recent)
	if !follow {
		return l.sendTail(ctx, c, t, t.until)
	}
	return l.follow(ctx, c, ear, t)
}

// follow sends what t has, and again whenever there is news.
func (l *LoggingService) follow(ctx context.Context, c *service.Call, ear <-chan struct{}, t *tail) error {
	for {
		select {
		case <-ctx.Done():
			return ended(ctx)
		case <-ear:
		}
		if err := l.sendTail(ctx, c, t, math.MaxUint64); err != nil {
			return endedBy(ctx, err)
		}
	}
}

// sendTail sends what t has, up to the record of number until at least.
func (l *LoggingService) sendTail(ctx context.Context, c *service.Call, t *tail, until uint64) error {
	defer func() { clear(t.batch) }()
	for all := false; !all && t.next < until; {
		t.batch, all = t.take(t.batch[:0])
		for i := range t.batch {
			t.message = appendTailed(t.message[:0], &t.batch[i], t.missed)
			if err := sendValues(ctx, c, t.message); err != nil {
				return err
			}
			l.missed.Add(t.missed)
			t.missed = 0
		}
	}
	return nil
}

// errDiscarded ends the context of a call whose client sent discard.
var errDiscarded = errors.New("the client has discarded the call")

// untilDiscard returns a context that ends when the client sends what it may behind its
// call, or ends its direction. stop is to be called in the end.
func untilDiscard(ctx context.Context, c *service.Call) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _, _ = c.Recv(ctx)
		cancel(errDiscarded)
	}()
	return ctx, func() {
		cancel(nil)
		<-read
	}
}

// ended returns what a Serve method says when its context is done: nothing is wrong if
// the client wanted it so.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != errDiscarded && cause != errReplaced {
		return cause
	}
	return nil
}

// endedBy is ended for an error that may be that of the context.
func endedBy(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return err
}

// sendValues sends one message of a stream of values; args is an encoded argument array,
// which is copied. It waits for room until ctx ends.
func sendValues(ctx context.Context, c *service.Call, args []byte) error {
	return c.Session().SendMessageOffLoop(ctx, codec.V1Write, args)
}
