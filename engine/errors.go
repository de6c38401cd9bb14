package engine

import (
	"fmt"
	"slices"
	"strings"
)

// SlaveCode says why a slave ended. It is also the code of a v1 terminate, and has the
// category service.CategorySlave in errors (protocol: error categories).
type SlaveCode int64

// The reasons. Below 100 they are those of the live runtime (protocol: error categories,
// slave); SlaveExited and SlaveKilled are ours.
const (
	SlaveActivateTimeout  SlaveCode = 4   // no handshake, in v0 no first heartbeat, in time
	SlaveSealTimeout      SlaveCode = 6   // sealing, and sessions did not end in time
	SlaveTerminateTimeout SlaveCode = 7   // asked to end, and did not in time
	SlaveHeartbeatTimeout SlaveCode = 8   // silent for too long
	SlaveInvalidState     SlaveCode = 9   // what was asked of it needs another state
	SlaveControlIPC       SlaveCode = 10  // its channel ended
	SlaveShutdown         SlaveCode = 11  // the engine shuts down
	SlaveSuicide          SlaveCode = 12  // it asked to end
	SlaveIdle             SlaveCode = 13  // it had nothing to do for too long
	SlaveSealed           SlaveCode = 14  // sealing is over
	SlaveSpawnFailed      SlaveCode = 1   // its process could not be started
	SlaveExited           SlaveCode = 100 // its process ended by itself
	SlaveKilled           SlaveCode = 101 // Kill was called
)

var slaveCodeNames = map[SlaveCode]string{
	SlaveActivateTimeout:  "activate_timeout",
	SlaveSealTimeout:      "seal_timeout",
	SlaveTerminateTimeout: "terminate_timeout",
	SlaveHeartbeatTimeout: "heartbeat_timeout",
	SlaveInvalidState:     "invalid_state",
	SlaveControlIPC:       "control_ipc",
	SlaveShutdown:         "overseer_shutdowning",
	SlaveSuicide:          "committed_suicide",
	SlaveIdle:             "slave_idle",
	SlaveSealed:           "slave_is_sealing",
	SlaveSpawnFailed:      "spawn_timeout",
	SlaveExited:           "exited",
	SlaveKilled:           "killed",
}

// String returns the name that the live runtime has for the code, e.g.
// "heartbeat_timeout".
func (c SlaveCode) String() string {
	if name := slaveCodeNames[c]; name != "" {
		return name
	}
	return fmt.Sprintf("SlaveCode(%d)", int64(c))
}

// SlaveError says why a slave ended other than as it was asked to.
type SlaveError struct {
	Code   SlaveCode
	Reason string // for people
	// WorkerCode and the Reason are those of the worker's terminate, if Code is
	// SlaveSuicide. In v0 a WorkerCode of 2 says that the application is broken.
	WorkerCode int64
	// Status is how the process ended, e.g. "exit status 1" or "signal: killed"; empty
	// while it runs.
	Status string
	// Output is the last lines that the process wrote.
	Output []string
	// Err is the cause, e.g. a *channel.CloseError; may be nil.
	Err error
}

// Error returns the code, the reason, how the process ended, and its last line of output
// that is not empty.
func (e *SlaveError) Error() string {
	s := "engine: slave: " + e.Code.String()
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Status != "" {
		s += " (" + e.Status + ")"
	}
	if line := lastLine(e.Output); line != "" {
		s += "; its last line: " + line
	}
	return s
}

// Unwrap returns the cause.
func (e *SlaveError) Unwrap() error { return e.Err }

func lastLine(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}
