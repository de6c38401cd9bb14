package engine

import (
	"bytes"
	"log/slog"
	"slices"
	"time"
)

// Crash is the end of a worker that nobody asked for.
type Crash struct {
	Time time.Time
	UUID string // of the slave
	Name string // of the application
	// Code and Reason are those of the *SlaveError, the Reason with the cause.
	Code   SlaveCode
	Reason string
	// Status is how the process ended, e.g. "signal: killed"; empty if it never ran.
	Status string
	// Lines are the last that the process wrote, at most Profile.CrashlogLimit.
	Lines []string
}

// maxCrashes is the default of AppConfig.MaxCrashes.
const maxCrashes = 50

// crashes keeps the last ones.
type crashes struct {
	limit int
	list  []Crash // the oldest first
}

func (c *crashes) add(one Crash) {
	if c.limit <= 0 {
		return
	}
	if len(c.list) >= c.limit {
		c.list = slices.Delete(c.list, 0, len(c.list)-c.limit+1)
	}
	c.list = append(c.list, one)
}

// all returns a copy, the oldest first.
func (c *crashes) all() []Crash { return slices.Clone(c.list) }

// lineLogger logs what a worker writes, line by line, as debug messages. It is used by one
// goroutine.
type lineLogger struct {
	log     *slog.Logger
	partial []byte
}

// Write takes what came; the last line waits for its end, or for too many bytes.
func (l *lineLogger) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		l.partial = append(l.partial, line[:min(len(line), maxLineBytes-len(l.partial))]...)
		if whole {
			l.log.Debug("worker: " + string(l.partial))
			l.partial = l.partial[:0]
		}
		p = rest
	}
	return n, nil
}
