// Package session multiplexes conversations over one channel.
//
// A [Table] owns the sessions of one channel: it numbers them, hands each message to
// its session, drops and counts what belongs to none, and ends all of them exactly
// once when the channel goes. A [Session] is one conversation: two directions that
// end on their own, each with a [Graph] that says which message may come next.
//
//	t, err := session.New(session.Config{Role: session.Client, Owner: o, Channel: channel.Config{Dialect: codec.V1}})
//	if err != nil { … }
//	err = t.Channel().Connect(ctx, "tcp", "127.0.0.1:10053")
//	s, err := t.CallOffLoop(ctx, &session.Call{Args: codec.Args("storage").Bytes(), Rx: session.Primitive}, nil)
//	value, err := s.Recv(ctx) // of method 0, resolve
//
// Packages service and worker are built on it, and are what most users want.
//
// # Roles
//
// A table is one of the two ends of a link. On a worker link an [Engine] opens sessions
// by the name of an event ([Table.Open]), and a [Worker] serves them. Elsewhere a
// [Client] opens them by the number of a method ([Table.Call]), and a [Server], whose
// Owner is a [Callee], says what each method opens. In v1 both ends may do both, over
// one channel.
//
// # Two faces
//
// On the loop, for latency: a [Handler] is called for each message as it lies in the
// read buffer, and SendChunk, SendChoke and SendError append to what the turn writes.
// They run on the channel's loop and never wait. A handler whose chunk found no room is
// told when there is some, in turn with others; what comes for it meanwhile is kept.
//
// In any other goroutine, for comfort: Recv and Chunks wait for the peer, Send, Write,
// Close and Fail for room in the output. Data comes through a bounded inbox. When that
// is full a plain peer is held by the whole channel, which stops reading until the
// reader goes on, or for at most Config.MaxPause, after which the session fails and the
// others go on. A peer of our kind is held by credit, see [Extensions], and no other
// session notices.
//
// A session is used through one face.
//
// What becomes of a chunk for which there is no room, or no credit, is the session's
// [Policy]: [Session.SetOverflow]. A chunk is never divided, and others get their turn
// between two: [Session.Writer] and ReadFrom cut what is large into pieces.
//
// A direction without a graph is closed from the opening frame on. Where both are streams
// a side that sends nothing closes its own when it begins, and one that reads nothing says
// so with [Session.CloseRead], or Ignore on the loop.
//
// # In the middle
//
// [Session.Pause] holds a session and no other. [Session.Forward] joins it to a new one
// on another channel: frames pass both ways with a new head, the payload copied once and
// not looked at, and each direction stands still while the other side has no room.
//
// # Bytes
//
// A Handler's chunk is borrowed: dead when the call returns. A chunk from Recv or
// Chunks is lent: dead at the next Recv. What is sent is copied before the call
// returns.
package session
