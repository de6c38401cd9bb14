package service

import "github.com/sluice-rpc/sluice/fsm"

// State of a BaseService and of a Service.
type State uint8

// The states. What else there is to know is a Stage over them.
const (
	Closed     State = iota // not connected, and nobody tries
	Connecting              // endpoints are tried
	Connected               // calls are possible
	Errored                 // the last try failed, or the connection was lost
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"closed", "connecting", "connected", "error"}[min(s, Errored)]
}

// event moves a BaseService from state to state.
type event uint8

const (
	evConnect event = iota // Connect was called
	evOpen                 // an endpoint took the connection
	evFail                 // none did, or there was none, or the socket broke
	evClose                // Close was called
)

func (e event) String() string {
	return [...]string{"connect", "open", "fail", "close"}[min(e, evClose)]
}

// baseTable: closed → connecting → connected → error → connecting …; close leads back
// to closed from everywhere. A name that cannot be resolved leads from closed to error.
var baseTable = fsm.Must("base_service", Closed, []fsm.Rule[State, event]{
	{From: Closed, On: evConnect, To: Connecting},
	{From: Closed, On: evFail, To: Errored},
	{From: Connecting, On: evOpen, To: Connected},
	{From: Connecting, On: evFail, To: Errored},
	{From: Connecting, On: evClose, To: Closed},
	{From: Connected, On: evFail, To: Errored},
	{From: Connected, On: evClose, To: Closed},
	{From: Errored, On: evConnect, To: Connecting},
	{From: Errored, On: evClose, To: Closed},
})

// Stage says what is being done to get connected, in whatever State.
type Stage uint8

// The stages.
const (
	StageNone    Stage = iota // nothing
	StageResolve              // the locator is asked
	StageLookUp               // the name of a host is looked up
	StageDial                 // an endpoint is dialled
	StageWait                 // the next try is put off: see Backoff
)

// String returns the stage's name.
func (s Stage) String() string {
	return [...]string{"none", "resolve", "look up", "dial", "wait"}[min(s, StageWait)]
}
