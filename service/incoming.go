package service

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Call is one call of a method by a client.
//
// In a Serve method its methods may be used by any goroutine but the loop, and wait for
// room in the output. In an OnLoop method they are for the loop: there, in what OnMessage,
// OnEnd and OnWritable were given, or in what was posted to the channel; they never wait.
// [Call.OffLoop] moves a call of an OnLoop method over to other goroutines.
//
// Every call is answered. If a Serve method fails, the client gets the category and code
// of the *session.Error that the error wraps; closes the connection, or in v0 gets an
// error, for ErrBadArgs; and gets the dispatch category's "uncaught error" with the
// error's text for anything else, v0's "invocation error" in v0 (protocol: dispatch
// graphs; services in v0). A panic is an uncaught error too, and is logged.
type Call struct {
	// immutable
	k *Callee
	m *method
	s *session.Session

	args   []byte // see Args
	onLoop bool   // the methods are for the loop; see OffLoop
	kept   bool   // in k.calls when it was called

	// owned by the loop
	onMessage  func(name string, p []byte)
	onWritable func()
	onEnd      []func()
	waiting    []byte         // v0: the result, until there is room for it
	expiry     *channel.Timer // of an OnLoop call with a deadline; nil without one

	answered atomic.Bool // our last message was accepted, or none can be
	tallied  atomic.Bool // Server.Close waits for it to be answered

	mu   sync.Mutex // guards the following
	over bool
	done chan struct{} // made when asked for
}

// Method returns what was called.
func (c *Call) Method() Method { return c.m.Method }

// Args returns the argument array of the call. In OnLoop it is borrowed: dead when that
// returns, so clone what is kept. In Serve the call owns it until Serve returns.
func (c *Call) Args() []byte { return c.args }

// Reader returns a Reader at the first argument.
func (c *Call) Reader() codec.Reader { return codec.NewReader(c.args) }

// Headers returns the headers of the call; it owns them.
func (c *Call) Headers() []codec.Header { return c.s.Headers() }

// Dialect returns what the client speaks.
func (c *Call) Dialect() codec.Dialect { return c.k.dialect }

// Session returns the session of the call. A method whose answer is a stream of bytes
// writes it there. An OnLoop method may take it over by a handler of its own, or forward
// it; then the call's OnMessage and OnWritable are told nothing, its OnEnd still is.
func (c *Call) Session() *session.Session { return c.s }

// Table returns the table of the client's channel, for calls back to the client: see
// session.Table.Call.
func (c *Call) Table() *session.Table { return c.k.table }

// Peer returns the client's address, nil if the channel has none.
func (c *Call) Peer() net.Addr { return c.k.peer }

// OffLoop moves the call of an OnLoop method over to other goroutines; from then on the
// loop must not use its methods. To be called on the loop; it returns c.
func (c *Call) OffLoop() *Call {
	c.onLoop = false
	return c
}

// Reply answers a method whose answer is one value, with any number of results: in v1 the
// value, in v0 a chunk with the result, or with the array of several, and the choke. The
// error is that of args, session.ErrClosed behind an answer, session.ErrGraph if the
// method answers no value, or an *session.Error if the client is gone.
func (c *Call) Reply(args codec.Arguments) error {
	if err := args.Err(); err != nil {
		return err
	}
	return c.ReplyBytes(args.Bytes())
}

// ReplyBytes is Reply with an encoded argument array, which is copied; an empty slice is
// the empty array.
func (c *Call) ReplyBytes(args []byte) error {
	if c.m.value == nil {
		return session.ErrGraph
	}
	return c.ended(c.reply(c.s.Context(), args))
}

// SendMessage sends one message of what the method answers (Rx), by its name. In v0, where
// every answer is a stream, data is a chunk and an end is a choke. On the loop it returns
// channel.ErrFull when the output is full: nothing was taken, and OnWritable is told when
// there is room. Off the loop it waits for room until the client is cut.
func (c *Call) SendMessage(name string, args codec.Arguments) error {
	return c.Send(c.s.Context(), name, args)
}

