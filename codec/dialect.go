package codec

import "strconv"

// Dialect is the version of the protocol that a connection speaks. The bytes of a
// frame do not tell it (93 01 00 90 is a heartbeat in both): it comes from
// configuration, or from how the process was started. Whoever takes one from
// outside checks Valid; the functions here take anything but V0 for V1.
type Dialect uint8

const (
	// V0 is [type, session, args], of runtime 0.10 and 0.11.
	V0 Dialect = 0
	// V1 is [session, type, args, headers], of runtime 0.12.1 and later
	// ("--protocol 1"). A peer may leave the headers out.
	V1 Dialect = 1
)

// Message types of V0. They mean the same on every session. A call to a service
// carries its method number instead, and is answered with V0Chunk, V0Error and
// V0Choke.
const (
	V0Handshake = 0 // [uuid]
	V0Heartbeat = 1 // []
	V0Terminate = 2 // [code, reason]
	V0Invoke    = 3 // [event]
	V0Chunk     = 4 // [data]
	V0Error     = 5 // [code, reason]; does not end the stream, a choke follows
	V0Choke     = 6 // []
)

// V1ControlSession is the session of handshake, heartbeat and terminate in V1.
// V0 has them on session 0.
const V1ControlSession = 1

// Message types of V1. They depend on where in its dispatch tree a session is.
const (
	V1Handshake = 0 // control session, first frame of a worker: [uuid]
	V1Heartbeat = 0 // control session, from then on: []
	V1Terminate = 1 // control session: [code, reason]

	V1Invoke = 0 // opens a session: [event]
	V1Write  = 0 // streaming protocol, a chunk: [data]
	V1Error  = 1 // streaming protocol: [[category, code], reason]; ends the stream
	V1Close  = 2 // streaming protocol, a choke: []

	V1Value      = 0 // primitive protocol: the result, any number of items
	V1ValueError = 1 // primitive protocol: [[category, code], reason]

	V1Goaway   = 65532 // [[category, code]]; not implemented by the C++ runtime
	V1Ping     = 65533 // []; answered by V1Value [] on its session
	V1Settings = 65534 // []; not implemented by the C++ runtime
	V1Revoke   = 65535 // [session, [category, code]]
)

// String returns "v0" or "v1".
func (d Dialect) String() string {
	switch d {
	case V0:
		return "v0"
	case V1:
		return "v1"
	}
	return "Dialect(" + strconv.Itoa(int(d)) + ")"
}

// Valid reports whether d is V0 or V1.
func (d Dialect) Valid() bool { return d <= V1 }
