package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	w.loose = true
	w.open = func(dst []byte, session uint64) []byte {
		f := codec.Frame{Kind: codec.KindCall, Session: session, Args: codec.Args(event).Bytes()}
		return codec.AppendFrame(dst, codec.V1, &f)
	}
	return w
}()

// serveEngine is a whole runtime with one application, whose worker is the one that the
// relay has: a process of its own behind a unix socket. With chain the CPU of the worker
// counts too. ext are the extensions between the two.
func serveEngine(chain bool, ext session.Extensions) func(network, addr string) error {
	return func(network, addr string) error {
		if network != "tcp" {
			return fmt.Errorf("a runtime listens on tcp, not on %s", network)
		}
		ctx := context.Background()
		command := []string{os.Args[0], "app"}
		if ext.NoCredit { // a worker that has offered counts its chunks until it is answered
			command = append(command, plainFlag)
		}
		app := engine.Source{Name: "bench", Command: command, Profile: "bench"}
		e, err := engine.New(engine.Config{
			Listen: addr, Apps: []engine.Source{app}, Logger: quiet, Sessions: session.Config{Extensions: ext},
			Profiles: map[string]engine.Profile{"bench": {Concurrency: 1000, PoolLimit: 1}},
		})
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
		found, err := warmUp(ctx, e.Endpoint().String(), app.Name)
		if err != nil {
			return err
		}
		if chain {
			found += " " + strings.Join(children(), " ")
		}
		ready(found)
		return <-failed
	}
}

// warmUp has the application's worker started, and returns where the application is.
func warmUp(ctx context.Context, locator, app string) (addr string, err error) {
	c, err := service.Connect(ctx, service.Config{Locators: []string{locator}, Logger: quiet})
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	s, err := c.Service(app).Open(ctx, "enqueue", codec.Args(event))
	if err != nil {
		return "", err
	}
	if err := s.Send(ctx, []byte{markEcho}); err != nil {
		return "", err
	}
	if _, err := s.Recv(ctx); err != nil {
		return "", err
	}
	found, err := c.Locator().Resolve(ctx, app)
	if err != nil {
		return "", err
	}
	return found.Endpoints[0].String(), s.Close()
}

// children lists the processes that this one has started.
func children() (pids []string) {
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

// plainFlag has the worker offer nothing.
const plainFlag = "--plain"

// appMain is the worker of serveEngine. All clients come on one connection, so it counts
// for all of them.
func appMain(args []string) error {
	cfg := worker.FromArgs(args)
	if slices.Contains(args, plainFlag) {
		cfg.Sessions.Extensions.Offer = false
	}
	w, err := worker.New(cfg)
	if err != nil {
		return err
	}
	h := &handler{}
	w.HandleFunc(event, func(*worker.Session) session.Handler { return h })
	return w.Run(context.Background())
}

// dieWithParent has a child end when the process that started it does, however that is.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
