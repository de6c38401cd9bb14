package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
)

// A signal ends what waits for stdin: nobody has to send a second one.
func TestInputStopped(t *testing.T) {
	for _, args := range []string{"decode -", "storage write c k -", "app profile upload p -"} {
		synctest.Test(t, func(t *testing.T) {
			in, stdin := io.Pipe() // nothing comes
			defer stdin.Close()
			ctx, stop := context.WithCancelCause(t.Context())
			var errs bytes.Buffer
			p := program{in: in, out: io.Discard, err: &lockedWriter{w: &errs}, hard: t.Context()}
			exit := make(chan int, 1)
			go func() { exit <- p.run(ctx, strings.Fields(args)) }()
			synctest.Wait()
			stop(errors.New("stopped by a test"))
			synctest.Wait()
			select {
			case got := <-exit:
				if got != exitLocal || !strings.Contains(errs.String(), "stopped by a test") {
					t.Errorf("sluice %s = %d, %q, want exit status 3 and why", args, got, &errs)
				}
			default:
				t.Errorf("sluice %s still waits for stdin", args)
			}
		})
	}
}

// A frame in very many lines costs what its bytes cost, not that times the lines.
func TestDecodeManyLines(t *testing.T) {
	const size = 3 << 20
	b := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: make([]byte, size)})
	var text strings.Builder
	for _, c := range b {
		text.WriteString(hex.EncodeToString([]byte{c}))
		text.WriteByte('\n')
	}
	r := sluice(t, text.String(), "decode", "-") // has a minute
	if r.exit != 0 || strings.Count(r.out, "\n") != 1 || len(r.out) < size {
		t.Errorf("decode = exit status %d, %d bytes, %.200q", r.exit, len(r.out), r.err)
	}
}

// A line that is too long is one of the user's, who is told what to do.
func TestDecodeLongLine(t *testing.T) {
	r := sluice(t, strings.Repeat("9", maxLineBytes+1), "decode", "-")
	if want := "line 1 is longer than 32 MiB: break it"; r.exit != exitLocal || !strings.Contains(r.err, want) {
		t.Errorf("decode = %d, %.200q, want exit status 3 and %q", r.exit, r.err, want)
	}
}

// A file that cannot be read is named once.
func TestInputErrors(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, dir + "/none"} {
		for _, args := range [][]string{{"decode", name}, {"storage", "write", "c", "k", "--file", name}} {
			r := sluice(t, "", args...)
			if r.exit != exitLocal || strings.Count(r.err, name) != 1 {
				t.Errorf("sluice %q = %+v, want exit status 3 and the name", args, r)
			}
		}
	}
}

// Lines may be as long as what is made of them, and no longer.
func TestEachLine(t *testing.T) {
	const most = 1 << 20
	read := func(in string) (list []string, err error) {
		err = eachLine(strings.NewReader(in), most, "break it", func(number int, text string) error {
			list = append(list, fmt.Sprint(number, " ", len(text)))
			if text == "no" {
				return errors.New("no")
			}
			return nil
		})
		return list, err
	}
	long := strings.Repeat("9", most-1)
	if list, err := read("1\n\n" + long + "\n22"); err != nil || !slices.Equal(list, []string{"1 1", "2 0", "3 1048575", "4 2"}) {
		t.Errorf("eachLine() = %v, lines %q", err, list)
	}
	list, err := read("1\n" + long + "99\n3")
	if want := "line 2 is longer than 1 MiB: break it"; err == nil || err.Error() != want || len(list) != 1 {
		t.Errorf("eachLine() = %v behind %q, want %q", err, list, want)
	}
	if list, err := read("1\nno\n3"); err == nil || len(list) != 2 {
		t.Errorf("eachLine() = %v behind %q, want the second one's error", err, list)
	}
}
