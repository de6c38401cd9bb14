package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
	"github.com/spf13/cobra"
)

// enqueue is the method of an application's service that takes an event.
const enqueue = "enqueue"

// calling is one run of sluice call.
type calling struct {
	link

	raw     bool
	event   bool
	headers []string

	service, method string
	words           []string
}

func (p *program) callCommand() *cobra.Command {
	v := &calling{link: link{p: p}}
	cmd := &cobra.Command{
		Use:     "call [flags] SERVICE METHOD [ARG... | -] | APP EVENT [CHUNK... | -]",
		GroupID: groupCalls,
		Short:   "Call a method of a service, or an event of an application",
		Long: `Call calls a method of a service. If the service has no such method and is an
application, it is an event: it is enqueued, each CHUNK is sent, then a choke, and the
answer is printed as it comes. --event has it be an event whatever methods there are.

An ARG of a method that is JSON is that value: a number, true, null, an array, an object,
text in double quotes. Anything else is text, as is everything with --raw. If the method
takes a stream, - as the last ARG has it be what stdin gives; if it answers that with one
value, each line is one message, read as an ARG is.

A CHUNK of an event is sent as it is; protocol 0 has all of them in the call. With - as the
only one the chunks are what stdin gives, up to 64 KiB each, and the answer is printed byte
for byte. Otherwise a newline is added to an answer that does not end in one.

A result is printed one value a line, text as it is and the rest as JSON. With --json each
message, or each chunk, is one JSON value on a line.

Exit status: 0 for a result, 1 if the service or its worker answered with an error, 2 if
the command line is wrong, 3 if there was no answer: no runtime, no end in time.`,
		Example: `  sluice call echo echo hello
  sluice call storage write users alice '"42"'
  sluice call storage find users '["admin"]'
  sluice call thumbnailer resize - <in.jpg >out.jpg
  sluice call locator resolve storage --json
  sluice call echo --event info`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("call needs a SERVICE and a METHOD or EVENT, for example: sluice call echo ping")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			v.service, v.method, v.words = args[0], args[1], args[2:]
			if _, err := parseHeaders(v.headers, v.protocol); err != nil {
				return err
			}
			return v.run(cmd.Context(), v.call)
		},
	}
	v.flags(cmd, 0)
	v.completeNames(cmd, serviceNames, methodNames)
	cmd.Flags().BoolVar(&v.raw, "raw", false, "every ARG is text, also if it is JSON")
	cmd.Flags().StringArrayVar(&v.headers, "header", nil, "`NAME=VALUE` of a header of the call, protocol 1 only; repeatable")
	cmd.Flags().BoolVar(&v.event, "event", false, "METHOD is an event of an application")
	return cmd
}

// call decides by the service's graph what METHOD is.
func (v *calling) call(ctx context.Context, c *service.Client) error {
	s, err := v.newService(c)
	if err != nil {
		return err
	}
	api, err := s.API(ctx)
	if err != nil {
		return err
	}
	m, isMethod := api.ByName(v.method)
	_, isApp := api.ByName(enqueue)
	switch {
	case isMethod && !v.event:
		return v.callMethod(ctx, s, m)
	case isApp:
		return v.callEvent(ctx, s)
	}
	var names []string
	for _, m := range api.Methods() {
		names = append(names, m.Name)
	}
	return fmt.Errorf("service %s has no method %s, and is no application; it has %s", v.service, v.method, strings.Join(names, ", "))
}

// newService returns the service, with what a call of the method needs.
func (v *calling) newService(c *service.Client) (*service.Service, error) {
	headers, err := parseHeaders(v.headers, v.protocol)
	if err != nil {
		return nil, err
	}
	cfg := service.ServiceConfig{
		Name:    v.service,
		Headers: func(context.Context, string) []codec.Header { return headers },
	}
	if !v.stdin() {
		cfg.Values = []string{v.method} // of a stream whole messages are printed
	}
	return c.NewService(cfg)
}

