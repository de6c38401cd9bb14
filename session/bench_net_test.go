package session_test

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

var inFlight = []int{1, 64}

// benchEcho measures chunks of 100 bytes there and back, in long sessions.
func benchEcho(b *testing.B, echo func(*session.Session)) {
	for _, n := range inFlight {
		b.Run(str("inflight=%d", n), func(b *testing.B) {
			c := netCouple(b, "unix", codec.V1, echo)
			b.ReportAllocs()
			share(b, n, func(each int) {
				s := c.open("echo")
				p := make([]byte, 100)
				for range each {
					if _, err := s.Write(p); err != nil {
						b.Error(err)
						return
					}
					if _, err := s.Recv(context.Background()); err != nil {
						b.Error(err)
						return
					}
				}
				_ = s.Close()
				if _, err := s.Recv(context.Background()); err != io.EOF {
					b.Error(err)
				}
			})
			c.awaitEmpty()
		})
	}
}

// share splits b.N among n goroutines.
func share(b *testing.B, n int, f func(each int)) {
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f((b.N + i) / n) })
	}
	wg.Wait()
	b.StopTimer()
}

func BenchmarkEchoLoop(b *testing.B)      { benchEcho(b, echoes["loop"]) }
func BenchmarkEchoGoroutine(b *testing.B) { benchEcho(b, echoes["goroutine"]) }

// BenchmarkEchoHandlers has both ends on their loops: no goroutine waits anywhere.
func BenchmarkEchoHandlers(b *testing.B) {
	for _, n := range inFlight {
		b.Run(str("inflight=%d", n), func(b *testing.B) {
			c := netCouple(b, "unix", codec.V1, echoes["loop"])
			b.ReportAllocs()
			b.ResetTimer()
			done := make(chan struct{}, n)
			onLoop(b, c.engine, func() {
				for i := range n {
					h := &pinger{left: (b.N+i)/n + 1, done: done}
					s, err := c.engine.Open("echo", nil, h)
					if err != nil {
						b.Error(err)
						return
					}
					h.OnChunk(s, make([]byte, 100))
				}
			})
			for range n {
				<-done
			}
			b.StopTimer()
			c.awaitEmpty()
		})
	}
}

// pinger sends back what it gets, so many times.
type pinger struct {
	left int
	done chan struct{}
}

func (h *pinger) OnChunk(s *session.Session, p []byte) {
	if h.left--; h.left > 0 {
		_ = s.SendChunk(p)
		return
	}
	_ = s.SendChoke()
}
func (h *pinger) OnChoke(*session.Session)                 { h.done <- struct{}{} }
func (h *pinger) OnError(*session.Session, *session.Error) { h.done <- struct{}{} }

// BenchmarkOpenClose measures whole sessions: open, one chunk, its echo, both ends.
func BenchmarkOpenClose(b *testing.B) {
	for name, echo := range echoes {
		for _, n := range inFlight {
			b.Run(str("%s/inflight=%d", name, n), func(b *testing.B) {
				c := netCouple(b, "unix", codec.V1, echo)
				b.ReportAllocs()
				share(b, n, func(each int) {
					p := make([]byte, 100)
					for range each {
						if err := ask(context.Background(), c, p); err != nil {
							b.Error(err)
							return
						}
					}
				})
				c.awaitEmpty()
			})
		}
	}
}
