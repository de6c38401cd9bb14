package engine

import "github.com/sluice-rpc/sluice/fsm"

// State of a slave.
type State uint8

// The states of a slave.
const (
	Spawning    State = iota // the process is being started
	Handshaking              // it runs; v1: its handshake is awaited, v0: its first heartbeat
	Active                   // it takes sessions
	Sealing                  // it takes no more; those that are open go on
	Terminating              // it was asked to end, is being made to, or has ended and is cleared away
	Gone                     // nothing of it is left
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"spawning", "handshaking", "active", "sealing", "terminating", "gone"}[min(s, Gone)]
}

// event moves a slave from state to state.
type event uint8

const (
	evStarted   event = iota // the process runs
	evReady                  // the worker shook hands (v1), and beat (v0)
	evSeal                   // no more sessions, please
	evTerminate              // we want it to end
	evLost                   // its channel ended, it wants to end, or a deadline has passed
	evExited                 // the leader of its process group ended
	evGone                   // everything is cleared away
)

func (e event) String() string {
	return [...]string{"started", "ready", "seal", "terminate", "lost", "exited", "gone"}[min(e, evGone)]
}

// table of the slave: spawning → handshaking → active → (sealing →) terminating → gone.
var table = fsm.Must("slave", Spawning, []fsm.Rule[State, event]{
	{From: Spawning, On: evStarted, To: Handshaking},
	{From: Handshaking, On: evReady, To: Active},
	{From: Handshaking, On: evTerminate, To: Terminating},
	{From: Handshaking, On: evLost, To: Terminating},
	{From: Handshaking, On: evExited, To: Terminating},
	{From: Active, On: evSeal, To: Sealing},
	{From: Active, On: evTerminate, To: Terminating},
	{From: Active, On: evLost, To: Terminating},
	{From: Active, On: evExited, To: Terminating},
	{From: Sealing, On: evTerminate, To: Terminating},
	{From: Sealing, On: evLost, To: Terminating},
	{From: Sealing, On: evExited, To: Terminating},
	{From: Terminating, On: evExited, To: Terminating},
	{From: Terminating, On: evGone, To: Gone},
})
