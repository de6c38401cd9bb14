package main

import (
	"context"
	"time"

	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
)

// completionTimeout is how long a person who presses the key waits for a runtime.
const completionTimeout = time.Second

// candidates returns what an argument may be, by those in front of it.
type candidates func(ctx context.Context, c *service.Client, args []string) ([]string, error)

// completeNames has the first arguments of a command be completed with names that the runtime
// has, each by its own function. Without a runtime there are none.
func (l *link) completeNames(cmd *cobra.Command, names ...candidates) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(names) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		quick := *l
		quick.timeout = completionTimeout
		var list []string
		err := quick.run(cmd.Context(), func(ctx context.Context, c *service.Client) (err error) {
			list, err = names[len(args)](ctx, c, args)
			return err
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// pathSecond has the second argument of a command be completed with names of files.
func pathSecond(cmd *cobra.Command) {
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// serviceNames returns the names of the services of a node.
func serviceNames(ctx context.Context, c *service.Client, _ []string) ([]string, error) {
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

// methodNames returns the names of the methods of the service that the first argument is.
func methodNames(ctx context.Context, c *service.Client, args []string) ([]string, error) {
	f, err := findService(ctx, c, args[0])
	if err != nil {
		return nil, err
	}
	return f.methods(), nil
}

// appNames returns the names of the applications that run or are in the storage.
func appNames(ctx context.Context, c *service.Client, _ []string) ([]string, error) {
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
