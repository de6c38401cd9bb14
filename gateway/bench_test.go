package gateway_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/gateway"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

var hello = []byte("hello")

func sayHello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(hello)
}

// roundTrip is one request and its answer, proxy's end included.
func roundTrip(tb testing.TB, p *proxy, chunk []byte) {
	s, err := p.table.OpenOffLoop(tb.Context(), "http", nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	_ = s.Send(tb.Context(), chunk)
	_ = s.Close()
	for {
		if _, err := s.Recv(tb.Context()); err == io.EOF {
			return
		} else if err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		b.Run(d.String(), func(b *testing.B) {
			p := serve(b, d, gateway.Config{}, handler(sayHello))
			chunk := request("GET", "/path?x=1", "1.1", [][2]string{{"Host", "example.org"}, {"Accept", "*/*"}}, "")
			b.ReportAllocs()
			for b.Loop() {
				roundTrip(b, p, chunk)
			}
		})
	}
}

func BenchmarkBody(b *testing.B) {
	const size = 1 << 20
	body := make([]byte, size)
	p := serve(b, codec.V1, gateway.Config{}, handler(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	chunk := get("/")
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		roundTrip(b, p, chunk)
	}
}

// A whole request, with both ends and the goroutine of the handler, stays about as cheap
// as it is.
func TestRequestAllocations(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the checks of this build allocate")
	}
	p := serve(t, codec.V1, gateway.Config{}, handler(sayHello))
	chunk := request("GET", "/path?x=1", "1.1", [][2]string{{"Host", "example.org"}, {"Accept", "*/*"}}, "")
	if n := testing.AllocsPerRun(300, func() { roundTrip(t, p, chunk) }); n > 45 {
		t.Errorf("a request allocates %v times, want at most 45", n)
	}
}
