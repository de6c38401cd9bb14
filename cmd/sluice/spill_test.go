package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A writer that does not write holds nobody up, and takes up no more than the bound.
func TestSpill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		s := newSpill(out)
		line := strings.Repeat("x", 1023) + "\n"
		fmt.Fprint(s, line) // on its way
		synctest.Wait()
		for range maxSpillBytes/len(line) + 3 {
			fmt.Fprint(s, line)
		}
		begin := time.Now()
		s.close()
		if took := time.Since(begin); took != spillPatience {
			t.Errorf("close() took %v, want %v", took, spillPatience)
		}
		go func() {
			<-s.done
			_ = out.Close()
		}()
		text, err := io.ReadAll(in)
		if n := strings.Count(string(text), line); n != 1+maxSpillBytes/len(line) || err != nil {
			t.Errorf("%d lines were written, %v, want %d", n, err, 1+maxSpillBytes/len(line))
		}
		if want := "sluice: 3 lines of the log were dropped: nobody takes them as fast as they come\n"; !strings.HasSuffix(string(text), want) {
			t.Errorf("the last line is %q, want %q", text[max(0, len(text)-100):], want)
		}
	})
}

// At the end all is written, in its order.
func TestSpillWritesAll(t *testing.T) {
	var text strings.Builder
	var want strings.Builder
	s := newSpill(&text)
	for i := range 1000 {
		fmt.Fprintln(io.MultiWriter(s, &want), i)
	}
	s.close()
	if text.String() != want.String() {
		t.Errorf("%d bytes were written, want %d", text.Len(), want.Len())
	}
}
