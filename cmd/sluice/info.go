package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
	"github.com/spf13/cobra"
)

func (p *program) infoCommand() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "info [flags] [SERVICE]",
		GroupID: groupCalls,
		Short:   "Print what a service is: endpoints, methods, and an application's pool",
		Long: `Info prints the version of a service, where it listens, and its methods: what a caller may
send behind the call, and what the service answers. Of an application it prints also its
queue, its pool of workers, and its timings in milliseconds. Without a SERVICE it prints a
line for each application.`,
		Example: `  sluice info
  sluice info storage
  sluice info echo --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				if len(args) == 0 {
					return p.printApps(ctx, c, l.json)
				}
				f, err := findService(ctx, c, args[0])
				if service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) {
					if app, ok := hiddenApp(ctx, c, args[0]); ok {
						return p.printHidden(args[0], app, l.json)
					}
				}
				if err != nil {
					return err
				}
				app, err := appInfo(ctx, c, f)
				if err != nil {
					return err
				}
				if l.json {
					return p.printJSON(f.describe(app))
				}
				return p.printInfo(f, app)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	l.completeNames(cmd, serviceNames)
	return cmd
}

// appInfo asks an application how it is; nil if the service is none.
func appInfo(ctx context.Context, c *service.Client, f found) (any, error) {
	names := f.methods()
	if !slices.Contains(names, enqueue) || !slices.Contains(names, "info") || slices.Contains(names, "start_app") {
		return nil, nil
	}
	reply, err := c.Service(f.Name).Call(ctx, "info", codec.Args())
	if err != nil {
		return nil, err
	}
	return unpack(reply.Args()), nil
}

// hiddenApp asks the node how an application is that no locator tells of: it is broken, or
// waits for workers before it is published.
func hiddenApp(ctx context.Context, c *service.Client, name string) (any, bool) {
	reply, err := c.Service("node").Call(ctx, "info", codec.Args(name))
	if err != nil {
		return nil, false
	}
	return unpack(reply.Args()), true
}

// printHidden prints such an application; it has neither endpoints nor methods.
func (p *program) printHidden(name string, app any, asJSON bool) error {
	if asJSON {
		return p.printJSON(map[string]any{"name": name, "version": 0, "endpoints": []string{}, "methods": []methodEntry{}, "app": app})
	}
	_, err := p.out.Write(appendTree([]byte("service:   "+cell(name)+", which is not published\n\n"), "", app))
	return local(err)
}

// methodEntry is a method for programs.
type methodEntry struct {
	ID      uint64   `json:"id"`
	Name    string   `json:"name"`
	Sends   []string `json:"sends"`   // messages of the caller behind the call
	Answers []string `json:"answers"` // messages of the service
}

// describe returns a service for programs.
func (f found) describe(app any) map[string]any {
	methods := []methodEntry{} // not null
	for _, m := range f.resolved.API.Methods() {
		methods = append(methods, methodEntry{m.ID, m.Name, messages(m.Tx), messages(m.Rx)})
	}
	d := map[string]any{"name": f.Name, "version": f.resolved.Version, "endpoints": f.endpoints(), "methods": methods}
	if app != nil {
		d["app"] = app
	}
	return d
}

// printInfo prints a service for people.
func (p *program) printInfo(f found, app any) error {
	_, err := fmt.Fprintf(p.out, "service:   %s\nversion:   %d\nendpoints: %s\n\n", cell(f.Name), f.resolved.Version, cell(strings.Join(f.endpoints(), ", ")))
	if err != nil {
		return local(err)
	}
	var rows [][]string
	for _, m := range f.resolved.API.Methods() {
		rows = append(rows, []string{m.Name, strconv.FormatUint(m.ID, 10), graphWord(m.Tx), graphWord(m.Rx)})
	}
	if err := p.table([]string{"METHOD", "ID", "SENDS", "ANSWERS"}, rows); err != nil || app == nil {
		return err
	}
	_, err = p.out.Write(appendTree([]byte("\n"), "", app))
	return local(err)
}

// graphWord names a direction in a word, or by its messages.
func graphWord(g *session.Graph) string {
	switch g {
	case session.Primitive:
		return "value"
	case session.Streaming, session.StreamingV0, service.Values:
		return "stream"
	}
	return strings.Join(messages(g), ", ")
}

// messages returns the names of the messages that a direction begins with.
func messages(g *session.Graph) []string {
	list := []string{} // not null
	if g != nil {
		for _, s := range g.Slots() {
			list = append(list, s.Name)
		}
	}
	return list
}
