package service_test

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// A service of our own: a function of one argument, a method on the loop that checks its
// arguments itself, and a stream of values.
func ExampleServer() {
	shout := func(_ context.Context, text string) (string, error) { return strings.ToUpper(text), nil }
	length := func(c *service.Call) {
		r := c.Reader()
		if n := len(r.Bytes()); r.Err() != nil {
			c.BadArgs(r.Err())
		} else {
			_ = c.Reply(codec.Args(n)) // the client may be gone
		}
	}
	count := func(_ context.Context, c *service.Call) error {
		r := c.Reader()
		for n := r.Uint64(); n > 0; n-- {
			if err := c.SendValues(codec.Args(n, "to go")); err != nil {
				return err
			}
		}
		return nil // ends the stream
	}
	srv, err := service.NewServer(service.ServerConfig{Declaration: service.Declaration{
		Name: "text", Version: 1,
		Methods: []service.Handled{
			{
				Method: service.Method{ID: 0, Name: "shout", Rx: session.Primitive},
				Args:   []service.Arg{{Name: "text", Kind: service.StringArg}},
				Serve:  service.Typed(shout),
			}, {
				Method: service.Method{ID: 1, Name: "length", Rx: session.Primitive},
				OnLoop: length,
			}, {
				Method: service.Method{ID: 2, Name: "count", Rx: service.Values},
				Args:   []service.Arg{{Name: "from", Kind: service.UintArg}},
				Serve:  count,
			},
		},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := srv.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	locator, err := listenLocator(ctx, srv)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := useText(ctx, locator.Endpoints()[0].String()); err != nil {
		fmt.Println(err)
	}
	fmt.Println("closed:", srv.Close(ctx), locator.Close(ctx))
	// Output:
	// HELLO <nil>
	// 5 <nil>
	// 2 to go
	// 1 to go
	// closed: <nil> <nil>
}

// listenLocator serves a locator that knows one service.
func listenLocator(ctx context.Context, of *service.Server) (*service.Server, error) {
	locator, err := service.NewServer(service.ServerConfig{Declaration: service.Declaration{
		Name: "locator", Version: 3,
		Methods: []service.Handled{{
			Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive},
			Args:   []service.Arg{{Name: "name", Kind: service.StringArg}, {Name: "seed", Kind: service.StringArg, Optional: true}},
			OnLoop: func(c *service.Call) {
				r := c.Reader()
				if name := r.String(); name == of.Name() {
					_ = c.ReplyBytes(service.AppendResolved(nil, of.Resolved()))
				} else {
					_ = c.Fail(service.CategoryLocator, service.LocatorNotAvailable, "service is not available")
				}
			},
		}},
	}})
	if err != nil {
		return nil, err
	}
	return locator, locator.Listen(ctx, "tcp", "127.0.0.1:0")
}

// useText calls the methods of the service text.
func useText(ctx context.Context, locator string) error {
	client, err := service.Connect(ctx, service.Config{Locators: []string{locator}})
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	text, err := client.NewService(service.ServiceConfig{Name: "text", Values: []string{"count"}})
	if err != nil {
		return err
	}
	fmt.Println(service.Invoke[string](ctx, text, "shout", "hello"))
	fmt.Println(service.Invoke[int](ctx, text, "length", "hello"))
	stream, err := text.Open(ctx, "count", codec.Args(2))
	if err != nil {
		return err
	}
	for {
		_, args, err := stream.RecvArgs(ctx)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		r := codec.NewReader(args)
		fmt.Println(r.Uint64(), r.String())
	}
}
