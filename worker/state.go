package worker

import "github.com/sluice-rpc/sluice/fsm"

// State of a worker.
type State uint8

// The states of a worker.
const (
	Closed     State = iota // not running
	Connecting              // to the engine's endpoint
	Connected               // serving
	Stopping                // we asked to end; running sessions finish
	Terminated              // the engine asked to end; running sessions finish
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"closed", "connecting", "connected", "stopping", "terminated"}[min(s, Terminated)]
}

type event uint8

const (
	evConnect   event = iota // Run was called
	evOpen                   // the channel is open
	evTerminate              // the engine asked to end
	evStop                   // we ask to end
	evLost                   // the channel is gone, or never came
)

func (e event) String() string {
	return [...]string{"connect", "open", "terminate", "stop", "lost"}[min(e, evLost)]
}

// table of the worker. Whoever asks first decides; the other's request is then the
// answer.
var table = fsm.Must("worker", Closed, []fsm.Rule[State, event]{
	{From: Closed, On: evConnect, To: Connecting},
	{From: Connecting, On: evOpen, To: Connected},
	{From: Connecting, On: evLost, To: Closed},
	{From: Connected, On: evTerminate, To: Terminated},
	{From: Connected, On: evStop, To: Stopping},
	{From: Connected, On: evLost, To: Closed},
	{From: Stopping, On: evTerminate, To: Stopping},
	{From: Stopping, On: evLost, To: Closed},
	{From: Terminated, On: evStop, To: Terminated},
	{From: Terminated, On: evLost, To: Closed},
})
