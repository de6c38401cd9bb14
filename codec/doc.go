// Package codec turns frames into bytes and bytes into frames.
//
// It speaks the two dialects of the Cocaine RPC protocol. A frame is one msgpack
// array; frames follow each other on the stream with nothing between them:
//
//	V0   93 type session args            runtime 0.10 and 0.11
//	V1   94 session type args headers    runtime 0.12.1 and later
//
//	94 02 00 91 a4 64 61 74 61 90        V1: session 2, write ["data"], no headers
//	│  │  │  │  └ raw, 4 bytes └ headers: empty array
//	│  │  │  └ args: array of 1
//	│  │  └ type 0
//	│  └ session 2
//	└ array of 4
//
//	s := codec.NewScanner(codec.V1, codec.Limits{})
//	var m codec.Message
//	n, err := s.Next(in, &m) // 0: no whole frame yet, come again with more bytes behind these
//	in = in[n:]
//
//	out = codec.AppendFrame(out, codec.V1, &codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: data})
//
// # Decoding
//
// A [Scanner] finds the frames of a stream in place. It neither copies nor
// allocates, never recurses, keeps its place when a frame is not whole yet, and
// believes no declared size before holding it against its [Limits]. What it finds
// is a [Message]; a [Reader] walks over the arguments, and a [HeaderDecoder] (one
// per connection and direction) expands the headers.
//
// It is tolerant where peers differ: 3 or more elements, missing or nil headers,
// raw, str and bin in every form, integers of any width, surplus elements. What it
// does not accept is a [*FrameError], which is the end of that stream.
//
// # Encoding
//
// [AppendFrame] and the Append functions append to a byte slice and return it, as
// append does; with room in the slice they do not allocate. They write only what
// the oldest runtime can read: minimal integers, unsigned where not negative, and
// the old raw forms (a0..bf, da, db), never str8, bin or ext. [Args] encodes the
// usual Go values as the arguments of a call.
//
// # Ownership of bytes
//
// Borrowed: everything in a Message, and what Reader.Bytes and Reader.Raw return,
// lies in the buffer that was scanned, and is good for as long as that buffer is;
// [Message.Clone] keeps it. Headers are borrowed until the next Decode, too.
// Copied: everything that is given to an Append function.
//
// Nothing here is safe for use by several goroutines at once, except the Append
// functions on different slices. The package imports the standard library only.
package codec
