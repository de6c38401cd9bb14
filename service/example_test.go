package service_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

func ExampleNewAPI() {
	api, err := service.NewAPI(
		service.Method{ID: 0, Name: "get", Rx: session.Primitive},
		service.Method{ID: 1, Name: "watch", Rx: service.Values},
		service.Method{ID: 2, Name: "forget"},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	forget, _ := api.ByName("forget")
	fmt.Println(forget.ID, forget.Mute())
	fmt.Printf("%x\n", service.AppendAPIV0(nil, api))
	// Output:
	// 2 true
	// 8300a367657401a5776174636802a6666f72676574
}

func ExampleDecodeAPI() {
	_, err := service.DecodeAPI([]byte("\x81\x00\x93\xa3get\x80\x81\x00\x92\xa5value\x07"))
	fmt.Println(err)
	// Output: bad_graph at 0/rx/0: value at byte 17: integer, want map
}

func ExampleParseLocators() {
	list, err := service.ParseLocators("10.0.0.1:10053, [2001:db8::1]:10054, node3")
	fmt.Println(list, err)
	// Output: [10.0.0.1:10053 [2001:db8::1]:10054 node3:10053] <nil>
}

func ExampleRing() {
	ring, err := service.NewRing(map[string]uint32{"app_v1": 90, "app_v2": 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ring.Choose("alice"), ring.Choose("alice"), ring.Choose("dora"))
	fmt.Println(ring.At(rand.Uint32()) != "") // without a seed
	// Output:
	// app_v1 app_v1 app_v1
	// true
}

func ExampleSeverity() {
	fmt.Println(service.Severity(codec.V0, slog.LevelWarn), service.Severity(codec.V1, slog.LevelDebug))
	// Output: 2 0
}

func ExampleBackoff() {
	src := rand.NewPCG(1, 2)
	for failure := range 3 {
		fmt.Println(service.Backoff{}.Delay(failure, src) <= 1<<failure*1e9)
	}
	// Output:
	// true
	// true
	// true
}
