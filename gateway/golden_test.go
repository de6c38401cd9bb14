package gateway_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine/enginetest"
	"github.com/sluice-rpc/sluice/gateway"
	"github.com/sluice-rpc/sluice/worker"
)

// The request and the head of the answer as encoders of the original make them, without
// the frame around (protocol: HTTP over Cocaine).
const (
	goldenRequest = "95a3474554a92f706174683f783d31a3312e319292a4486f7374ab6578616d706c652e6f726792a6416363657074a32a2f2aa0"
	goldenHead    = "92ccc89292ac436f6e74656e742d54797065aa746578742f706c61696e92ae436f6e74656e742d4c656e677468a135"
)

var goldens = []struct {
	name    string
	d       codec.Dialect
	in, out []string // frames
	early   bool
}{
	{
		name: "v0", d: codec.V0,
		in:  []string{"93030191a468747470", "93040191da0033" + goldenRequest, "93060190"},
		out: []string{"93040191da002f" + goldenHead, "93040191a6a568656c6c6f", "93060190"},
	},
	{
		name: "v1", d: codec.V1,
		in:  []string{"94020091a46874747090", "93020091da0033" + goldenRequest, "93020290"},
		out: []string{"94020091da002f" + goldenHead + "90", "94020091a568656c6c6f90", "9402029090"},
	},
	{
		name: "v1, ended early", d: codec.V1, early: true,
		in: []string{"94020091a46874747090", "93020091da0033" + goldenRequest},
		out: []string{
			"94020091da0051" + "92ccc89392ac436f6e74656e742d54797065aa746578742f706c61696e" +
				"92bc" + hex.EncodeToString([]byte("X-Cocaine-HTTP-Proto-Version")) + "a3312e31" +
				"92ae436f6e74656e742d4c656e677468a135" + "90",
			"94020091a568656c6c6f90", "94020091a090", "9402029090",
		},
	},
	{
		name: "v0, ended early", d: codec.V0, early: true,
		in: []string{"93030191a468747470", "93040191da0033" + goldenRequest},
		out: []string{
			"93040191da0051" + "92ccc89392ac436f6e74656e742d54797065aa746578742f706c61696e" +
				"92bc" + hex.EncodeToString([]byte("X-Cocaine-HTTP-Proto-Version")) + "a3312e31" +
				"92ae436f6e74656e742d4c656e677468a135",
			"93040191a6a568656c6c6f", "93040191a1a0", "93060190",
		},
	},
}

func TestGoldenBytes(t *testing.T) {
	for _, c := range goldens {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := enginetest.New(t, c.d)
				w, err := worker.New(worker.Config{UUID: "u", Dialect: c.d, Conn: e.Conn(), Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				w.Handle("http", gateway.Handler(handler(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != "GET" || r.RequestURI != "/path?x=1" || r.Host != "example.org" || r.Header.Get("Accept") != "*/*" {
						t.Errorf("request = %v %v %v %v", r.Method, r.RequestURI, r.Host, r.Header)
					}
					w.Header().Set("Content-Type", "text/plain")
					if c.early {
						w.Header().Set("X-Cocaine-HTTP-Proto-Version", "1.1")
					}
					_, _ = io.WriteString(w, "hello")
				})))
				ended := make(chan error, 1)
				go func() { ended <- w.Run(context.Background()) }()
				e.ExpectHandshake("u")
				for _, frame := range c.in {
					e.SendBytes(unhex(t, frame))
				}
				for _, want := range c.out {
					if got := e.Recv(); !bytes.Equal(got, unhex(t, want)) {
						t.Fatalf("the worker sent %x, want %s", got, want)
					}
				}
				w.Close()
				<-ended
			})
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
