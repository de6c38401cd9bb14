// Package channel moves frames between two peers over one ordered byte stream.
//
// A [Channel] is one connection. Frames are decoded where they were read and
// handed to a [Handler] as [codec.Message] values; frames to be sent are appended
// once, to the buffer that is written, and one write carries all that a turn of
// the loop produced.
//
//	c, err := channel.New(channel.Config{Dialect: codec.V1}, h) // h is told of frames and of the end
//	if err != nil { … }
//	err = c.Connect(ctx, "tcp", "127.0.0.1:10053") // or Attach, for a connection that is there
//	err = c.SendOffLoop(ctx, &codec.Frame{Kind: codec.KindHeartbeat})
//	err = c.Close(ctx)
//
// Package session is what most users want: it makes conversations of these frames.
//
// # Loops
//
// One loop owns a channel for life. A loop is a serial executor: one goroutine
// at a time runs a turn of it, which is posted functions, then input, then one
// flush. Every method of Channel runs on its loop unless its name ends in OffLoop
// or its doc says "any goroutine". Callbacks run on the loop, must not block, and
// never run inside the caller's Send.
//
// # Transports
//
// [Channel.Connect] and [Channel.Attach] choose among three:
//
//   - the event loop (Linux, TCP and unix sockets): many channels on one goroutine,
//     which stands on gnet's poller with our own reads and writes;
//   - a net.Conn (TLS, and every system without the event loop): a reader that holds
//     the turn only between Reads, a writer that owns Write, a runner for posts;
//   - the local pair ([Pair]): in process, with capacity, latency and scripted faults.
//
// # Bytes
//
// What a callback is given is borrowed: dead when it returns. What Send is given is
// copied before it returns. Output has a high and a low water mark; input that the
// owner does not want is left in the socket by [Channel.Pause].
//
// # End
//
// Every channel that was open ends with exactly one OnClose, the last of its
// callbacks, whose [CloseError] says who ended it, why, where in the stream, and how
// many accepted bytes were not delivered.
package channel
