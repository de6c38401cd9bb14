package service

import (
	"log/slog"

	"github.com/sluice-rpc/sluice/codec"
)

// The levels of the logging service run in opposite directions (protocol: logging):
//
//	     ignore  error  warning  info  debug
//	V0        0      1        2     3      4
//	V1        -      3        2     1      0

// Severity returns the level that the logging service of a runtime has for a record of
// level l: that of the highest of slog's own levels that is not above l, debug if there is
// none.
func Severity(d codec.Dialect, l slog.Level) int {
	s := 3
	switch {
	case l < slog.LevelInfo:
		s = 0
	case l < slog.LevelWarn:
		s = 1
	case l < slog.LevelError:
		s = 2
	}
	if d == codec.V0 {
		return 4 - s
	}
	return s
}

// Level returns the level of a record that came with a severity. The runtime takes any
// number: what is more than an error is one, what is less than debug is that.
func Level(d codec.Dialect, severity int) slog.Level {
	if d == codec.V0 {
		severity = 4 - max(min(severity, 4), 1)
	}
	return [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}[max(min(severity, 3), 0)]
}

// Wanted reports whether a logging service of that verbosity keeps records of that
// severity, so that they are worth sending. What Severity returns is never wanted at
// verbosity 0 of v0.
func Wanted(d codec.Dialect, severity, verbosity int) bool {
	if d == codec.V0 {
		return severity <= verbosity
	}
	return severity >= verbosity
}
