package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
)

func (p *program) appControl() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "control [flags] NAME WORKERS",
		Short: "Say how many workers an application has, now and until it is paused",
		Long: `Control has an application keep that many workers, up to its pool-limit, whatever there is
to do. 0 leaves it to the runtime again: workers are started when events wait for them.`,
		Example: `  sluice app control echo 4`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			workers, err := strconv.ParseUint(args[1], 10, 31)
			if err != nil {
				return fmt.Errorf("%q is no number of workers", args[1])
			}
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				err := control(ctx, c.Service(args[0]), codec.Args(), workers)
				if service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) && l.protocol == 1 {
					// It may wait for workers before it is published: publish-on in its profile.
					err = control(ctx, c.Service("node"), codec.Args(args[0]), workers)
				}
				return l.tell(err, map[string]any{"name": args[0], "done": "set", "workers": workers})
			})
		},
	}
	l.flags(cmd, usualTimeout)
	l.completeNames(cmd, appNames)
	return cmd
}

// control has an application keep a number of workers. The node takes its name (protocol:
// app and node).
func control(ctx context.Context, s *service.Service, args codec.Arguments, workers uint64) error {
	stream, err := s.Open(ctx, "control", args)
	if err != nil {
		return err
	}
	defer stream.Discard()
	if err := stream.SendMessage(ctx, "write", codec.Args(workers)); err != nil {
		return err
	}
	if err := stream.Close(); err != nil {
		return err
	}
	if _, _, err := stream.RecvArgs(ctx); err != nil && err != io.EOF {
		return err
	}
	return nil
}

// printApps prints a line for each application of the node.
func (p *program) printApps(ctx context.Context, c *service.Client, asJSON bool) error {
	names, err := runningApps(ctx, c)
	if err != nil {
		return err
	}
	slices.Sort(names)
	all := make(map[string]any, len(names))
	var rows [][]string
	for _, name := range names {
		reply, err := c.Service("node").Call(ctx, "info", codec.Args(name))
		if errors.As(err, new(*service.MethodError)) { // a node of v0
			reply, err = c.Service(name).Call(ctx, "info", codec.Args())
		}
		if service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) || service.Is(err, service.CategoryNode, service.NodeNotRunning) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return err
		}
		info := unpack(reply.Args())
		all[name] = info
		rows = append(rows, []string{
			name, field(info, "state"), cmp.Or(field(info, "load"), field(info, "load-median")),
			cmp.Or(field(info, "pool", "active"), field(info, "slaves", "active")),
			cmp.Or(field(info, "pool", "idle"), field(info, "slaves", "idle")),
			cmp.Or(field(info, "pool", "capacity"), field(info, "slaves", "capacity")),
			field(info, "queue", "depth"), field(info, "requests", "accepted"), field(info, "requests", "rejected"),
			field(info, "pool", "total:crashed"), field(info, "timings", "99.00%"),
		})
	}
	if asJSON {
		return p.printJSON(all)
	}
	return p.table([]string{"APP", "STATE", "LOAD", "BUSY", "IDLE", "POOL", "QUEUE", "ACCEPTED", "REJECTED", "CRASHED", "99% MS"}, rows)
}

// field returns a value inside of objects as text, empty if it is not there.
func field(v any, path ...string) string {
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return leaf(v)
}
