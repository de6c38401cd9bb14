package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// appWire is a client of an application behind a runtime: a call of enqueue, then chunks.
var appWire = func() wire {
	w := cocaine(codec.V1, 2, 0) // 1 looks like a control session to nextV1
	w.open = func(dst []byte, session uint64) []byte {
		f := codec.Frame{Kind: codec.KindCall, Session: session, Args: codec.Args(event).Bytes()}
		return codec.AppendFrame(dst, codec.V1, &f)
	}
	return w
}()

// serveEngine is a whole runtime with one application, whose worker is the one that the
// relay has: a process of its own behind a unix socket.
func serveEngine(network, addr string) error {
	ctx := context.Background()
	if network != "tcp" {
		return fmt.Errorf("a runtime listens on tcp, not on %s", network)
	}
	app := engine.Source{Name: "bench", Command: []string{os.Args[0], "app"}}
	e, err := engine.New(engine.Config{Listen: addr, Apps: []engine.Source{app}, Logger: quiet})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- e.Run(ctx) }()
	select {
	case err := <-failed:
		return err
	case <-e.Ready():
	}
	c, err := service.Connect(ctx, service.Config{Locators: []string{e.Endpoint().String()}, Logger: quiet})
	if err != nil {
		return err
	}
	found, err := c.Locator().Resolve(ctx, app.Name)
	if err != nil {
		return err
	}
	ready(found.Endpoints[0].String())
	return <-failed
}

// appMain is the worker of serveEngine. It counts by session: those of all clients are on
// one connection. A workload of many sessions has more than an application takes at once.
func appMain(args []string) error {
	w, err := worker.New(worker.FromArgs(args))
	if err != nil {
		return err
	}
	w.HandleFunc(event, func(*worker.Session) session.Handler { return &handler{} })
	return w.Run(context.Background())
}

// dieWithParent has a child end when the process that started it does, however that is.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
