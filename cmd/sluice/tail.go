package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
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

	some   bool      // a record was shown
	number uint64    // of the last one
	time   time.Time // the latest of theirs
}

// tailBackoff is between tries to come back to a runtime.
var tailBackoff = service.Backoff{Base: 200 * time.Millisecond, Max: 3 * time.Second}

const (
	// allRecent are all the records that a runtime keeps.
	allRecent = math.MaxInt32
	// tailLived is how long a stream without any record has to last for the runtime to be
	// back: the end of a shorter one is not told again.
	tailLived = time.Second
)

func (p *program) tailCommand() *cobra.Command {
	v := &tailing{link: link{p: p}}
	cmd := &cobra.Command{
		Use:     "tail [flags]",
		GroupID: groupCalls,
		Short:   "Print what is logged, as it comes",
		Long: `Tail prints the last records that came to the logging service, and then those that come,
until it is interrupted or the --timeout is over. When the runtime ends it waits for it to be
back. Runtimes other than sluice do not offer that.

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
	cmd.Flags().Lookup("level").DefValue = "debug"
	cmd.Flags().UintVar(&v.recent, "recent", 10, "how many of the last records to begin with")
	cmd.Flags().BoolVar(&v.once, "no-follow", false, "end after these")
	_ = cmd.RegisterFlagCompletionFunc("level", cobra.FixedCompletions([]cobra.Completion{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// follow prints the last records, and then those that come until the context ends. When a
// stream does it asks for another one, of all that the runtime has, and leaves out what was
// shown.
func (v *tailing) follow(ctx context.Context, c *service.Client) error {
	s, err := c.NewService(service.ServiceConfig{Name: "tail", Values: []string{"tail"}})
	if err != nil {
		return err
	}
	recent, take := v.recent, v.show
	if recent == 0 { // what is there is not shown, but has to be known when it comes again
		recent, take = 1, v.note
	}
	if _, err := v.stream(ctx, s, recent, false, take); err != nil || v.once || ctx.Err() != nil {
		return err
	}
	var random rand.PCG
	random.Seed(rand.Uint64(), rand.Uint64())
	for failures := 0; ; failures++ {
		lived, err := v.stream(ctx, s, allRecent, true, v.show)
		switch {
		case ctx.Err() != nil:
			return nil // an interrupt is how it ends
		case errors.As(err, new(*exitError)):
			return err
		case lived || failures == 0:
			failures = 0
			v.p.warn("the runtime has ended, or cannot be reached: waiting for it")
		}
		select {
		case <-time.After(tailBackoff.Delay(failures, &random)):
		case <-ctx.Done():
			return nil
		}
	}
}

// stream hands the records of one stream to take, until it ends; that the context has ended
// is no error. It reports whether the stream was there for a while. An error that another
// stream would not help with is an *exitError.
func (v *tailing) stream(ctx context.Context, s *service.Service, recent uint, follow bool, take func(record) error) (lived bool, err error) {
	stream, err := s.Open(ctx, "tail", codec.Args(v.source, service.Severity(codec.V1, v.level), recent, follow))
	if err != nil {
		return false, err
	}
	defer stream.Discard()
	for began := time.Now(); ; lived = true {
		_, message, err := stream.RecvArgs(ctx)
		switch lived = lived || time.Since(began) >= tailLived; {
		case err == io.EOF || ctx.Err() != nil:
			return lived, nil
		case err != nil:
			return lived, err
		}
		rec, err := readRecord(message)
		if err != nil {
			return lived, local(err)
		}
		if err := take(rec); err != nil {
			return lived, err
		}
	}
}

// show prints a record, unless it was shown. Numbers begin anew with the runtime, times do
// not.
func (v *tailing) show(r record) error {
	if v.some && r.Number <= v.number && !r.Time.After(v.time) {
		return nil
	}
	_ = v.note(r)
	return v.print(r)
}

// note has a record count as shown.
func (v *tailing) note(r record) error {
	v.some, v.number = true, r.Number
	if r.Time.After(v.time) {
		v.time = r.Time
	}
	return nil
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
