//go:build invariants && !race

package channel

import (
	"bytes"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// TestPoison (C8): what OnMessage was lent is overwritten when it returns, so that a
// handler which kept it reads nonsense in tests; a clone is its own. The race detector
// would find what this does: it looks at memory that is the transport's again.
func TestPoison(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s := newSide(t, m, Config{Dialect: codec.V1})
		var lent map[string][]byte
		var own codec.Message
		s.onMessage = func(m *codec.Message, headers []codec.Header) {
			lent = map[string][]byte{"payload": m.Payload, "arguments": m.Args, "headers": m.Headers}
			for _, h := range headers {
				lent["name of "+string(h.Name)] = h.Name
				lent["value of "+string(h.Name)] = h.Value
			}
			own = m.Clone()
		}
		w := m.face(t, s)
		headers := []codec.Header{{Name: []byte("trace_id"), Value: []byte("12345678")}, {Name: []byte("other"), Value: []byte("value")}}
		for i, n := range []int{8, 100, 100_000, 1 << 20, 9} {
			f := chunk(2, i, n)
			f.Headers = headers
			p := w.frames(f)
			if i == 0 { // the name by its number: it lies in the decoder's memory
				p = append(p[:len(p)-len(codec.AppendFrameTail(nil, codec.V1, headers))],
					0x91, 0x93, 0xc2, 80, 0xa8, 1, 2, 3, 4, 5, 6, 7, 8)
			}
			w.put(p)
			eventually(t, "a frame", func() bool { return s.messages.Load() == int64(i+1) })
			s.do(func() {
				for what, p := range lent {
					if len(p) == 0 || !bytes.Equal(p, bytes.Repeat([]byte{invariants.PoisonByte}, len(p))) {
						t.Errorf("the %s of frame %d: %d bytes are not poisoned", what, i, len(p))
					}
				}
				if want := map[bool]int{true: 5, false: 7}[i == 0]; len(lent) != want {
					t.Errorf("%d things were lent, want %d", len(lent), want)
				}
				if number(own.Payload) != i || !whole(own.Payload) {
					t.Errorf("the clone of frame %d is not as it was sent", i)
				}
			})
		}
		s.end()
	})
}
