// Package service finds services by name, calls them, and serves them.
//
//	c, err := service.Connect(ctx, service.Config{Locators: []string{"127.0.0.1:10053"}})
//	if err != nil { … }
//	defer c.Close(ctx)
//	reply, err := c.Service("storage").Call(ctx, "read", codec.Args("users", "alice"))
//
//	s, err := service.NewServer(service.ServerConfig{Declaration: service.Declaration{
//		Name: "text", Version: 1,
//		Methods: []service.Handled{{
//			Method: service.Method{ID: 0, Name: "shout", Rx: session.Primitive},
//			Serve:  service.Typed(func(ctx context.Context, text string) (string, error) { … }),
//		}},
//	}})
//	if err != nil { … }
//	err = s.Listen(ctx, "tcp", "127.0.0.1:0")
//	defer s.Close(ctx)
//
// A [Client] resolves names by its [Locator] and calls a [Service]; a [Server] serves what
// a [Declaration] says. A [Logger], or the slog.Handler that is made of it, sends records
// to the logging service; a [Balancer] chooses among several instances; a [Trace] ties the
// calls of one request together.
//
// Below them are values and algorithms of the locator and the stock services, without
// I/O, goroutines or clocks:
//
//   - [API] is the description of a service: its methods, and for each the messages
//     that caller and service may send. v1 writes it as a tree of dispatch graphs, v0
//     as a list of names.
//   - [Endpoint] and [Resolved] are where a service is and what it is; [Update] and
//     [Ring] are what a locator tells of other nodes and of routing groups.
//   - The categories and codes are what errors of the runtimes mean.
//   - [Backoff], [Severity] and [Wanted] are rules for reconnecting and for logging.
//
// # Bytes
//
// What a Decode function is given is borrowed: it copies what it keeps. It is bounded
// by the Max constants, and believes no declared size before it has held it against them
// and against the bytes that are there. Surplus items behind those that the protocol has
// are skipped. An Append function appends to a byte slice and returns it; it writes what
// the C++ runtimes write, maps in the order of their keys.
package service
