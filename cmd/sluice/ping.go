package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
)

// pinging is one run of sluice ping.
type pinging struct {
	link

	count    uint
	interval time.Duration
}

// pong is one answer.
type pong struct {
	Service string        `json:"service"`
	Number  uint          `json:"number"`
	Took    time.Duration `json:"ns"`
}

func (p *program) pingCommand() *cobra.Command {
	v := &pinging{link: link{p: p}}
	cmd := &cobra.Command{
		Use:     "ping [flags] [SERVICE]",
		GroupID: groupCalls,
		Short:   "Tell whether a service answers, and how fast",
		Long: `Ping has a service answer a ping, again and again, and prints how long that takes. Without
a SERVICE it is the locator. What a ping finds is the service's end of the connection; of an
application it wakes no worker.`,
		Example: `  sluice ping
  sluice ping echo --count 1 --timeout 1s && echo alive`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if v.count == 0 || v.interval < 0 {
				return errors.New("--count and --interval have to be positive")
			}
			name := "locator"
			if len(args) > 0 {
				name = args[0]
			}
			return v.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return v.ping(ctx, c.Service(name), name)
			})
		},
	}
	v.flags(cmd, usualTimeout)
	v.completeNames(cmd, serviceNames)
	cmd.Flags().UintVar(&v.count, "count", 4, "how many times")
	cmd.Flags().DurationVar(&v.interval, "interval", time.Second, "time from one to the next")
	return cmd
}

func (v *pinging) ping(ctx context.Context, s *service.Service, name string) error {
	next := time.NewTicker(max(v.interval, 1))
	defer next.Stop()
	for i := range v.count {
		if i > 0 {
			select {
			case <-next.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		took, err := s.Ping(ctx)
		if err == nil {
			err = v.print(pong{name, i + 1, took})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// print prints one answer.
func (v *pinging) print(a pong) error {
	if v.json {
		return v.p.printJSON(a)
	}
	_, err := fmt.Fprintf(v.p.out, "%s answered ping %d in %v\n", cell(a.Service), a.Number, a.Took.Round(time.Microsecond))
	return local(err)
}
