package service_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// Storage is a service with methods of one's own: a struct around a Service.
type Storage struct{ *service.Service }

// Read returns what lies under a key.
func (s Storage) Read(ctx context.Context, collection, key string) ([]byte, error) {
	return service.InvokeArgs[[]byte](ctx, s.Service, "read", codec.Args(collection, key))
}

// Write puts data under a key, for find with those tags.
func (s Storage) Write(ctx context.Context, collection, key string, data []byte, tags ...string) error {
	_, err := service.InvokeArgs[service.None](ctx, s.Service, "write", codec.Args(collection, key, data, tags))
	return err
}

// Customised methods: a struct whose methods call Invoke or InvokeArgs.
func Example_customMethods() {
	ctx := context.Background()
	client, stop := exampleCloud(ctx)
	defer stop()
	storage := Storage{client.Service("storage")}
	if err := storage.Write(ctx, "users", "alice", []byte("42")); err != nil {
		log.Fatal(err)
	}
	data, err := storage.Read(ctx, "users", "alice")
	fmt.Printf("%s %v\n", data, err)
	_, err = storage.Read(ctx, "users", "bob")
	fmt.Println(service.Is(err, service.CategoryGeneric, 2))
	_, err = storage.Call(ctx, "reed", codec.Args("users", "bob"))
	fmt.Println(err)
	// Output:
	// 42 <nil>
	// true
	// service "storage" has no method "reed"; there are: read, write
}

// A typed call of a method with one argument and one result.
func ExampleInvoke() {
	ctx := context.Background()
	client, stop := exampleCloud(ctx)
	defer stop()
	length, err := service.Invoke[int](ctx, client.Service("length"), "of", "four")
	fmt.Println(length, err)
	// Output: 4 <nil>
}

// exampleCloud is a client of a locator, a storage and another service, all in this
// process.
func exampleCloud(ctx context.Context) (client *service.Client, stop func()) {
	kept := map[string][]byte{} // owned by the one connection's loop
	storage := service.Declaration{Name: "storage", Version: 1, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "read", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			r := c.Reader()
			if data, ok := kept[r.String()+"/"+r.String()]; ok {
				_ = c.Reply(codec.Args(data))
				return
			}
			_ = c.Fail(service.CategoryGeneric, 2, "no such key")
		}},
		{Method: service.Method{ID: 1, Name: "write", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			r := c.Reader()
			kept[r.String()+"/"+r.String()] = append([]byte(nil), r.Bytes()...)
			_ = c.Reply(codec.Arguments{})
		}},
	}}
	length := service.Declaration{Name: "length", Version: 1, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "of", Rx: session.Primitive},
			Serve: service.Typed(func(_ context.Context, s string) (int, error) { return len(s), nil })},
	}}
	servers := map[string]*service.Server{}
	for _, d := range []service.Declaration{storage, length} {
		srv, err := service.NewServer(service.ServerConfig{Declaration: d})
		if err != nil {
			log.Fatal(err)
		}
		servers[d.Name] = srv
	}
	locator, err := service.NewServer(service.ServerConfig{Declaration: service.Declaration{Name: "locator", Version: 3, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			r := c.Reader()
			name := r.String()
			_ = c.ReplyBytes(service.AppendResolved(nil, service.Resolved{
				Endpoints: []service.Endpoint{{Host: name, Port: 1}}, Version: 1, API: servers[name].API(),
			}))
		}},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	servers["locator"] = locator
	client, err = service.Connect(ctx, service.Config{
		Locators: []string{"locator:1"},
		Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			ours, theirs := channel.Pair(channel.Script{})
			return ours, servers[host].Attach(theirs)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close(ctx)
		for _, srv := range servers {
			_ = srv.Close(ctx)
		}
	}
}
