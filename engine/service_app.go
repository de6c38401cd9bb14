package engine

import (
	"context"
	"errors"
	"io"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// appService is the service of one application (protocol: app service; app and node).
// The application comes after the service, which must be listening to be published; until
// then it answers that it is not running.
func appService(t *tenant, d codec.Dialect) service.Declaration {
	if d == codec.V0 {
		return appServiceV0(t)
	}
	return service.Declaration{Name: t.name, Version: 1, Methods: []service.Handled{
		{
			Method: service.Method{ID: 0, Name: "enqueue", Tx: session.Streaming, Rx: session.Streaming},
			Args:   []service.Arg{eventArg, {Name: "tag", Optional: true}},
			OnLoop: func(c *service.Call) {
				r := c.Reader()
				enqueue(c, t, r.String())
			},
		},
		{
			Method: service.Method{ID: 1, Name: "info", Rx: session.Primitive},
			Args:   []service.Arg{},
			OnLoop: func(c *service.Call) {
				app := t.app.Load()
				if app == nil {
					fail(c, notRunning(t.name))
					return
				}
				_ = c.ReplyBytes(app.Stats().AppendInfo(codec.AppendArrayHeader(nil, 1)))
			},
		},
		{
			Method:  service.Method{ID: 2, Name: "control", Tx: service.Values, Rx: session.Primitive},
			Args:    []service.Arg{},
			Endless: true,
			Serve:   func(ctx context.Context, c *service.Call) error { return control(ctx, c, t) },
		},
	}}
}

// appServiceV0 is that of the 0.11 runtime, where a call carries all that the client has
// to say (protocol: app service, v0).
func appServiceV0(t *tenant) service.Declaration {
	return service.Declaration{Name: t.name, Version: 1, Methods: []service.Handled{
		{
			Method: service.Method{ID: 0, Name: "enqueue", Rx: session.Streaming},
			Args:   []service.Arg{eventArg, {Name: "data", Kind: service.StringArg}, {Name: "tag", Optional: true}},
			OnLoop: func(c *service.Call) {
				app := t.app.Load()
				if app == nil {
					fail(c, nodeError(service.V0Resource, "the engine is not active"))
					return
				}
				r := c.Reader()
				event := r.String()
				app.EnqueueWhole(c.Session(), event, r.Bytes(), c.Headers())
			},
		},
		{
			Method: service.Method{ID: 1, Name: "info", Rx: session.Primitive},
			Args:   []service.Arg{},
			OnLoop: func(c *service.Call) {
				app := t.app.Load()
				if app == nil {
					fail(c, nodeError(service.V0Resource, "the engine is not active"))
					return
				}
				info := app.Stats()
				_ = c.ReplyBytes(appendInfoV0(codec.AppendArrayHeader(nil, 1), &info))
			},
		},
	}}
}

// appendInfoV0 appends what info of a v0 application has. A load of several workers is
// their mean; the median that the key speaks of is not kept.
func appendInfoV0(dst []byte, i *AppInfo) []byte {
	workers := i.Active + i.Idle
	load := 0.0
	if workers > 0 {
		load = float64(i.Load) / float64(workers)
	}
	number := func(n int) []byte { return codec.AppendInt(nil, int64(n)) }
	return appendFields(dst, []field{
		{"load-median", codec.AppendFloat64(nil, load)},
		{"queue", appendFields(nil, []field{{"capacity", number(i.QueueLimit)}, {"depth", number(i.QueueDepth)}})},
		{"sessions", appendFields(nil, []field{{"pending", number(i.Load)}})},
		{"slaves", appendFields(nil, []field{{"active", number(i.Active)}, {"capacity", number(i.PoolLimit)}, {"idle", number(i.Idle)}})},
		{"state", codec.AppendString(nil, "running")},
	})
}

var eventArg = service.Arg{Name: "event", Kind: service.StringArg}

// enqueue gives the call's session to the application. On the loop.
func enqueue(c *service.Call, t *tenant, event string) {
	app := t.app.Load()
	if app == nil {
		fail(c, notRunning(t.name))
		return
	}
	app.Enqueue(c.Session(), event, c.Headers())
}

// control has an application keep as many workers as the last message says, also when the
// stream has ended. The live runtime never answers; ours says when it has ended.
func control(ctx context.Context, c *service.Call, t *tenant) error {
	for {
		_, args, err := c.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		app := t.app.Load()
		if app == nil {
			return notRunning(t.name)
		}
		r := codec.NewReader(args)
		population := r.Int()
		if err := r.Err(); err != nil || population > MaxPoolLimit {
			return service.ErrBadArgs
		}
		app.Control(population)
	}
}

// fail answers a call on the loop with one of our errors.
func fail(c *service.Call, err *session.Error) { _ = c.Fail(err.Category, err.Code, err.Message) }
