package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
	"github.com/spf13/cobra"
)

// stock are the services that a runtime has, as far as it has them.
var stock = []string{"locator", "logging", "node", "storage", "tail"}

// found is a service and what its locator says of it.
type found struct {
	Name     string
	resolved service.Resolved
}

// MarshalJSON returns name, version, endpoints and the names of the methods.
func (f found) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"name": f.Name, "version": f.resolved.Version, "endpoints": f.endpoints(), "methods": f.methods(),
	})
}

func (f found) endpoints() []string {
	list := []string{} // not null
	for _, e := range f.resolved.Endpoints {
		list = append(list, e.String())
	}
	return list
}

func (f found) methods() []string {
	list := []string{} // not null
	if f.resolved.API != nil {
		for _, m := range f.resolved.API.Methods() {
			list = append(list, m.Name)
		}
	}
	return list
}

func (p *program) lsCommand() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		GroupID: groupCalls,
		Short:   "Print the services of a runtime",
		Long: `Ls prints the services that a runtime's locator tells other nodes of, with the versions of
their protocols and where they listen. A runtime that tells no other node is asked for the
stock services and for its applications.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				list, err := listServices(ctx, c)
				if err != nil {
					return err
				}
				if l.json {
					return p.printJSON(list)
				}
				rows := make([][]string, len(list))
				for i, f := range list {
					rows[i] = []string{
						f.Name, strconv.FormatUint(uint64(f.resolved.Version), 10),
						strconv.Itoa(len(f.methods())), service.JoinEndpoints(f.resolved.Endpoints),
					}
				}
				return p.table([]string{"SERVICE", "VERSION", "METHODS", "ENDPOINTS"}, rows)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

// listServices returns the services of a node, by name.
func listServices(ctx context.Context, c *service.Client) ([]found, error) {
	update, err := firstUpdate(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return askServices(ctx, c)
	}
	list := []found{} // not null
	for _, name := range slices.Sorted(maps.Keys(update.Services)) {
		if s := update.Services[name]; !s.Gone() {
			list = append(list, found{name, s})
		}
	}
	return list, nil
}

// firstUpdate returns what the locator says to a node that connects: all services. One
// outside of a cluster may have nothing to say (protocol: facts seen on the wire).
func firstUpdate(ctx context.Context, c *service.Client) (service.Update, error) {
	watch, err := c.Locator().Connect(ctx, rand.Text())
	if err != nil {
		return service.Update{}, err
	}
	defer watch.Close()
	return watch.Next(ctx)
}

// askServices resolves the stock services and the applications of the node.
func askServices(ctx context.Context, c *service.Client) ([]found, error) {
	names := slices.Clone(stock)
	if apps, err := runningApps(ctx, c); err == nil {
		names = append(names, apps...)
	}
	slices.Sort(names)
	list := []found{} // not null
	for _, name := range slices.Compact(names) {
		f, err := findService(ctx, c, name)
		switch {
		case err == nil:
			list = append(list, f)
		case !service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) && !isV0(err):
			return nil, err
		}
	}
	return list, nil
}

// findService resolves one service.
func findService(ctx context.Context, c *service.Client, name string) (found, error) {
	r, err := c.Locator().Resolve(ctx, name)
	if err != nil {
		return found{}, err
	}
	return found{name, r}, nil
}

// isV0 reports whether err is an answer of v0, which has no number for "no such service".
func isV0(err error) bool {
	var se *session.Error
	return errors.As(err, &se) && se.Remote && se.Category == service.CategoryV0
}
