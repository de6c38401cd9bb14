package worker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// exampleEngine stands where an engine would: it listens, gives the flags that a worker
// is started with, and invokes events.
type exampleEngine struct {
	dir      string
	listener net.Listener
	table    *session.Table
	shaken   chan struct{}
}

func startEngine() *exampleEngine {
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "app"))
	if err != nil {
		panic(err)
	}
	e := &exampleEngine{dir: dir, listener: l, shaken: make(chan struct{})}
	cfg := session.Config{Role: session.Engine, Owner: e, Channel: channel.Config{Dialect: codec.V1}}
	if e.table, err = session.New(cfg); err != nil {
		panic(err)
	}
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = e.table.Channel().Attach(conn)
		}
	}()
	return e
}

func (e *exampleEngine) args() []string {
	return []string{"--app", "demo", "--endpoint", e.listener.Addr().String(), "--protocol", "1", "--uuid", "one"}
}

// invoke prints what an event answers to the chunks.
func (e *exampleEngine) invoke(event string, chunks ...string) {
	<-e.shaken
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := e.table.OpenOffLoop(ctx, event, nil, nil)
	if err != nil {
		panic(err)
	}
	for _, c := range chunks {
		_ = s.Send(ctx, []byte(c))
	}
	_ = s.Close()
	for {
		p, err := s.Recv(ctx)
		if err == io.EOF {
			return
		}
		if err != nil {
			fmt.Printf("%s: %v\n", event, err)
			return
		}
		fmt.Printf("%s: %s\n", event, p)
	}
}

// terminate ends the worker as an engine that has no more to do.
func (e *exampleEngine) terminate() {
	_ = e.table.Channel().SendOffLoop(context.Background(), &codec.Frame{Kind: codec.KindTerminate, Code: 1, Text: "done"})
}

func (e *exampleEngine) OnOpen()                   {}
func (e *exampleEngine) OnInvoke(*session.Session) {}
func (e *exampleEngine) OnHandshake([]byte)        { close(e.shaken) }
func (e *exampleEngine) OnHeartbeat()              { _ = e.table.Channel().SendHeartbeat() }
func (e *exampleEngine) OnTerminate(int64, []byte) {
	e.table.Channel().Fail(&channel.CloseError{Code: channel.CodeTerminated})
}

func (e *exampleEngine) OnClose(*channel.CloseError) {
	_ = e.listener.Close()
	_ = os.RemoveAll(e.dir)
}

// A worker, whole: one event in a goroutine, one on the loop.
func Example() {
	engine := startEngine()
	w, err := worker.New(worker.FromArgs(engine.args())) // os.Args[1:] in a program
	if err != nil {
		fmt.Println(err)
		return
	}
	// In a goroutine: it may block.
	w.Handle("echo", func(ctx context.Context, s *worker.Session) error {
		for chunk, err := range s.Chunks(ctx) {
			if err != nil {
				return err
			}
			if _, err := s.Write(chunk); err != nil {
				return err
			}
		}
		return nil // the end of our stream; an error would be sent as one
	})
	// On the loop: no goroutine, no copy, and no blocking.
	w.HandleFunc("ping", func(s *worker.Session) session.Handler {
		_ = s.SendChunk([]byte("pong"))
		_ = s.SendChoke()
		return nil
	})
	go func() {
		engine.invoke("echo", "hello", "world")
		engine.invoke("ping")
		engine.invoke("other")
		engine.terminate()
	}()
	fmt.Println("Run:", w.Run(context.Background()))
	// Output:
	// echo: hello
	// echo: world
	// ping: pong
	// other: session: remote error [42, 200]: there is no handler for the event "other"
	// Run: <nil>
}

// What a handler returns ends its stream: an error reaches the caller with its code.
func ExampleErrorf() {
	engine := startEngine()
	cfg := worker.FromArgs(engine.args())
	cfg.Logger = slog.New(slog.DiscardHandler)
	w, err := worker.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	w.Handle("find", func(context.Context, *worker.Session) error {
		return worker.Errorf(404, "no such thing")
	})
	w.Handle("crash", func(context.Context, *worker.Session) error {
		panic("a bug")
	})
	go func() {
		engine.invoke("find")
		engine.invoke("crash") // the worker lives, and logs the stack
		engine.terminate()
	}()
	fmt.Println("Run:", w.Run(context.Background()))
	// Output:
	// find: session: remote error [42, 404]: no such thing
	// crash: session: remote error [42, 100]: the handler of "crash" panicked: a bug
	// Run: <nil>
}

// Middleware wraps every handler in a goroutine, the fallback too.
func ExampleWorker_Use() {
	engine := startEngine()
	w, err := worker.New(worker.FromArgs(engine.args()))
	if err != nil {
		fmt.Println(err)
		return
	}
	w.Use(func(next worker.Handler) worker.Handler {
		return func(ctx context.Context, s *worker.Session) error {
			_, _ = s.Write([]byte("before"))
			return next(ctx, s)
		}
	})
	w.Fallback(func(ctx context.Context, s *worker.Session) error {
		_, err := s.Write([]byte("what is " + s.Event() + "?"))
		return err
	})
	go func() {
		engine.invoke("anything")
		engine.terminate()
	}()
	fmt.Println("Run:", w.Run(context.Background()))
	// Output:
	// anything: before
	// anything: what is anything?
	// Run: <nil>
}

// tail is a handler on the loop that keeps what it was sent until the stream ends.
type tail struct{ last []byte }

func (t *tail) OnChunk(_ *worker.Session, p []byte) { t.last = append(t.last[:0], p...) } // p is borrowed
func (t *tail) OnChoke(s *worker.Session) {
	_ = s.SendChunk(t.last)
	_ = s.SendChoke()
}
func (t *tail) OnError(*worker.Session, *session.Error) {} // our direction is ended for us

// A handler on the loop that takes a stream.
func ExampleWorker_HandleFunc() {
	engine := startEngine()
	w, err := worker.New(worker.FromArgs(engine.args()))
	if err != nil {
		fmt.Println(err)
		return
	}
	w.HandleFunc("last", func(*worker.Session) session.Handler { return new(tail) })
	go func() {
		engine.invoke("last", "one", "two", "three")
		engine.terminate()
	}()
	fmt.Println("Run:", w.Run(context.Background()))
	// Output:
	// last: three
	// Run: <nil>
}

func ExampleFromArgs() {
	cfg := worker.FromArgs([]string{"--app", "echo", "--endpoint=/run/cocaine/echo.7", "--locator", "10053", "--protocol", "1", "--uuid", "u-1"})
	fmt.Println(cfg.App, cfg.Endpoint, cfg.Locators, cfg.Dialect, cfg.UUID, cfg.Token)
	// Output: echo /run/cocaine/echo.7 [localhost:10053] v1 u-1 none
}
