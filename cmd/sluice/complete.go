package main

import (
	"context"
	"time"

	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
)

// completionTimeout is how long a person who presses the key waits for a runtime.
const completionTimeout = time.Second

// completeNames has the first argument of a command be completed with names that the runtime
// has. Without a runtime there are none.
func (l *link) completeNames(cmd *cobra.Command, names func(ctx context.Context, c *service.Client) ([]string, error)) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		quick := *l
		quick.timeout = completionTimeout
		var list []string
		err := quick.run(cmd.Context(), func(ctx context.Context, c *service.Client) (err error) {
			list, err = names(ctx, c)
			return err
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// serviceNames returns the names of the services of a node.
func serviceNames(ctx context.Context, c *service.Client) ([]string, error) {
	list, err := listServices(ctx, c)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.Name
	}
	return names, nil
}

// appNames returns the names of the applications that run or are in the storage.
func appNames(ctx context.Context, c *service.Client) ([]string, error) {
	list, err := listApps(ctx, c)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = a.Name
	}
	return names, nil
}
