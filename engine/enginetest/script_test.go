package enginetest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine/enginetest"
	"github.com/sluice-rpc/sluice/worker"
)

// run starts a worker that echoes, and returns what its Run does.
func run(t *testing.T, d codec.Dialect, conn net.Conn) <-chan error {
	t.Helper()
	w, err := worker.New(worker.Config{UUID: "u", Dialect: d, Conn: conn})
	if err != nil {
		t.Fatal(err)
	}
	w.Handle("echo", func(ctx context.Context, s *worker.Session) error {
		for chunk, err := range s.Chunks(ctx) {
			if err != nil {
				return err
			}
			if _, err := s.Write(chunk); err != nil {
				return err
			}
		}
		return nil
	})
	end := make(chan error, 1)
	go func() { end <- w.Run(context.Background()) }()
	return end
}

// A worker and the scripted engine, from the handshake to the end.
func TestScript(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		synctest.Test(t, func(t *testing.T) {
			e := enginetest.New(t, d)
			end := run(t, d, e.Conn())
			e.ExpectHandshake("u")
			for want := uint64(1); want < 4; want++ {
				id := e.Invoke("echo", "hello")
				if first := map[codec.Dialect]uint64{codec.V0: 0, codec.V1: 1}[d]; id != want+first {
					t.Errorf("Invoke() = %d, want %d", id, want+first)
				}
				e.Expect(codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte("hello")})
				e.Expect(codec.Frame{Kind: codec.KindChoke, Session: id})
			}
			time.Sleep(time.Hour)
			if n := e.Beats(); n < 100 {
				t.Errorf("Beats() = %d after an hour, want that it went on", n)
			}
			e.Terminate(1, "bye")
			e.Expect(codec.Frame{Kind: codec.KindTerminate, Code: 1, Text: "bye"})
			e.Hangup()
			e.ExpectEnd()
			if err := <-end; err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
		})
	}
}

func TestMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.New(t, codec.V1)
		end := run(t, codec.V1, e.Conn())
		e.ExpectHandshake("u")
		e.Mute()
		if err := <-end; !errors.Is(err, worker.ErrDisowned) {
			t.Errorf("Run() = %v, want ErrDisowned", err)
		}
		e.ExpectEnd()
	})
}

func TestHangup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.New(t, codec.V1)
		end := run(t, codec.V1, e.Conn())
		e.ExpectHandshake("u")
		e.Hangup()
		if err := <-end; err == nil {
			t.Error("Run() = nil, want that the engine was lost")
		}
	})
}

// What a test does not read does not keep it from its end.
func TestUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.New(t, codec.V1)
		go func() {
			chunk := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: []byte("x")})
			for {
				if _, err := e.Conn().Write(chunk); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
	})
}

// failing keeps what a test under test reports.
type failing struct {
	testing.TB
	fatal string
}

func (f *failing) Helper()                   {}
func (f *failing) Cleanup(func())            {}
func (f *failing) Errorf(s string, a ...any) { f.Fatalf(s, a...) }
func (f *failing) Fatalf(s string, a ...any) {
	f.fatal = fmt.Sprintf(s, a...)
	runtime.Goexit()
}

// What the worker does wrong fails the test, and says what it was.
func TestFailures(t *testing.T) {
	beat := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindHeartbeat})
	choke := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindChoke, Session: 2})
	for name, c := range map[string]struct {
		sent []byte // the worker closes then, if it is not nil
		want string
	}{
		"another frame": {choke, `9402029090 {"session":2,`},
		"not minimal":   {append([]byte{0x94, 0xcc, 0x02}, choke[2:]...), `94cc02029090 {"session":2,`},
		"end":           {beat, "nothing, and closed"},
		"nothing":       {nil, "no frame of the worker within 1m0s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &failing{TB: t}
			e := enginetest.New(f, codec.V1)
			if c.sent != nil {
				if _, err := e.Conn().Write(c.sent); err != nil {
					t.Fatal(err)
				}
				_ = e.Conn().Close()
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				e.Expect(codec.Frame{Kind: codec.KindChoke, Session: 3})
			}()
			<-done
			_ = e.Conn().Close()
			if !strings.Contains(f.fatal, c.want) {
				t.Errorf("%s: the test says %q, want %q", name, f.fatal, c.want)
			}
		})
	}
}
