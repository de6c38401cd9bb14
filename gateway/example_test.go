package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/sluice-rpc/sluice/gateway"
	"github.com/sluice-rpc/sluice/worker"
)

// A worker whose event http is an ordinary net/http application.
func ExampleHandler() {
	w, err := worker.New(worker.FromArgs(os.Args[1:]))
	if err != nil {
		fmt.Println("not started by an engine")
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello, %s\n", r.PathValue("name"))
	})
	w.Handle("http", gateway.Handler(mux))
	_ = w.Run(context.Background())
	// Output: not started by an engine
}
