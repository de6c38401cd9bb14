package fsm_test

import (
	"fmt"

	"github.com/sluice-rpc/sluice/fsm"
)

type door uint8

const (
	shut door = iota
	open
)

func (d door) String() string { return [...]string{"shut", "open"}[d] }

type act uint8

const (
	push act = iota
	pull
)

func (a act) String() string { return [...]string{"push", "pull"}[a] }

var doors = fsm.Must("door", shut, []fsm.Rule[door, act]{
	{From: shut, On: push, To: open},
	{From: open, On: pull, To: shut},
})

func Example() {
	m := doors.Machine()
	for _, a := range []act{push, push, pull} {
		from, to, ok := m.Fire(a)
		if !ok {
			fmt.Printf("a door that is %v cannot be %ved\n", from, a)
			continue
		}
		fmt.Printf("%v: %v to %v\n", a, from, to)
	}
	// Output:
	// push: shut to open
	// a door that is open cannot be pushed
	// pull: open to shut
}
