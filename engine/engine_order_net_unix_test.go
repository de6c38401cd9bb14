//go:build unix

package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

// Whoever finds the locator finds the stock services too: a client that comes back to an
// engine which starts again is not told that there is no storage.
func TestLocatorIsLast(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1))
	dir := filepath.Join(t.TempDir(), "state")
	for range 10 {
		e, err := engine.New(engine.Config{Listen: addr, Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		wantStorageAtOnce(t, addr)
		cancel()
		if err := <-ended; err != nil {
			t.Fatalf("Run() = %v, want nil", err)
		}
	}
}

// wantStorageAtOnce connects to a locator as soon as there is one.
func wantStorageAtOnce(t *testing.T, addr string) {
	t.Helper()
	var conn net.Conn
	var err error
	for begin := time.Now(); ; {
		if conn, err = net.Dial("tcp", addr); err == nil {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal(err)
		}
	}
	defer conn.Close()
	c := &caller{rawWorker: newRaw(conn, codec.V1), t: t}
	value := c.wantOK(0, "storage")
	if s, err := service.DecodeResolved(value); err != nil || s.Gone() {
		t.Errorf("resolve = %+v, %v, want where the storage is", s, err)
	}
}