// Send is SendMessage that waits until ctx ends; on the loop ctx is not used.
func (c *Call) Send(ctx context.Context, name string, args codec.Arguments) error {
	if err := args.Err(); err != nil {
		return err
	}
	slot, ok := c.m.answers[name]
	if !ok {
		return session.ErrGraph
	}
	return c.sent(slot, c.send(ctx, slot, args.Bytes()))
}

// SendValues sends one message of a stream of values (see [Values]), or of whatever data
// the answer begins with.
func (c *Call) SendValues(args codec.Arguments) error {
	if err := args.Err(); err != nil {
		return err
	}
	if c.m.data == nil {
		return session.ErrGraph
	}
	return c.send(c.s.Context(), c.m.data, args.Bytes())
}

// Close ends the answer's stream. It is no error if it had ended.
func (c *Call) Close() error {
	var err error
	if c.onLoop {
		err = c.s.SendChoke()
	} else {
		err = c.s.Close()
	}
	if err == session.ErrClosed {
		err = nil
	}
	return c.ended(err)
}

// Fail answers with an error. v0 carries no category.
func (c *Call) Fail(category, code int64, message string) error {
	if !c.answered.Load() {
		c.m.failed.Add(1)
	}
	if c.onLoop {
		return c.ended(c.s.SendError(category, code, message))
	}
	return c.ended(c.s.Fail(category, code, message))
}

// BadArgs answers a call whose arguments make no sense: in v1 it closes the client's
// connection, as the C++ runtime does, in v0 it answers with an error (protocol: wrong
// input). Behind an answer it does nothing.
func (c *Call) BadArgs(err error) {
	if c.answered.Load() {
		return
	}
	c.k.server.counts.badArgs.Add(1)
	if c.k.dialect == codec.V0 {
		text := err.Error()
		if bad := (*argsError)(nil); errors.As(err, &bad) {
			text = bad.text // as the 0.11 runtime has it
		}
		_ = c.Fail(CategoryV0, V0Invocation, text)
		return
	}
	c.m.failed.Add(1)
	c.answered.Store(true)
	ch, reason := c.k.table.Channel(), c.m.Name+": "+err.Error()
	cut := func() { ch.Fail(&channel.CloseError{Code: channel.CodeBadFrame, Reason: reason, Remote: true}) }
	if c.onLoop {
		cut()
	} else {
		ch.Post(cut)
	}
}

// Recv waits for the next message that the client sends behind the call: its name, and
// the data of a chunk or the argument array of a message with values. It is lent: dead at
// the next Recv. The error is io.EOF when the client has ended its direction, a
// *session.Error if the call was cut, or the cause of ctx. For Serve methods, one
// goroutine at a time.
func (c *Call) Recv(ctx context.Context) (name string, p []byte, err error) {
	slot, p, err := c.s.RecvMessage(ctx)
	switch {
	case err != nil:
		return "", nil, err
	case slot != nil:
		return slot.Name, p, nil
	}
	return c.m.message, p, nil
}

// OnMessage has f called for each message that the client sends behind the call: its
// name, and the data of a chunk or the argument array of a message with values, which is
// borrowed. To be called in OnLoop.
func (c *Call) OnMessage(f func(name string, p []byte)) { c.onMessage = f }

// OnWritable has f called when there is room again after channel.ErrFull. To be called in
// OnLoop.
func (c *Call) OnWritable(f func()) { c.onWritable = f }

// OnEnd has f called on the loop, once, when the call is over: both directions have
// ended, the client cut the call, went, or was cut, or the deadline has passed. Several are called in order. To be
// called on the loop; if the call is over, f is called at once.
func (c *Call) OnEnd(f func()) {
	c.mu.Lock()
	over := c.over
	c.mu.Unlock()
	if over {
		f()
		return
	}
	c.onEnd = append(c.onEnd, f)
}

// Done returns a channel that is closed when the call is over; see OnEnd. Any goroutine.
func (c *Call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.over {
			close(c.done)
		}
	}
	return c.done
}
