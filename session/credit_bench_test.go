package session

import (
	"runtime"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

// BenchmarkCredit is a chunk of 80 bytes over a hundred sessions in turn, with credit and
// without: one that comes and is handed over, and one that is sent.
func BenchmarkCredit(b *testing.B) {
	const sessions = 100
	for _, way := range []string{"take", "send"} {
		for _, on := range []bool{false, true} {
			name := way + "/off"
			if on {
				name = way + "/on"
			}
			b.Run(name, func(b *testing.B) {
				o, _, onLoop := newStill(b, codec.V1)
				e := events{o.t}
				var list []*Session
				var chunks []*codec.Message
				p := make([]byte, 80)
				onLoop(func() {
					if on {
						o.t.ext.ours = o.t.terms()
						o.t.agree(terms{credit: true, session: maxWindow, channel: maxWindow})
						o.t.confirm()
					}
					for id := uint64(2); id < 2+sessions; id++ {
						e.OnMessage(message(b, codec.V1, codec.Frame{Kind: codec.KindInvoke, Session: id, Text: "e"}), nil)
						list = append(list, o.t.ids.get(id))
						chunks = append(chunks, message(b, codec.V1, codec.Frame{Kind: codec.KindChunk, Session: id, Payload: p}))
					}
				})
				b.ResetTimer()
				for left := b.N; left > 0; left -= 10 * sessions { // in turns of 1000
					onLoop(func() {
						for i := range min(left, 10*sessions) {
							if way == "take" {
								e.OnMessage(chunks[i%sessions], nil)
							} else if err := list[i%sessions].SendChunk(p); err != nil {
								b.Error(err)
							}
						}
					})
					for o.t.ch.Stats().QueuedBytes > 64<<10 {
						runtime.Gosched()
					}
				}
			})
		}
	}
}
