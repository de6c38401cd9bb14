package service_test

import (
	"fmt"
	"log/slog"
	"math"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

func TestSeverity(t *testing.T) {
	for _, row := range []struct {
		level  slog.Level
		v0, v1 int
		back   slog.Level
	}{
		{slog.LevelDebug, 4, 0, slog.LevelDebug},
		{slog.LevelInfo, 3, 1, slog.LevelInfo},
		{slog.LevelWarn, 2, 2, slog.LevelWarn},
		{slog.LevelError, 1, 3, slog.LevelError},
		{slog.LevelDebug - 4, 4, 0, slog.LevelDebug},
		{slog.LevelInfo - 1, 4, 0, slog.LevelDebug},
		{slog.LevelInfo + 2, 3, 1, slog.LevelInfo},
		{slog.LevelError - 1, 2, 2, slog.LevelWarn},
		{slog.LevelError + 4, 1, 3, slog.LevelError},
		{math.MinInt, 4, 0, slog.LevelDebug},
		{math.MaxInt, 1, 3, slog.LevelError},
	} {
		v0, v1 := service.Severity(codec.V0, row.level), service.Severity(codec.V1, row.level)
		if v0 != row.v0 || v1 != row.v1 {
			t.Errorf("Severity(%v) = %d, %d, want %d, %d", row.level, v0, v1, row.v0, row.v1)
		}
		if b0, b1 := service.Level(codec.V0, v0), service.Level(codec.V1, v1); b0 != row.back || b1 != row.back {
			t.Errorf("Level(Severity(%v)) = %v, %v, want %v", row.level, b0, b1, row.back)
		}
	}
	for _, odd := range []struct {
		d        codec.Dialect
		severity int
		want     slog.Level
	}{
		{codec.V0, 0, slog.LevelError}, {codec.V0, -5, slog.LevelError}, {codec.V0, math.MinInt, slog.LevelError}, {codec.V0, math.MaxInt, slog.LevelDebug},
		{codec.V1, 9, slog.LevelError}, {codec.V1, -1, slog.LevelDebug}, {codec.V1, math.MinInt, slog.LevelDebug}, {codec.V1, math.MaxInt, slog.LevelError},
	} {
		if got := service.Level(odd.d, odd.severity); got != odd.want {
			t.Errorf("Level(%v, %d) = %v, want %v", odd.d, odd.severity, got, odd.want)
		}
	}
}

// TestWanted names, for each verbosity that a service may have, which of slog's levels
// are worth sending.
func TestWanted(t *testing.T) {
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	for _, row := range []struct {
		d         codec.Dialect
		verbosity int
		want      string
	}{
		{codec.V0, 0, "[]"}, {codec.V0, 1, "[ERROR]"}, {codec.V0, 2, "[WARN ERROR]"}, {codec.V0, 3, "[INFO WARN ERROR]"},
		{codec.V0, 4, "[DEBUG INFO WARN ERROR]"}, {codec.V0, 5, "[DEBUG INFO WARN ERROR]"}, {codec.V0, -1, "[]"},
		{codec.V1, 0, "[DEBUG INFO WARN ERROR]"}, {codec.V1, 1, "[INFO WARN ERROR]"}, {codec.V1, 2, "[WARN ERROR]"},
		{codec.V1, 3, "[ERROR]"}, {codec.V1, 4, "[]"}, {codec.V1, -1, "[DEBUG INFO WARN ERROR]"},
	} {
		got := []slog.Level{}
		for _, l := range levels {
			if service.Wanted(row.d, service.Severity(row.d, l), row.verbosity) {
				got = append(got, l)
			}
		}
		if fmt.Sprint(got) != row.want {
			t.Errorf("%v: at verbosity %d %v are wanted, want %s", row.d, row.verbosity, got, row.want)
		}
	}
}
