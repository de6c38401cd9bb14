package session

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"
)

// The errors of a peer share memory, and are nobody else's all the same.
func TestFaults(t *testing.T) {
	var f faults
	var got []*Error
	var want []string
	text := make([]byte, 0, 1000)
	for i := range 500 {
		text = append(text[:0], strings.Repeat(string(rune('a'+i%26)), i*7%300)...)
		got, want = append(got, f.remote(int64(i), -int64(i), text)), append(want, string(text))
		clear(text) // it was lent
	}
	for i, e := range got {
		if (*e != Error{Category: int64(i), Code: -int64(i), Message: want[i], Remote: true}) {
			t.Fatalf("error %d is %+v, want the text %q", i, e, want[i])
		}
		e.Message, e.Delivery, e.Err = "changed", NotSent, fmt.Errorf("changed")
	}
	if e := f.remote(1, 2, nil); (*e != Error{Category: 1, Code: 2, Remote: true}) {
		t.Errorf("an error is made of %+v", e)
	}
}

// Whoever keeps an error keeps no long text of another one.
func TestFaultsLong(t *testing.T) {
	var f faults
	kept := f.remote(1, 2, []byte("kept"))
	long := weak.Make(f.remote(1, 2, make([]byte, 1<<20)))
	runtime.GC()
	if long.Value() != nil {
		t.Error("an error of 1 MiB is kept by its neighbour")
	}
	runtime.KeepAlive(&f)
	runtime.KeepAlive(kept)
}
