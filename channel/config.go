package channel

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// Config sets up a Channel. The zero value is a v0 channel with every default; a
// zero field means its default, a negative one means no limit.
type Config struct {
	// Dialect of both directions. It is not told on the wire (protocol: dialects,
	// which differ in the first two elements of a frame).
	Dialect codec.Dialect
	// Loops that may own the channel. If nil, a private one that ends with the
	// channel. Unused by transports that bring their own loop.
	Loops *Loops
	// Limits of received frames. Those of payloads, frames and headers bound sent frames
	// too.
	Limits codec.Limits
	// FirstFrameBytes bounds the first received frame. If zero, no other bound than
	// Limits; accepting sides set it, since a peer is unknown until its handshake.
	FirstFrameBytes int
	// FirstFrameTimeout ends the channel if no whole frame came by then. If zero,
	// there is none; accepting sides set it.
	FirstFrameTimeout time.Duration
	// HighWaterBytes: above it Send gives ErrFull and senders on other goroutines
	// wait. Output held is at most this and one frame. If zero, 1 MiB.
	HighWaterBytes int
	// LowWaterBytes: OnWritable and waiting senders go on when output has fallen to
	// it. If zero, a quarter of HighWaterBytes.
	LowWaterBytes int
	// StallTimeout cuts a peer (CodeSlowPeer) that, while output is above the low
	// mark, took less than 64 KiB in this time. If zero, 10 s.
	StallTimeout time.Duration
	// FrameTimeout cuts a peer (CodeSlowFrame) whose begun frame gains less than
	// 64 KiB in this time and is not finished within three times this. If zero, 10 s.
	FrameTimeout time.Duration
	// DrainTimeout bounds how long Close waits for accepted output to leave. If
	// zero, 10 s.
	DrainTimeout time.Duration
	// FirstSession numbers the first session that this side opens; each further one
	// is one higher. If zero, 1.
	FirstSession uint64
	// NoEventLoop keeps TCP and unix sockets off the event loop and on the net.Conn
	// transport.
	NoEventLoop bool
	// Logger for what the channel cannot return to anybody. If nil, slog.Default().
	Logger *slog.Logger
}

const (
	writeAhead     = 64 << 10 // bytes given to a transport ahead of what it took
	progressBytes  = 64 << 10 // what counts as progress of a slow peer in one timeout
	maxSessionID   = 1 << 63  // our own numbers stop here
	defaultTimeout = 10 * time.Second
)

func (c *Config) setDefaults() error {
	if !c.Dialect.Valid() {
		return fmt.Errorf("channel: Config.Dialect is %d, want codec.V0 or codec.V1", c.Dialect)
	}
	orInt(&c.HighWaterBytes, 1<<20)
	orInt(&c.LowWaterBytes, c.HighWaterBytes/4)
	if c.LowWaterBytes > c.HighWaterBytes {
		return fmt.Errorf("channel: Config.LowWaterBytes %d is above HighWaterBytes %d", c.LowWaterBytes, c.HighWaterBytes)
	}
	c.Limits = c.Limits.WithDefaults()
	if most := uint64(math.MaxUint32); uint64(c.Limits.MaxPayloadBytes) > most {
		c.Limits.MaxPayloadBytes = int(most) // msgpack has no longer string
	}
	orDuration(&c.StallTimeout, defaultTimeout)
	orDuration(&c.FrameTimeout, defaultTimeout)
	orDuration(&c.DrainTimeout, defaultTimeout)
	if c.FirstFrameTimeout == 0 {
		c.FirstFrameTimeout = math.MaxInt64
	}
	orDuration(&c.FirstFrameTimeout, 0)
	if c.FirstSession == 0 {
		c.FirstSession = 1
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

func orInt(p *int, def int) {
	switch {
	case *p == 0:
		*p = def
	case *p < 0:
		*p = math.MaxInt
	}
}

func orDuration(p *time.Duration, def time.Duration) {
	switch {
	case *p == 0:
		*p = def
	case *p < 0:
		*p = math.MaxInt64
	}
}
