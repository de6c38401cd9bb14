package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
)

func (p *program) crashlogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crashlog",
		Short: "List, print and remove what crashed workers had printed",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.crashlogList(), p.crashlogView(), p.crashlogRemove())
	return cmd
}

// crash is one crash log: its key is TIME:UUID (protocol: command line, environment).
type crash struct {
	Key  string    `json:"key"`
	Time time.Time `json:"time,omitzero"`
	UUID string    `json:"uuid,omitempty"`
}

func parseCrash(key string) crash {
	micros, uuid, _ := strings.Cut(key, ":")
	n, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return crash{Key: key}
	}
	return crash{key, time.UnixMicro(n), uuid}
}

// findCrashes returns the crash logs of an application, the last first.
func findCrashes(ctx context.Context, c *service.Client, app string) ([]crash, error) {
	keys, err := findKeys(ctx, c, crashlogs, app)
	if err != nil {
		return nil, err
	}
	list := make([]crash, len(keys))
	for i, key := range keys {
		list[i] = parseCrash(key)
	}
	slices.SortStableFunc(list, func(a, b crash) int { return b.Time.Compare(a.Time) })
	return list, nil
}

func (p *program) crashlogList() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "list [flags] APP",
		Short: "Print the crash logs of an application, the last first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				list, err := findCrashes(ctx, c, args[0])
				if err != nil {
					return err
				}
				if l.json {
					return p.printJSON(list)
				}
				rows := make([][]string, len(list))
				for i, c := range list {
					when := ""
					if !c.Time.IsZero() {
						when = c.Time.Format(time.DateTime)
					}
					rows[i] = []string{when, c.UUID, c.Key}
				}
				return p.table([]string{"TIME", "WORKER", "KEY"}, rows)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	l.completeNames(cmd, appNames)
	return cmd
}

func (p *program) crashlogView() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "view [flags] APP [KEY]",
		Short: "Print a crash log: that of KEY, or the last one",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				key := args[len(args)-1]
				if len(args) == 1 {
					list, err := findCrashes(ctx, c, args[0])
					if err == nil && len(list) == 0 {
						err = fmt.Errorf("there is no crash log of %s", args[0])
					}
					if err != nil {
						return err
					}
					key = list[0].Key
				}
				blob, err := readBlob(ctx, c, crashlogs, key)
				if err != nil {
					return err
				}
				return p.printCrash(blob, l.json)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	l.completeNames(cmd, appNames)
	return cmd
}

// printCrash prints a crash log: one raw value of msgpack, as the live runtimes keep it,
// or a list of lines.
func (p *program) printCrash(blob []byte, asJSON bool) error {
	if asJSON {
		return p.printBlob(blob, true, true)
	}
	r := codec.NewValueReader(blob)
	whole := r
	if whole.Skip(); whole.Err() != nil || len(whole.Rest()) > 0 {
		_, err := p.out.Write(blob) // bare text
		return local(err)
	}
	var text []byte
	if r.Peek() == codec.ArrayValue {
		text = appendText(nil, blob)
	} else {
		text = appendText(nil, append(codec.AppendArrayHeader(nil, 1), blob...))
	}
	_, err := p.out.Write(text)
	return local(err)
}

func (p *program) crashlogRemove() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "rm [flags] APP [KEY...]",
		Aliases: []string{"remove"},
		Short:   "Remove crash logs: those of the KEYs, or all of the application",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				keys := args[1:]
				if len(keys) == 0 {
					var err error
					if keys, err = findKeys(ctx, c, crashlogs, args[0]); err != nil {
						return err
					}
				}
				for _, key := range keys {
					if err := removeKey(ctx, c, crashlogs, key); err != nil {
						return err
					}
				}
				return l.tell(nil, map[string]any{"name": args[0], "done": "removed", "keys": append([]string{}, keys...)})
			})
		},
	}
	l.flags(cmd, usualTimeout)
	l.completeNames(cmd, appNames)
	return cmd
}