// stdin reports whether the last word says that stdin is sent.
func (v *calling) stdin() bool { return len(v.words) > 0 && v.words[len(v.words)-1] == "-" }

func (v *calling) callEvent(ctx context.Context, s *service.Service) error {
	t := newTalk(v.p, v.words)
	t.json = v.json
	t.hint = fmt.Sprintf("sluice: no answer of %[1]s yet; \"sluice info %[1]s\" shows its workers, \"sluice app crashlog list %[1]s\" how they ended", v.service)
	args := codec.Args(v.method)
	if v.protocol == 0 {
		body, err := t.body(ctx)
		if err != nil {
			return err
		}
		args, t.silent = codec.Args(v.method, body), true
	}
	stream, err := s.Open(ctx, enqueue, args)
	if err != nil {
		return err
	}
	return t.over(ctx, stream)
}

func (v *calling) callMethod(ctx context.Context, s *service.Service, m service.Method) error {
	words := v.words
	streams := m.Tx != nil && slices.ContainsFunc(m.Tx.Slots(), isChoke)
	stdin := streams && v.stdin()
	if stdin {
		words = words[:len(words)-1]
	} else if v.stdin() && !m.Mute() && m.Rx != session.Primitive {
		return &exitError{exitUsage, fmt.Errorf("%s takes no stream: nothing of stdin can be sent; leave out -", m.Name)}
	}
	args, err := arguments(words, v.raw)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	switch {
	case m.Mute():
		return s.Notify(ctx, m.Name, args)
	case m.Rx == session.Primitive && m.Tx == nil, m.Rx == session.StreamingV0 && m.Name != enqueue:
		reply, err := s.Call(ctx, m.Name, args)
		if err != nil {
			return err
		}
		return v.printArgs(reply.Args())
	}
	stream, err := s.Open(ctx, m.Name, args)
	if err != nil {
		return err
	}
	switch {
	case stdin && m.Rx == session.Primitive:
		if err := v.sendLines(ctx, stream, m); err != nil {
			return err
		}
	case stdin:
		t := talk{p: v.p, stdin: true, json: v.json}
		return t.over(ctx, stream)
	}
	if streams {
		if err := stream.Close(); err != nil && !errors.Is(err, session.ErrClosed) {
			return err
		}
	}
	return v.printMessages(ctx, stream)
}

// sendLines sends each line of stdin as one message, by the rules of an ARG: who answers a
// stream with one value takes values, and no bytes.
func (v *calling) sendLines(ctx context.Context, stream *service.Stream, m service.Method) error {
	slots := m.Tx.Slots()
	i := slices.IndexFunc(slots, func(s session.Slot) bool { return s.Kind == session.Chunk })
	if i < 0 {
		return &exitError{exitUsage, fmt.Errorf("%s takes nothing from stdin", m.Name)}
	}
	in := v.p.input(ctx, "-")
	defer in.Close()
	return eachLine(in, maxBlobBytes, "that is the most that one message carries", func(number int, text string) error {
		args, err := arguments([]string{text}, v.raw)
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("line %d: %w", number, err)}
		}
		return stream.SendMessage(ctx, slots[i].Name, args)
	})
}

func isChoke(s session.Slot) bool { return s.Kind == session.Choke }

// printMessages prints what comes until the stream ends.
func (v *calling) printMessages(ctx context.Context, stream *service.Stream) error {
	for {
		_, args, err := stream.RecvArgs(ctx)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = v.printArgs(args)
		}
		if err != nil {
			return err
		}
	}
}

// printArgs prints one message.
func (v *calling) printArgs(args []byte) error {
	var text []byte
	if v.json {
		text = append(appendJSON(nil, args), '\n')
	} else {
		text = appendText(nil, args)
	}
	_, err := v.p.out.Write(text)
	return local(err)
}
