package chaos

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

// stormClients come back at the same time.
const stormClients = 200

// dials counts connections that were tried, by tenths of a second.
type dials struct {
	mu    sync.Mutex // guards the following
	begin time.Time
	count map[int]int
}

// dial is for service.Config.
func (d *dials) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	d.count[int(time.Since(d.begin)/(100*time.Millisecond))]++
	d.mu.Unlock()
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, addr)
}

// reset begins to count anew.
func (d *dials) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin, d.count = time.Now(), make(map[int]int)
}

// sums returns how many there were, in the first second, and the most in a tenth of a
// second of that and in any second.
func (d *dials) sums() (all, first, tenth, second int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	seconds := make(map[int]int)
	for at, n := range d.count {
		all += n
		seconds[at/10] += n
		second = max(second, seconds[at/10])
		if at < 10 {
			first += n
			tenth = max(tenth, n)
		}
	}
	return all, first, tenth, second
}

// TestStorm has many clients with live services lose their runtime at the same moment.
// They come back by themselves, and how their tries are spread is logged. How long the runtime is away is
// -down; the whole is
//
//	go test ./bench/chaos -run Storm -down 60s -most 0 -timeout 30m -v
func TestStorm(t *testing.T) {
	c := newCloud(t, filepath.Join(t.TempDir(), "state"), false)
	before := measure()
	defer c.kill()
	c.start()
	c.await()
	fresh := c.look()
	loops, err := channel.NewLoops(channel.LoopsConfig{N: 1})
	if err != nil {
		t.Fatal(err)
	}
	d := &dials{}
	d.reset()
	var clients []*service.Client
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, client := range clients {
			_ = client.Close(ctx)
		}
		_ = loops.Close(ctx)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience+*downFlag)
	defer cancel()
	for range stormClients {
		client, err := service.Connect(ctx, service.Config{
			Locators: []string{c.addr}, Loops: loops, Dial: d.dial, Backoff: service.Backoff{Max: *mostFlag}, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatalf("Connect() = %v", err)
		}
		clients = append(clients, client)
		for _, name := range []string{"storage", "echo"} {
			if err := client.Service(name).Connect(ctx); err != nil {
				t.Fatalf("Connect() = %v", err)
			}
		}
	}
	d.reset()
	c.kill()
	away := time.NewTimer(*downFlag)
	defer away.Stop()
	<-away.C
	c.start()
	begin := time.Now()
	c.await()
	ready := time.Since(begin)
	waitBack(t, clients)
	took := time.Since(begin)
	all, first, tenth, second := d.sums()
	t.Logf("%d clients of 2 services: away for %v, ready after %v, all back after %v; %d dials, %d in the first second, at most %d in a tenth of it, at most %d in any second",
		stormClients, *downFlag, ready, took, all, first, tenth, second)
	wantServed(ctx, t, clients)
	for _, client := range clients {
		if err := client.Close(ctx); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
	}
	if err := loops.Close(ctx); err != nil {
		t.Errorf("Close() = %v, want nil", err)
	}
	(&storm{t: t, cloud: c}).wantQuiet(fresh)
	c.stop()
	c.wantNoneLeft()
	wantBack(t, before)
}

// waitBack waits until every client and every service of it is connected. It makes no
// call, which would have them connect.
func waitBack(t *testing.T, clients []*service.Client) {
	t.Helper()
	var away string
	if !eventually(2*patience, func() bool {
		for i, c := range clients {
			if state := c.Locator().State(); state != service.Connected {
				away = fmt.Sprintf("client %d: the locator is %v", i, state)
				return false
			}
			for _, name := range []string{"storage", "echo"} {
				if s := c.Service(name); s.State() != service.Connected {
					away = fmt.Sprintf("client %d: %s is %v, stage %v", i, name, s.State(), s.Stage())
					return false
				}
			}
		}
		return true
	}) {
		t.Errorf("not all clients are back: %s", away)
	}
}

// wantServed makes a call to each service of each client.
func wantServed(ctx context.Context, t *testing.T, clients []*service.Client) {
	t.Helper()
	for i, c := range clients {
		if _, err := c.Service("storage").Call(ctx, "find", codec.Args(collection, []string{"chaos"})); err != nil {
			t.Errorf("client %d: find: %v", i, err)
		}
		stream, err := c.Service("echo").Open(ctx, "enqueue", codec.Args("echo"))
		if err != nil {
			t.Errorf("client %d: enqueue: %v", i, err)
			continue
		}
		if err := stream.Close(); err != nil {
			t.Errorf("client %d: Close() = %v", i, err)
		}
		if _, err := stream.Recv(ctx); err != io.EOF {
			t.Errorf("client %d: Recv() = %v, want io.EOF", i, err)
		}
		stream.Discard()
	}
}
