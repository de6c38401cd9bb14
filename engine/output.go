package engine

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	outputBytes  = 32 << 10 // asked of the pipe in one read
	maxLineBytes = 4 << 10  // kept of one line
	outputWait   = time.Second
)

// output reads what a process writes, passes it on, and keeps the last lines.
type output struct {
	from  io.ReadCloser
	to    io.Writer // nil: nobody wants it
	limit int       // lines kept
	log   *slog.Logger
	ended chan struct{} // closed when nobody can write any more, or reading was ended

	mu      sync.Mutex // guards the following
	lines   []string   // a ring of limit lines once it is full
	first   int        // the oldest of a full ring
	partial []byte     // the line that has no end yet
}

// newOutput starts to read from, which it owns.
func newOutput(from io.ReadCloser, cfg *SlaveConfig) *output {
	o := &output{from: from, to: cfg.Output, limit: cfg.MaxOutputLines, log: cfg.Logger, ended: make(chan struct{})}
	go o.run()
	return o
}

// run reads until the end, and is the one goroutine that uses to.
func (o *output) run() {
	defer close(o.ended)
	buf := make([]byte, outputBytes)
	for {
		n, err := o.from.Read(buf)
		o.keep(buf[:n])
		if n > 0 && o.to != nil {
			o.pass(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// pass gives p to the user's writer; one that fails or panics gets nothing more.
func (o *output) pass(p []byte) {
	ok := false
	defer func() {
		if v := recover(); v != nil {
			o.log.Error("engine: SlaveConfig.Output panicked; it gets no more", "panic", v)
		}
		if !ok {
			o.to = nil
		}
	}()
	_, err := o.to.Write(p)
	if ok = err == nil; !ok {
		o.log.Warn("engine: SlaveConfig.Output failed; it gets no more", "err", err)
	}
}

// keep cuts p into lines.
func (o *output) keep(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		o.partial = append(o.partial, line[:min(len(line), maxLineBytes-len(o.partial))]...)
		if whole {
			o.addLocked(string(o.partial))
			o.partial = o.partial[:0]
		}
		p = rest
	}
}

func (o *output) addLocked(line string) {
	switch {
	case len(o.lines) < o.limit:
		o.lines = append(o.lines, line)
	case o.limit > 0:
		o.lines[o.first] = line
		o.first = (o.first + 1) % o.limit
	}
}

// last returns the last lines, the oldest first. The list is the caller's.
func (o *output) last() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := append(append([]string(nil), o.lines[o.first:]...), o.lines[:o.first]...)
	if len(o.partial) > 0 {
		list = append(list, string(o.partial))
	}
	return list[max(0, len(list)-o.limit):]
}

// finish waits, up to d, for all writers to be gone, and ends the reading. It reports
// false if the user's writer does not return; that goroutine is left behind.
func (o *output) finish(d time.Duration) bool {
	ended := o.waitEnd(d)
	_ = o.from.Close() // it was read only
	return ended || o.waitEnd(outputWait)
}

// waitEnd reports whether reading ended within d.
func (o *output) waitEnd(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-o.ended:
		return true
	case <-t.C:
		return false
	}
}
