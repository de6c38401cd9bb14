package service_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// A service of our own: a function of one argument, a method on the loop that checks its
// arguments itself, and a stream of values.
func ExampleServer() {
	shout := func(_ context.Context, text string) (string, error) { return strings.ToUpper(text), nil }
	count := func(ctx context.Context, c *service.Call) error {
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
			},
			{
				Method: service.Method{ID: 1, Name: "length", Rx: session.Primitive},
				OnLoop: func(c *service.Call) {
					r := c.Reader()
					if n := len(r.Bytes()); r.Err() != nil {
						c.BadArgs(r.Err())
					} else {
						_ = c.Reply(codec.Args(n))
					}
				},
			},
			{
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
	ours, theirs := channel.Pair(channel.Script{}) // or srv.Listen(ctx, "tcp", ":10054")
	if err := srv.Attach(theirs); err != nil {
		fmt.Println(err)
		return
	}
	var frames []byte
	for i, args := range []codec.Arguments{codec.Args("hello"), codec.Args("hello"), codec.Args(2)} {
		frames = codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindCall, Session: uint64(i + 1), Type: uint64(i), Args: args.Bytes()})
		_, _ = ours.Write(frames)
		answer := make([]byte, 100)
		for range 1 + i/2*2 {
			n, _ := ours.Read(answer)
			fmt.Printf("%q\n", answer[:n])
			if i == 2 && strings.Contains(string(answer[:n]), "\x94\x03\x02") {
				break
			}
		}
	}
	_ = ours.Close()
	fmt.Println(srv.Close(context.Background()))
	// Output:
	// x
}
