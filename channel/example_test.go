package channel_test

import (
	"context"
	"fmt"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// echo sends back what comes.
type echo struct{ c *channel.Channel }

func (e *echo) OnOpen(c *channel.Channel)   { e.c = c }
func (e *echo) OnWritable()                 {}
func (e *echo) OnClose(*channel.CloseError) {}
func (e *echo) OnMessage(m *codec.Message, _ []codec.Header) {
	_ = e.c.Send(&codec.Frame{Kind: codec.KindChunk, Session: m.Session, Payload: m.Payload}) // copied
}

// caller tells what comes; its callbacks run on the loop.
type caller struct{ answers chan string }

func (c *caller) OnOpen(*channel.Channel)     {}
func (c *caller) OnWritable()                 {}
func (c *caller) OnClose(*channel.CloseError) {}
func (c *caller) OnMessage(m *codec.Message, _ []codec.Header) {
	c.answers <- string(m.Payload) // what was borrowed is copied
}

// Two channels over a local pair. A socket is given to Attach likewise, or dialled by
// Connect.
func Example() {
	ctx := context.Background()
	ours, theirs := channel.Pair(channel.Script{})

	server, err := channel.New(channel.Config{Dialect: codec.V1}, &echo{})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &caller{answers: make(chan string, 1)}
	c, err := channel.New(channel.Config{Dialect: codec.V1}, client)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, err := range []error{server.Attach(theirs), c.Attach(ours)} {
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	// This is no callback, so it is not on the loop: OffLoop.
	err = c.SendOffLoop(ctx, &codec.Frame{Kind: codec.KindChunk, Session: 1, Payload: []byte("hello")})
	fmt.Println(<-client.answers, err)
	fmt.Println(c.Close(ctx))
	<-server.Done()
	fmt.Println(server.Err().Code)
	// Output:
	// hello <nil>
	// <nil>
	// eof
}
