package session

import (
	"fmt"
	"strings"
	"testing"
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
