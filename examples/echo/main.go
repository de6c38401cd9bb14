// Echo is a worker with one event for each thing that a worker does:
//
//	echo    every chunk back, until the caller chokes
//	ping    answers pong, on the loop
//	fail    answers with error 7
//	panic   panics; the caller gets an error, the worker lives
//	sleep   the first chunk is a duration; answers it when it has passed
//	http    a net/http handler: the body of the answer is "hello, METHOD URI"; if the
//	        request has a body, that comes on the next line, as it is
//
// An engine starts it. To try it:
//
//	go run ./cmd/sluice invoke --worker 'go run ./examples/echo' echo hello
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluice-rpc/sluice/gateway"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

const howTo = `echo is a worker: an engine starts it, with the flags that say where the engine is.
To try it, from the root of the checkout:

	go run ./cmd/sluice invoke --worker 'go run ./examples/echo' echo hello
`

func main() { os.Exit(run()) }

func run() (exit int) {
	w, err := worker.New(worker.FromArgs(os.Args[1:]))
	if errors.Is(err, worker.ErrNoEndpoint) {
		fmt.Fprint(os.Stderr, howTo)
		return 2
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	w.Handle("echo", echo)
	w.HandleFunc("ping", ping)
	w.Handle("fail", fail)
	w.Handle("panic", func(context.Context, *worker.Session) error { panic("told to panic") })
	w.Handle("sleep", sleep)
	w.Handle("http", gateway.Handler(http.HandlerFunc(hello)))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := w.Run(ctx); err != nil {
		slog.Error("the worker ended", "err", err)
		return 1
	}
	return 0
}

// echo may block: it has a goroutine of its own.
func echo(ctx context.Context, s *worker.Session) error {
	for chunk, err := range s.Chunks(ctx) {
		if err != nil {
			return err
		}
		if _, err := s.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// ping must not block: it runs on the loop. It wants nothing of what the caller sends.
func ping(s *worker.Session) session.Handler {
	_ = s.SendChunk([]byte("pong")) // or the channel is over, and so is the session
	_ = s.SendChoke()
	return nil
}

func fail(context.Context, *worker.Session) error {
	return worker.Errorf(7, "told to fail")
}

func sleep(ctx context.Context, s *worker.Session) error {
	text, err := s.Recv(ctx)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return worker.Errorf(1, "the first chunk should be a duration: %v", err)
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	_, err = s.Write([]byte(d.String()))
	return err
}

// hello is as it would be behind net/http's own server.
func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "hello, %s %s", r.Method, r.RequestURI)
	body := bufio.NewReader(r.Body)
	if _, err := body.Peek(1); err == nil {
		fmt.Fprintln(w)
	}
	_, _ = io.Copy(w, body) // an error of the client, who is gone then
}
