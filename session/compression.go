package session

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/codec/compress"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// Compression (PROTOCOL.md: extensions) sends a chunk that shrinks as an S2 block, in a
// frame of its own type and in the chunk's place. Whatever looks at chunks sees them
// decompressed: credit counts those bytes on both sides, handlers, inboxes and Forward
// get them. A chunk for which it does not pay goes plain, so that nothing has to be said
// of when it is used.

// Compress says to whom chunks are sent compressed.
type Compress uint8

// When it pays to compress.
const (
	// CompressRemote compresses for peers on other machines: not over loopback, unix
	// sockets, pipes and local pairs, which move bytes faster than they are compressed.
	CompressRemote Compress = iota
	// CompressAlways compresses for every peer that takes it, for example one behind a
	// tunnel that begins on this machine.
	CompressAlways
)

// typeCompressed is a chunk as one S2 block: [block]. It may come wherever a frame of type
// 0 is a chunk.
const typeCompressed = 64

const (
	minSaving    = 8         // a chunk is sent compressed if it loses this part of itself, or more
	maxKeptBytes = 256 << 10 // larger buffers are dropped after use
	maxIdle      = 4         // compressors of other goroutines that are kept
	maxBadBlocks = 1         // on a channel, before that ends
)

// compression is what a table needs of it.
type compression struct {
	sent     atomic.Bool // chunks are compressed
	from, to int         // of chunks in bytes; set before sent is

	// owned by the loop
	taken bool // the peer may compress
	most  int  // bytes of a chunk that it may, and that we may
	here  compressor
	dec   *compress.Decoder
	plain []byte        // the decompressed chunk that is being handed over
	m     codec.Message // and the frame that stands for it
	bad   int           // blocks that could not be decompressed

	mu   sync.Mutex // guards idle
	idle []*compressor
}

// agree notes what both sides take; 0 is nothing.
func (c *compression) agree(ours, peer int64) {
	if c.taken = ours > 0 && peer > 0; c.taken {
		c.most = int(min(ours, peer))
		c.dec = compress.NewDecoder(compress.Limits{MaxOutputBytes: int(ours)})
		c.plain = make([]byte, 0, 1) // never nil: a chunk without data is a chunk
	}
}

// startCompressing begins to send compressed chunks, if they were agreed on and pay.
func (t *Table) startCompressing() {
	c := &t.ext.s2
	if !c.taken || c.sent.Load() || t.cfg.Extensions.Compress != CompressAlways && t.ch.Near() {
		return
	}
	c.from, c.to = t.cfg.Extensions.MinCompress, c.most
	c.sent.Store(true)
}

// --- sending ---

// compressor has the state and the buffer that compressing one chunk at a time needs.
type compressor struct {
	enc *compress.Encoder
	buf []byte
}

// argsHead has room for the head of an array of one raw value, of any length.
const argsHead = 1 + 5

// args returns p as the arguments of a compressed chunk, or nil if it should go plain. They
// are good until the next call.
func (k *compressor) args(p []byte, most int) []byte {
	if k.enc == nil {
		k.enc = compress.NewEncoder(compress.Limits{MaxOutputBytes: most})
	}
	var head [argsHead]byte
	out, ok := k.enc.Append(append(k.buf[:0], head[:]...), p, compress.S2)
	k.buf = out
	n := len(out) - argsHead
	if !ok || n > len(p)-len(p)/minSaving {
		return nil
	}
	at := argsHead - 3 // da, the form for up to 64 KiB, and two bytes of length
	switch {
	case n < 1<<5:
		at = argsHead - 1
		out[at] = 0xa0 | byte(n)
	case n < 1<<16:
		out[at] = 0xda
		binary.BigEndian.PutUint16(out[at+1:], uint16(n))
	default:
		at = argsHead - 5
		out[at] = 0xdb
		binary.BigEndian.PutUint32(out[at+1:], uint32(n))
	}
	at--
	out[at] = 0x91
	return out[at:]
}

// trim drops a buffer that one long chunk has left.
func (k *compressor) trim() {
	if cap(k.buf) > maxKeptBytes {
		k.buf = nil
	}
}

// compressible reports whether to try it with f. Only what compression was agreed on with
// comes here.
func (s *Session) compressible(f *codec.Frame) bool {
	c := &s.t.ext.s2
	return f.Kind == codec.KindChunk && s.stream && len(f.Payload) >= c.from && len(f.Payload) <= c.to && s.shrink.try()
}

// compress returns the frame that is sent for f: itself, or one with its chunk compressed,
// which refers to k. It says how many bytes that saves. f is left as it is, for one who
// finds no room for it.
func (s *Session) compress(f *codec.Frame, k *compressor) (sent codec.Frame, saved int) {
	args := k.args(f.Payload, s.t.ext.s2.to)
	if s.shrink.tried(args != nil); args == nil {
		return *f, 0
	}
	return codec.Frame{Kind: codec.KindCall, Session: f.Session, Type: typeCompressed, Args: args}, len(f.Payload) - len(args)
}

