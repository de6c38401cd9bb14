package service

import "github.com/sluice-rpc/sluice/fsm"

// InstanceState is what a Balancer thinks of an Instance.
type InstanceState uint8

// The states of an Instance.
const (
	InstanceReady    InstanceState = iota // it gets calls
	InstanceEjected                       // it failed too often, and rests
	InstanceDraining                      // it gets no more calls; those that are open go on
	InstanceGone                          // the Balancer has forgotten it
)

// String returns the state's name.
func (s InstanceState) String() string {
	return [...]string{"ready", "ejected", "draining", "gone"}[min(s, InstanceGone)]
}

// instanceEvent moves an Instance from state to state.
type instanceEvent uint8

const (
	instEject   instanceEvent = iota // failures in a row
	instReadmit                      // it has rested, or nothing better is left
	instDrain                        // it is going away, or is not listed any more
	instRelist                       // it is listed again
	instForget                       // its last call has ended
)

func (e instanceEvent) String() string {
	return [...]string{"eject", "readmit", "drain", "relist", "forget"}[min(e, instForget)]
}

// instanceTable: ready ⇄ ejected, both → draining → gone.
var instanceTable = fsm.Must("instance", InstanceReady, []fsm.Rule[InstanceState, instanceEvent]{
	{From: InstanceReady, On: instEject, To: InstanceEjected},
	{From: InstanceReady, On: instDrain, To: InstanceDraining},
	{From: InstanceEjected, On: instReadmit, To: InstanceReady},
	{From: InstanceEjected, On: instDrain, To: InstanceDraining},
	{From: InstanceDraining, On: instRelist, To: InstanceReady},
	{From: InstanceDraining, On: instForget, To: InstanceGone},
})
