package channel

import "github.com/sluice-rpc/sluice/fsm"

// State of a channel.
type State uint8

// The states of a channel.
const (
	Idle       State = iota // made, not connected
	Connecting              // Connect or Attach is under way
	Open                    // frames move both ways
	Closing                 // nothing more is accepted; what was is being written
	Closed                  // over
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"idle", "connecting", "open", "closing", "closed"}[min(s, Closed)]
}

// event moves a channel from state to state.
type event uint8

const (
	evConnect event = iota // Connect or Attach was called
	evAttach               // a stream is there
	evFail                 // the stream or the dial broke
	evDrain                // we want to end, with what was accepted delivered
)

func (e event) String() string {
	return [...]string{"connect", "attach", "fail", "drain"}[min(e, evDrain)]
}

// table of the channel: idle → connecting → open → closing → closed.
var table = fsm.Must("channel", Idle, []fsm.Rule[State, event]{
	{From: Idle, On: evConnect, To: Connecting},
	{From: Idle, On: evFail, To: Closed},
	{From: Connecting, On: evAttach, To: Open},
	{From: Connecting, On: evFail, To: Closed},
	{From: Open, On: evDrain, To: Closing},
	{From: Open, On: evFail, To: Closed},
	{From: Closing, On: evFail, To: Closed},
})
