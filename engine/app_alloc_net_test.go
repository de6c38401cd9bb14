//go:build unix

package engine_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

// BenchmarkAppCall is one call of a client through the App to a worker process and back.
func BenchmarkAppCall(b *testing.B) {
	l := newLiveApp(b, "echo", engine.AppConfig{Dialect: codec.V1, Profile: engine.Profile{HandshakeTimeout: time.Minute}})
	table := l.client(codec.V1)
	if err := echo(b.Context(), table, "warm"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := echo(b.Context(), table, "hello"); err != nil {
			b.Fatal(err)
		}
	}
}

// A call that finds a free slave starts no goroutine and costs the App few allocations:
// those of both ends of the client are counted too.
func TestAppCallCost(t *testing.T) {
	l := newLiveApp(t, "echo", engine.AppConfig{Dialect: codec.V1, Profile: engine.Profile{HandshakeTimeout: time.Minute}})
	table := l.client(codec.V1)
	call := func() {
		if err := echo(t.Context(), table, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	call()
	before := runtime.NumGoroutine()
	allocs := testing.AllocsPerRun(200, call)
	for begin := time.Now(); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) { // a timer may be at work
		if time.Since(begin) > time.Minute {
			t.Fatalf("%d goroutines after the calls, %d before", runtime.NumGoroutine(), before)
		}
	}
	t.Logf("%v allocations a call", allocs)
	if limit := 26.0; allocs > limit {
		t.Errorf("%v allocations a call, want at most %v", allocs, limit)
	}
}