// sendCompressed sends a chunk that may shrink. One that would be refused is not compressed
// for that. On the loop.
func (s *Session) sendCompressed(f *codec.Frame) error {
	if s.t.ch.Full() {
		return s.t.ch.SendOf(s, f, 0)
	}
	k := &s.t.ext.s2.here
	sent, saved := s.compress(f, k)
	err := s.t.ch.SendOf(s, &sent, 0)
	k.trim()
	s.t.countSaved(saved, err)
	return err
}

// sendCompressedOffLoop is sendCompressed for every other goroutine.
func (s *Session) sendCompressedOffLoop(ctx context.Context, f *codec.Frame) error {
	if ctx == channel.NoWait && s.t.ch.Full() {
		return s.t.ch.SendOfOffLoop(ctx, s, f, 0)
	}
	c := &s.t.ext.s2
	k := c.take()
	sent, saved := s.compress(f, k)
	err := s.t.ch.SendOfOffLoop(ctx, s, &sent, 0)
	c.put(k)
	s.t.countSaved(saved, err)
	return err
}

func (t *Table) countSaved(n int, err error) {
	if n > 0 && err == nil {
		t.counts.compressed.Add(1)
		t.counts.saved.Add(uint64(n))
	}
}

// take returns a compressor for a goroutine other than the loop.
func (c *compression) take() *compressor {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.idle)
	if n == 0 {
		return new(compressor)
	}
	k := c.idle[n-1]
	c.idle = c.idle[:n-1]
	return k
}

func (c *compression) put(k *compressor) {
	k.trim()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) < maxIdle {
		c.idle = append(c.idle, k)
	}
}

// yield is whether a session's chunks shrink. One whose chunks do not is tried ever less
// often. Any goroutine; two at once make it no worse than a guess.
type yield struct {
	failed atomic.Int32 // tries in a row that did not shrink
	skip   atomic.Int32 // chunks that go plain before the next try
}

const (
	patience   = 3  // tries in a row before any chunk is skipped
	maxDoubles = 10 // of the skipped chunks, from 1 to 1024
)

// try reports whether to try the next chunk.
func (y *yield) try() bool { return y.skip.Load() <= 0 || y.skip.Add(-1) < 0 }

func (y *yield) tried(shrank bool) {
	if shrank {
		y.failed.Store(0)
		return
	}
	n := min(y.failed.Load()+1, patience+maxDoubles)
	y.failed.Store(n)
	if n >= patience {
		y.skip.Store(1 << (n - patience))
	}
}

// --- receiving ---

// decompress takes a compressed chunk and sees it through as the chunk that it stands for.
// False if it is none: its session never was, or has no chunks now; then it is a message
// like any other.
func (t *Table) decompress(m *codec.Message) bool {
	c := &t.ext.s2
	s := t.ids.get(m.Session)
	switch {
	case s == nil || s.rx == nil:
		if s != nil || t.wasOpen(m.Session) {
			t.droppedBlock(s, m.Payload)
		}
		return false
	case !takesChunks(s.rx):
		return false
	case m.Payload == nil:
		t.malformed(s)
		return true
	case s.ignored:
		t.droppedBlock(s, m.Payload)
		return true
	}
	plain, err := c.dec.Append(c.plain[:0], m.Payload, compress.S2)
	if err != nil {
		t.droppedBlock(s, m.Payload)
		t.badBlock(s, err)
		return true
	}
	t.counts.decompressed.inc()
	c.plain, c.m = plain, *m
	c.m.Type, c.m.Payload = codec.V1Write, plain
	t.toSession(&c.m)
	c.m = codec.Message{}
	invariants.Poison(plain)
	if cap(plain) > maxKeptBytes {
		c.plain = make([]byte, 0, 1)
	}
	return true
}

// takesChunks reports whether a compressed chunk may come in this state: where a plain one
// may, unless the type is one of the graph's own.
func takesChunks(g *Graph) bool {
	slot := g.Slot(codec.V1Write)
	return slot != nil && slot.Kind == Chunk && g.Slot(typeCompressed) == nil
}

// wasOpen reports whether a session of that number, which is not open, may have been.
func (t *Table) wasOpen(id uint64) bool {
	return id <= t.highest || (t.cfg.Role == Client || t.cfg.Role == Server) && t.mine(id)
}

// droppedBlock notes what a block that nobody decompresses has cost its sender.
func (t *Table) droppedBlock(s *Session, block []byte) {
	if t.ext.credit.on {
		if n, err := t.ext.s2.dec.Len(block, compress.S2); err == nil {
			t.dropped(s, int64(n))
		}
	}
}

// badBlock fails a session for a block that cannot be decompressed, and the second time the
// channel: the two sides do not speak the same.
func (t *Table) badBlock(s *Session, err error) {
	c := &t.ext.s2
	if c.bad++; c.bad > maxBadBlocks {
		t.ch.Fail(&channel.CloseError{Code: channel.CodeBadCompression, Reason: "a compressed chunk that cannot be decompressed, again", Err: err, Remote: true})
		return
	}
	t.failSession(s, CodeBadCompression, err.Error())
}
