// Client is a program that uses services of a runtime: it stores a value and reads it
// back, has an application answer, and logs.
//
//	go run ./examples/client            # to the runtime at 127.0.0.1:10053
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

func main() {
	if err := run(os.Args[1:]); err != nil { // locators, host:port
		log.Fatal(err)
	}
}

func run(locators []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := service.Connect(ctx, service.Config{Locators: locators})
	if err != nil {
		return err
	}
	defer c.Close(ctx)

	// A call: one value back.
	storage := c.Service("storage")
	if _, err := storage.Call(ctx, "write", codec.Args("users", "alice", "42", []string{"admin"})); err != nil {
		return err
	}
	reply, err := storage.Call(ctx, "read", codec.Args("users", "alice"))
	if err != nil {
		return err
	}
	value := reply.Reader()
	fmt.Println("stored:", value.String())

	// A stream: any number of chunks both ways.
	s, err := c.Service("echo").Open(ctx, "enqueue", codec.Args("echo"))
	if err != nil {
		return err
	}
	if err := s.Send(ctx, []byte("hello")); err != nil {
		return err
	}
	chunk, err := s.Recv(ctx)
	if err != nil {
		return err
	}
	fmt.Println("echo:", string(chunk))
	if err := s.Close(); err != nil {
		return err
	}

	slog.New(c.LogHandler("app/client")).Info("done", "chunks", 1)
	return nil
}
