package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// silent is an Owner that wants to know nothing.
type silent struct{}

func (silent) OnOpen()                     {}
func (silent) OnInvoke(*session.Session)   {}
func (silent) OnHandshake([]byte)          {}
func (silent) OnHeartbeat()                {}
func (silent) OnTerminate(int64, []byte)   {}
func (silent) OnClose(*channel.CloseError) {}

// echoing is the Owner of a worker's end that serves every event in a goroutine.
type echoing struct{ silent }

func (echoing) OnInvoke(s *session.Session) {
	go func() {
		ctx := context.Background()
		for chunk, err := range s.Chunks(ctx) {
			if err != nil || s.Send(ctx, chunk) != nil {
				return // the session is over
			}
		}
		_ = s.Close()
	}()
}

// Both ends of a worker link, over a local pair: the engine's opens sessions by the name
// of an event, the worker's serves them.
func Example() {
	ctx := context.Background()
	ours, theirs := channel.Pair(channel.Script{})
	v1 := channel.Config{Dialect: codec.V1}
	worker, err := session.New(session.Config{Channel: v1, Role: session.Worker, Owner: echoing{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	engine, err := session.New(session.Config{Channel: v1, Role: session.Engine, Owner: silent{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = errors.Join(worker.Channel().Attach(theirs), engine.Channel().Attach(ours))
	if err == nil { // a worker's first frame is its handshake
		err = worker.Channel().SendOffLoop(ctx, &codec.Frame{Kind: codec.KindHandshake, Text: "uuid"})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := engine.OpenOffLoop(ctx, "echo", nil, nil) // without a Handler: Recv and Send
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Send(ctx, []byte("hello")), s.Close())
	for chunk, err := range s.Chunks(ctx) {
		fmt.Println(string(chunk), err)
	}
	_, err = s.Recv(ctx)
	fmt.Println(err == io.EOF, engine.Channel().Close(ctx))
	<-worker.Channel().Done()
	// Output:
	// <nil> <nil>
	// hello <nil>
	// true <nil>
}
