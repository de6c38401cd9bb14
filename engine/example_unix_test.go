//go:build unix

package engine_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

// A whole node in this process, and a client of it.
func ExampleEngine() {
	e, err := engine.New(engine.Config{
		Listen: "127.0.0.1:0", // without it, 127.0.0.1:10053
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	<-e.Ready()

	c, err := service.Connect(ctx, service.Config{Locators: []string{e.Endpoint().String()}})
	if err != nil {
		panic(err)
	}
	storage := c.Service("storage")
	if _, err := storage.Call(ctx, "write", codec.Args("users", "alice", "hello")); err != nil {
		panic(err)
	}
	reply, err := storage.Call(ctx, "read", codec.Args("users", "alice"))
	if err != nil {
		panic(err)
	}
	r := reply.Reader()
	fmt.Println(r.String())
	if err := c.Close(ctx); err != nil {
		panic(err)
	}
	stop()
	fmt.Println(<-ended)
	// Output:
	// hello
	// <nil>
}
