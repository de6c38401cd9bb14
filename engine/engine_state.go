package engine

import "github.com/sluice-rpc/sluice/fsm"

// NodeState is what an Engine does.
type NodeState uint8

// The states of an Engine.
const (
	NodeIdle     NodeState = iota // made by New
	NodeStarting                  // services and applications are being started
	NodeRunning                   // everything is published
	NodeStopping                  // applications finish what they do
	NodeStopped                   // nothing is left
)

// String returns the state's name.
func (s NodeState) String() string {
	return [...]string{"idle", "starting", "running", "stopping", "stopped"}[min(s, NodeStopped)]
}

// engineEvent moves an Engine from state to state.
type engineEvent uint8

const (
	engRun     engineEvent = iota // Run was called
	engStarted                    // all is published
	engStop                       // its context ended, or it could not start
	engGone                       // everything is cleared away
)

func (e engineEvent) String() string {
	return [...]string{"run", "started", "stop", "gone"}[min(e, engGone)]
}

var engineTable = fsm.Must("engine", NodeIdle, []fsm.Rule[NodeState, engineEvent]{
	{From: NodeIdle, On: engRun, To: NodeStarting},
	{From: NodeStarting, On: engStarted, To: NodeRunning},
	{From: NodeStarting, On: engStop, To: NodeStopping},
	{From: NodeRunning, On: engStop, To: NodeStopping},
	{From: NodeStopping, On: engGone, To: NodeStopped},
})

// AppState is what the node service tells of an application (protocol: slave states).
type AppState uint8

// The states of an application.
const (
	AppSpooling AppState = iota // it is being unpacked and started
	AppRunning                  // it takes requests
	AppStopping                 // it takes no more; its workers are being ended
	AppStopped                  // nothing of it is left, and the engine has forgotten it
	AppBroken                   // it could not be started; info says why
)

// String returns the state's name: that of the live runtime, where it has one.
func (s AppState) String() string {
	return [...]string{"spooling", "running", "stopping", "stopped", "broken"}[min(s, AppBroken)]
}

// appEvent moves an application from state to state.
type appEvent uint8

const (
	appSpooled appEvent = iota // it is published
	appFailed                  // it could not be started
	appPause                   // nobody wants it any more
	appGone                    // everything is cleared away
)

func (e appEvent) String() string {
	return [...]string{"spooled", "failed", "pause", "gone"}[min(e, appGone)]
}

var appTable = fsm.Must("app", AppSpooling, []fsm.Rule[AppState, appEvent]{
	{From: AppSpooling, On: appSpooled, To: AppRunning},
	{From: AppSpooling, On: appFailed, To: AppBroken},
	{From: AppSpooling, On: appPause, To: AppStopping},
	{From: AppRunning, On: appPause, To: AppStopping},
	{From: AppStopping, On: appGone, To: AppStopped},
	{From: AppBroken, On: appPause, To: AppStopped},
})
