package channel

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// longFrame is a Handler that waits for the buffer of a long frame to be collected.
type longFrame struct {
	gone atomic.Bool
	came chan struct{}
}

func (*longFrame) OnOpen(*Channel)     {}
func (*longFrame) OnWritable()         {}
func (*longFrame) OnClose(*CloseError) {}
func (h *longFrame) OnMessage(m *codec.Message, _ []codec.Header) {
	if len(m.Payload) > 0 {
		runtime.AddCleanup(&m.Args[0], func(h *longFrame) { h.gone.Store(true) }, h)
	}
	h.came <- struct{}{}
}

// TestLongFrameLetGo: an idle channel does not hold the buffer of the long frame that
// came last, even if a short one lay behind it.
func TestLongFrameLetGo(t *testing.T) {
	a, b := Pair(Script{AtoB: Path{CapacityBytes: -1}, BtoA: Path{CapacityBytes: -1}})
	h := &longFrame{came: make(chan struct{}, 2)}
	c, err := New(Config{}, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(a); err != nil {
		t.Fatal(err)
	}
	p := codec.AppendFrame(nil, codec.V0, &codec.Frame{Kind: codec.KindChunk, Session: 1, Payload: make([]byte, 8<<20)})
	p = codec.AppendFrame(p, codec.V0, &codec.Frame{Kind: codec.KindChoke, Session: 1})
	if _, err := b.Write(p); err != nil {
		t.Fatal(err)
	}
	<-h.came
	<-h.came
	for end := time.Now().Add(patience); !h.gone.Load(); runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the long frame's buffer is still held")
		}
	}
	_ = b.Close()
	_ = c.Close(context.Background())
}
