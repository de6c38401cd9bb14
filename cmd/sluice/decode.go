package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/spf13/cobra"
)

// maxLineBytes bounds a line of hex: a payload of the default limit, and the rest of its
// frame, twice.
const maxLineBytes = 2 * (codec.DefaultMaxPayloadBytes + codec.FrameMarginBytes + 1<<10)

func (p *program) decodeCommand() *cobra.Command {
	var protocol int
	cmd := &cobra.Command{
		Use:     "decode [flags] FILE | -",
		GroupID: groupWire,
		Short:   "Print frames as JSON",
		Long: `Decode reads frames from FILE, or from stdin, and prints each as one JSON object on a
line of its own:

  {"offset":0,"direction":"worker>engine","kind":"heartbeat","session":1,"type":0,"args":[],"headers":[]}

The input is one of these, which it tells apart by itself:

  bytes     frames as they are on the wire
  hex       the same as text; white space between bytes is free
  capture   lines DIRECTION TAB HEX TAB COMMENT, each direction a stream of its own

In text a line that begins with # is a comment. The offset counts bytes of the stream.

A frame does not say which protocol it is of, nor always what it means. The kind is
that of the protocol between engine and worker; it is "call" for a request in a capture
whose direction names neither, and missing where it depends on the service.

A bad frame, or one that is cut short, ends the decoding with exit status 1 and its
offset.`,
		Example: `  sluice decode recorded.bin
  sluice decode --protocol 0 capture.txt
  echo 93010090 | sluice decode -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if protocol != 0 && protocol != 1 {
				return fmt.Errorf("--protocol %d, want 0 or 1", protocol)
			}
			return p.decode(cmd.Context(), args[0], codec.Dialect(protocol))
		},
	}
	protocolFlag(cmd, &protocol)
	return cmd
}

// decode prints the frames of a file, "-" for stdin.
func (p *program) decode(ctx context.Context, name string, dialect codec.Dialect) error {
	in := p.input(ctx, name)
	defer in.Close()
	d := &decoder{out: bufio.NewWriter(p.out), dialect: dialect, streams: make(map[string]*stream)}
	return d.read(bufio.NewReader(in))
}

// decoder prints the frames of one input.
type decoder struct {
	out     *bufio.Writer
	dialect codec.Dialect
	streams map[string]*stream // by direction
	order   []*stream
	kinds   namer
	line    []byte // reused for JSON
}

// stream is the frames of one direction.
type stream struct {
	direction string
	scan      *codec.Scanner
	held      []byte // begun and not whole
}

// read tells bytes from text: no frame begins with an ASCII character.
func (d *decoder) read(in *bufio.Reader) error {
	first, err := in.Peek(1)
	switch {
	case err == io.EOF:
		return nil
	case err != nil:
		return local(err)
	case first[0] >= 0x80:
		err = d.readBytes(in)
	default:
		err = d.readText(in)
	}
	if err != nil {
		return err
	}
	for _, s := range d.order {
		if len(s.held) > 0 {
			return s.bad(fmt.Errorf("the frame at byte %d is cut short: %d bytes are there", s.scan.Offset(), len(s.held)))
		}
	}
	return nil
}

func (d *decoder) readBytes(in io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if bad := d.add("", buf[:n]); bad != nil {
			return bad
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return local(err)
		}
	}
}

func (d *decoder) readText(in io.Reader) error {
	return eachLine(in, maxLineBytes, "break it between two bytes", d.readLine)
}

// readLine takes one of hex, or of a capture.
func (d *decoder) readLine(number int, text string) error {
	text = strings.TrimSpace(text)
	if text == "" || strings.HasPrefix(text, "#") {
		return nil
	}
	direction := ""
	if first, rest, capture := strings.Cut(text, "\t"); capture && !isHex(first) {
		direction = first
		text, _, _ = strings.Cut(rest, "\t")
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return &exitError{exitRemote, fmt.Errorf("line %d is neither hex nor a line of a capture: %w", number, err)}
	}
	return d.add(direction, b)
}

// isHex reports whether a piece of text is all hex digits and blanks.
func isHex(text string) bool {
	return strings.Trim(text, "0123456789abcdefABCDEF ") == ""
}

// add takes the next bytes of a direction and prints the frames that they complete, now:
// somebody may be watching.
func (d *decoder) add(direction string, p []byte) error {
	err := d.frames(direction, p)
	if flushed := d.out.Flush(); err == nil {
		err = local(flushed)
	}
	return err
}

func (d *decoder) frames(direction string, p []byte) error {
	s := d.streams[direction]
	if s == nil {
		s = &stream{direction: direction, scan: codec.NewScanner(d.dialect, codec.Limits{})}
		d.streams[direction] = s
		d.order = append(d.order, s)
	}
	s.held = append(s.held, p...)
	var m codec.Message
	at := 0
	for at < len(s.held) {
		offset := s.scan.Offset()
		n, err := s.scan.Next(s.held[at:], &m)
		if err != nil {
			return s.bad(err)
		}
		if n == 0 {
			break
		}
		at += n
		if err := d.print(s, offset, &m); err != nil {
			return local(err)
		}
	}
	if at > 0 { // else the same bytes would be moved again with each piece of a frame
		s.held = append(s.held[:0], s.held[at:]...)
	}
	return nil
}

// bad is what ends a stream.
func (s *stream) bad(err error) error {
	if s.direction != "" {
		err = fmt.Errorf("%s: %w", s.direction, err)
	}
	return &exitError{exitRemote, err}
}

// print writes one frame as a line.
func (d *decoder) print(s *stream, offset int64, m *codec.Message) error {
	b := strconv.AppendInt(append(d.line[:0], `{"offset":`...), offset, 10)
	if s.direction != "" {
		b = append(b, `,"direction":`...)
		b = codec.AppendJSONValue(b, codec.AppendString(nil, s.direction))
	}
	if kind := d.kinds.name(d.dialect, s.direction, m); kind != "" {
		b = append(append(append(b, `,"kind":"`...), kind...), '"')
	}
	from := len(b)
	b = codec.AppendJSON(b, m, d.dialect)
	b[from] = ',' // in the place of {
	d.line = append(b, '\n')
	_, err := d.out.Write(d.line)
	return err
}
