package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
)

// groups is the collection of routing groups, each a map of service to weight in msgpack,
// as the live runtimes have it (protocol: locator).
const groups = "groups"

// groupTags are what finds a group.
func groupTags() []string { return []string{"group", "active"} }

func (p *program) groupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "group",
		GroupID: groupApps,
		Short:   "List, print, set and remove routing groups: services behind one name",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.groupList(), p.groupView(), p.groupSet(), p.groupRemove(), p.groupRefresh())
	return cmd
}

func (p *program) groupList() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "list [flags]",
		Short: "Print the names of the groups in the storage, one a line",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				names, err := findKeys(ctx, c, groups, groupTags()...)
				if err != nil {
					return err
				}
				return p.printNames(names, l.json)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

func (p *program) groupView() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "view [flags] NAME",
		Short: "Print the services of a group and their weights",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return p.viewBlob(ctx, c, groups, args[0], l.json)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

func (p *program) groupSet() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "set [flags] NAME SERVICE=WEIGHT...",
		Aliases: []string{"create"},
		Short:   "Make a group of services, in place of one of that name",
		Long: `Set makes a group: who asks the locator for its NAME gets one of the services, each as often
as its WEIGHT says. The locator is told.`,
		Example: `  sluice group set shop shop-v1=90 shop-v2=10`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			weights, err := parseWeights(args[1:])
			if err != nil {
				return err
			}
			blob, err := appendPacked(nil, weights)
			if err != nil {
				return err
			}
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				if err := writeBlob(ctx, c, groups, args[0], blob, groupTags()); err != nil {
					return err
				}
				return l.done(refreshGroups(ctx, c, args[:1]), args[0], "set")
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

// parseWeights reads SERVICE=WEIGHT.
func parseWeights(list []string) (map[string]any, error) {
	weights := make(map[string]any)
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		weight, err := strconv.ParseUint(value, 10, 32)
		if err != nil || name == "" {
			return nil, fmt.Errorf("%q, want SERVICE=WEIGHT, a number of 0 to 4294967295", text)
		}
		if weights[name] != nil {
			return nil, fmt.Errorf("%q: %s is there twice", text, name)
		}
		weights[name] = json.Number(strconv.FormatUint(weight, 10))
	}
	return weights, nil
}

func (p *program) groupRemove() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "rm [flags] NAME",
		Aliases: []string{"remove"},
		Short:   "Remove a group; the locator is told",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				if err := removeKey(ctx, c, groups, args[0]); err != nil {
					return err
				}
				return l.done(refreshGroups(ctx, c, args), args[0], "removed")
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

func (p *program) groupRefresh() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "refresh [flags] NAME...",
		Short: "Have the locator read groups from the storage anew",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return l.tell(refreshGroups(ctx, c, args), map[string]any{"names": args, "done": "refreshed"})
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

// refreshGroups has the locator read groups anew. v1 takes a list, v0 one name (protocol:
// locator).
func refreshGroups(ctx context.Context, c *service.Client, names []string) error {
	locator := c.Service("locator")
	api, err := locator.API(ctx)
	if err != nil {
		return err
	}
	if m, ok := api.ByName("refresh"); ok && m.ID == 2 {
		_, err = locator.Call(ctx, "refresh", codec.Args(names))
		return err
	}
	for _, name := range names {
		if _, err := locator.Call(ctx, "refresh", codec.Args(name)); err != nil {
			return err
		}
	}
	return nil
}
