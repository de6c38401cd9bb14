package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
)

// tailing is one run of sluice tail.
type tailing struct {
	link

	source string
	level  slog.Level
	recent uint
	once   bool
}

func (p *program) tailCommand() *cobra.Command {
	v := &tailing{link: link{p: p}}
	cmd := &cobra.Command{
		Use:     "tail [flags]",
		GroupID: groupCalls,
		Short:   "Print what is logged, as it comes",
		Long: `Tail prints the last records that came to the logging service, and then those that come,
until it is interrupted or the --timeout is over. Runtimes other than sluice do not offer that.

A --source is one as it is, or all below it: app has app/echo too.`,
		Example: `  sluice tail
  sluice tail --source app/echo --level warn
  sluice tail --recent 100 --no-follow --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if v.protocol == 0 {
				return errors.New("tail needs --protocol 1")
			}
			return v.run(cmd.Context(), v.follow)
		},
	}
	v.flags(cmd, 0)
	cmd.Flags().StringVar(&v.source, "source", "", "only records of this `SOURCE`, or below it")
	cmd.Flags().TextVar(&v.level, "level", slog.LevelDebug, "only records of at least this `LEVEL`: debug, info, warn, error")
	cmd.Flags().UintVar(&v.recent, "recent", 10, "how many of the last records to begin with")
	cmd.Flags().BoolVar(&v.once, "no-follow", false, "end after these")
	_ = cmd.RegisterFlagCompletionFunc("level", cobra.FixedCompletions([]cobra.Completion{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// follow prints records until the stream or the context ends.
func (v *tailing) follow(ctx context.Context, c *service.Client) error {
	args := codec.Args(v.source, service.Severity(codec.V1, v.level), v.recent, !v.once)
	s, err := c.NewService(service.ServiceConfig{Name: "tail", Values: []string{"tail"}})
	if err != nil {
		return err
	}
	stream, err := s.Open(ctx, "tail", args)
	if err != nil {
		return err
	}
	defer stream.Discard()
	for {
		_, message, err := stream.RecvArgs(ctx)
		if err == io.EOF || ctx.Err() != nil {
			return nil // an interrupt is how it ends
		}
		if err != nil {
			return err
		}
		rec, err := readRecord(message)
		if err != nil {
			return err
		}
		if err := v.print(rec); err != nil {
			return err
		}
	}
}

// record is one of the log.
type record struct {
	Number  uint64         `json:"number"`
	Time    time.Time      `json:"time"`
	Level   string         `json:"level"`
	Source  string         `json:"source"`
	Message string         `json:"msg"`
	Attrs   map[string]any `json:"attrs,omitempty"`
	Missed  uint64         `json:"missed,omitempty"` // before it, because we were too slow

	order []string // of the attributes
}

// readRecord reads a message of the service tail: number, microseconds since 1970,
// severity, source, message, attributes, missed.
func readRecord(args []byte) (record, error) {
	r := codec.NewReader(args)
	rec := record{Number: r.Uint64(), Time: time.UnixMicro(r.Int64())}
	rec.Level = service.Level(codec.V1, r.Int()).String()
	rec.Source, rec.Message = r.String(), r.String()
	n := r.ArrayLen()
	if n > 0 {
		rec.Attrs = make(map[string]any, n)
	}
	for range n {
		r.ArrayLen()
		name := r.String()
		rec.Attrs[name] = unpackValue(r.Raw())
		rec.order = append(rec.order, name)
	}
	rec.Missed = r.Uint64()
	if err := r.Err(); err != nil {
		return rec, fmt.Errorf("a record of the log: %w", err)
	}
	return rec, nil
}

// print prints a record on a line.
func (v *tailing) print(r record) error {
	if v.json {
		return v.p.printJSON(r)
	}
	var b strings.Builder
	if r.Missed > 0 {
		fmt.Fprintf(&b, "(%d records were too fast to be shown)\n", r.Missed)
	}
	fmt.Fprintf(&b, "%s %-5s %s: %s", r.Time.Format("15:04:05.000"), r.Level, cell(r.Source), cell(r.Message))
	for _, name := range r.order {
		fmt.Fprintf(&b, " %s=%s", cell(name), leaf(r.Attrs[name]))
	}
	b.WriteByte('\n')
	_, err := io.WriteString(v.p.out, b.String())
	return local(err)
}
