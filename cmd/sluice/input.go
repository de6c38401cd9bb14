package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// input gives what the file of that name has, stdin for "-", until ctx ends: then Read
// returns its cause. A file may keep its reader waiting for ever (a terminal, a pipe, a
// named one that nobody writes to), and no context interrupts that; such a goroutine is
// left behind. The caller closes what is returned.
func (p *program) input(ctx context.Context, name string) io.ReadCloser {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(p.copyInput(w, name)) }()
	stop := context.AfterFunc(ctx, func() { _ = w.CloseWithError(context.Cause(ctx)) })
	return &input{r, stop}
}

type input struct {
	*io.PipeReader
	stop func() bool // waiting for the end of ctx
}

// Close ends the copying, if it does not wait for the file.
func (in *input) Close() error {
	in.stop()
	return in.PipeReader.Close()
}

func (p *program) copyInput(w io.Writer, name string) error {
	if name == "-" {
		_, err := io.Copy(w, p.in)
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close() // it was read only
	_, err = io.Copy(w, file)
	return err
}

// readBounded reads all of a file, stdin for "-", which has at most maxBlobBytes.
func (p *program) readBounded(ctx context.Context, name string) ([]byte, error) {
	in := p.input(ctx, name)
	defer in.Close()
	blob, err := io.ReadAll(io.LimitReader(in, maxBlobBytes+1))
	if name == "-" {
		name = "stdin"
		if err != nil {
			err = fmt.Errorf("read stdin: %w", err)
		}
	}
	if err != nil {
		return nil, err // a file's has its name
	}
	if len(blob) > maxBlobBytes {
		return nil, fmt.Errorf("%s has more than %d MiB, which is the most that one call carries", name, maxBlobBytes>>20)
	}
	return blob, nil
}

// eachLine calls f with each line of in and its number, from 1, until it returns an error. A
// line of more than most bytes is one, with the hint what to do about it.
func eachLine(in io.Reader, most int, hint string, f func(number int, text string) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, most)
	number := 1
	for ; lines.Scan(); number++ {
		if err := f(number, lines.Text()); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return local(fmt.Errorf("line %d is longer than %d MiB: %s", number, most>>20, hint))
	}
	return local(lines.Err())
}
