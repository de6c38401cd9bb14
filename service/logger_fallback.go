package service

import (
	"context"
	"io"
	"log/slog"
	"math"
	"time"
)

// logFallback writes records as lines of text, not too many a second. It belongs to the
// sender of a Logger.
type logFallback struct {
	handler    slog.Handler
	rate       float64 // lines a second, and at a time
	tokens     float64
	at         time.Time // when tokens was right
	suppressed uint64    // lines that were not written, and of which nothing was written either
}

func (f *logFallback) init(w io.Writer, rate int) {
	f.handler = slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.Level(math.MinInt)})
	f.rate = float64(rate)
	f.tokens = f.rate
}

// write writes one record as the line of text that the service would have made of it, and
// reports whether there was room. An error of the writer has nobody to be told to.
func (f *logFallback) write(now time.Time, e logEntry, args []byte) bool {
	if !f.token(now) {
		f.suppressed++
		return false
	}
	source, message, attrs, err := decodeLog(args)
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	r := slog.NewRecord(e.at, e.level, message, 0)
	r.AddAttrs(slog.String("logger", source))
	r.AddAttrs(attrs...)
	_ = f.handler.Handle(context.Background(), r)
	return true
}

// token takes one of the tokens, which come at a steady rate; with the first of a new lot
// it says how many lines are missing.
func (f *logFallback) token(now time.Time) bool {
	if !f.at.IsZero() {
		f.tokens = min(f.tokens+now.Sub(f.at).Seconds()*f.rate, f.rate)
	}
	f.at = now
	if f.tokens < 1 {
		return false
	}
	f.tokens--
	f.finish(now)
	return true
}

// finish writes how many lines are missing.
func (f *logFallback) finish(now time.Time) {
	if f.suppressed > 0 {
		n := f.suppressed
		f.suppressed = 0
		f.line(now, "log records were left out: too many at a time", slog.Uint64("suppressed", n))
	}
}

// line writes a line about the Logger itself, of which there are few.
func (f *logFallback) line(now time.Time, message string, attrs ...slog.Attr) {
	r := slog.NewRecord(now, slog.LevelWarn, message, 0)
	r.AddAttrs(attrs...)
	_ = f.handler.Handle(context.Background(), r)
}
