package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// InfoFlags say what Engine.AppendInfo is to tell of an application.
type InfoFlags uint

// The flags (protocol: app and node). Without any, info is state, uptime and the
// name of the profile.
const (
	InfoReport   InfoFlags = 1 << iota // what the application's own info tells
	InfoManifest                       // its manifest
	InfoProfile                        // its profile, with every key
)

// nodeService starts, stops and shows applications (protocol: app and node).
func (e *Engine) nodeService() service.Declaration {
	if e.cfg.V0 {
		return service.Declaration{Name: "node", Version: 1, Methods: e.nodeMethodsV0()}
	}
	name := service.Arg{Name: "name", Kind: service.StringArg}
	return service.Declaration{Name: "node", Version: 1, Methods: []service.Handled{
		{
			Method: service.Method{ID: 0, Name: "start_app", Rx: session.Primitive},
			Args:   []service.Arg{name, {Name: "profile", Kind: service.StringArg, Optional: true}},
			Serve:  e.serveStart,
		},
		{
			Method: service.Method{ID: 1, Name: "pause_app", Rx: session.Primitive},
			Args:   []service.Arg{name},
			Serve: func(ctx context.Context, c *service.Call) error {
				r := c.Reader()
				return e.PauseApp(ctx, r.String())
			},
		},
		{
			Method: service.Method{ID: 2, Name: "list", Rx: session.Primitive},
			Args:   []service.Arg{},
			OnLoop: func(c *service.Call) { _ = c.Reply(codec.Args(e.List())) },
		},
		{
			Method: service.Method{ID: 3, Name: "info", Rx: session.Primitive},
			Args:   []service.Arg{name, {Name: "flags", Kind: service.UintArg, Optional: true}},
			Serve:  e.serveInfo,
		},
		{
			Method:  service.Method{ID: 4, Name: "control", Tx: service.Values, Rx: session.Primitive},
			Args:    []service.Arg{name},
			Endless: true,
			Serve:   e.serveControl,
		},
		{
			Method: service.Method{ID: 5, Name: "enqueue", Tx: session.Streaming, Rx: session.Streaming},
			Args:   []service.Arg{{Name: "app", Kind: service.StringArg}, eventArg, {Name: "tag", Optional: true}},
			OnLoop: e.onEnqueue,
		},
	}}
}

func (e *Engine) serveStart(ctx context.Context, c *service.Call) error {
	r := c.Reader()
	name, profile := r.String(), ""
	if r.Len() > 0 {
		profile = r.String()
	}
	return e.StartApp(ctx, name, profile)
}

func (e *Engine) serveInfo(_ context.Context, c *service.Call) error {
	r := c.Reader()
	name, flags := r.String(), InfoReport
	if r.Len() > 0 {
		flags = InfoFlags(r.Uint64())
	}
	info, err := e.AppendInfo(codec.AppendArrayHeader(nil, 1), name, flags)
	if err != nil {
		return err
	}
	return c.ReplyBytes(info)
}

func (e *Engine) serveControl(ctx context.Context, c *service.Call) error {
	r := c.Reader()
	t, err := e.running(r.String())
	if err != nil {
		return err
	}
	return control(ctx, c, t)
}

// onEnqueue is on the loop; the list of applications has a lock that is held for moments.
func (e *Engine) onEnqueue(c *service.Call) {
	r := c.Reader()
	t, err := e.running(r.String())
	if err != nil {
		fail(c, err)
		return
	}
	enqueue(c, t, r.String())
}

// nodeMethodsV0 are those of the 0.11 runtime, which answers with a text for each
// application.
func (e *Engine) nodeMethodsV0() []service.Handled {
	return []service.Handled{
		{
			Method: service.Method{ID: 0, Name: "start_app", Rx: session.Primitive},
			Args:   []service.Arg{{Name: "apps", Kind: service.MapArg}},
			Serve: func(ctx context.Context, c *service.Call) error {
				r := c.Reader()
				list := make(map[string]string)
				for n := r.MapLen(); n > 0; n-- {
					name := r.String()
					list[name] = r.String()
				}
				return each(c, r.Err(), list, "the app has been started", func(name string) error {
					return e.StartApp(ctx, name, list[name])
				})
			},
		},
		{
			Method: service.Method{ID: 1, Name: "pause_app", Rx: session.Primitive},
			Args:   []service.Arg{{Name: "apps", Kind: service.StringsArg}},
			Serve: func(ctx context.Context, c *service.Call) error {
				r := c.Reader()
				list := make(map[string]string)
				for n := r.ArrayLen(); n > 0; n-- {
					list[r.String()] = ""
				}
				return each(c, r.Err(), list, "the app has been stopped", func(name string) error {
					return e.PauseApp(ctx, name)
				})
			},
		},
		{
			Method: service.Method{ID: 2, Name: "list", Rx: session.Primitive},
			Args:   []service.Arg{},
			OnLoop: func(c *service.Call) { _ = c.Reply(codec.Args(e.List())) },
		},
	}
}

// each does one thing for every name, and answers how each went.
func each(c *service.Call, bad error, names map[string]string, done string, f func(name string) error) error {
	if bad != nil {
		return fmt.Errorf("%w: %w", service.ErrBadArgs, bad)
	}
	reply := codec.AppendMapHeader(codec.AppendArrayHeader(nil, 1), len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		text := done
		var se *session.Error
		if err := f(name); errors.As(err, &se) {
			text = se.Message
		} else if err != nil {
			text = err.Error()
		}
		reply = codec.AppendString(codec.AppendString(reply, name), text)
	}
	return c.ReplyBytes(reply)
}

// nodeError is an error of the node service.
func nodeError(code int64, format string, args ...any) *session.Error {
	return &session.Error{Category: service.CategoryNode, Code: code, Message: fmt.Sprintf(format, args...)}
}

func notRunning(name string) *session.Error {
	return nodeError(service.NodeNotRunning, "app '%s' is not running", name)
}

// spoolError is what start_app answers: the number of the system's error if the storage
// has nothing, as the live runtime does, else that it could not be spooled.
func spoolError(name string, cause error) *session.Error {
	var known *session.Error
	if errors.As(cause, &known) {
		return known
	}
	e := nodeError(service.NodeUncaughtSpool, "app '%s' cannot be started: %v", name, cause)
	var se *storage.Error
	if errors.As(cause, &se) {
		e.Category, e.Code = service.CategoryGeneric, int64(se.Errno())
		e.Message = fmt.Sprintf("app '%s' cannot be started: %s", name, se.Text())
	}
	e.Err = cause
	return e
}

// field is one entry of a msgpack map.
type field struct {
	key   string
	value []byte
}

// appendFields appends a map in the order of its keys; of two that are the same the first
// counts.
func appendFields(dst []byte, list []field) []byte {
	slices.SortStableFunc(list, func(a, b field) int { return cmp.Compare(a.key, b.key) })
	list = slices.CompactFunc(list, func(a, b field) bool { return a.key == b.key })
	dst = codec.AppendMapHeader(dst, len(list))
	for _, f := range list {
		dst = append(codec.AppendString(dst, f.key), f.value...)
	}
	return dst
}

// fieldsOf returns the entries of a map, which borrow from it.
func fieldsOf(raw []byte) []field {
	r := codec.NewValueReader(raw)
	var list []field
	for n := r.MapLen(); n > 0 && r.Err() == nil; n-- {
		key := r.String()
		list = append(list, field{key, r.Raw()})
	}
	return list
}
