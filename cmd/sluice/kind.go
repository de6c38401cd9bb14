package main

import (
	"strings"

	"github.com/sluice-rpc/sluice/codec"
)

// namer says what frames mean, as far as they and those before them tell.
type namer struct {
	opened map[uint64]bool // sessions of v1 that have begun
}

// name returns the kind of the next frame of an input; "" if it cannot be told.
func (n *namer) name(d codec.Dialect, direction string, m *codec.Message) string {
	sender, _, _ := strings.Cut(direction, ">")
	service := direction != "" && !strings.Contains(direction, "engine") && !strings.Contains(direction, "worker")
	if d == codec.V0 {
		if service && strings.HasPrefix(sender, "client") {
			return codec.KindCall.String()
		}
		return nameV0(m)
	}
	first := !n.opened[m.Session]
	if n.opened == nil {
		n.opened = make(map[uint64]bool)
	}
	n.opened[m.Session] = true
	switch {
	case service && first:
		return codec.KindCall.String()
	case service:
		return ""
	case m.Session == codec.V1ControlSession:
		return nameControl(m)
	case first && m.Type == codec.V1Invoke && m.Payload != nil:
		return codec.KindInvoke.String()
	}
	return nameStream(m)
}

// nameV0: types mean the same everywhere.
func nameV0(m *codec.Message) string {
	names := [...]codec.Kind{
		codec.V0Handshake: codec.KindHandshake,
		codec.V0Heartbeat: codec.KindHeartbeat,
		codec.V0Terminate: codec.KindTerminate,
		codec.V0Invoke:    codec.KindInvoke,
		codec.V0Chunk:     codec.KindChunk,
		codec.V0Error:     codec.KindError,
		codec.V0Choke:     codec.KindChoke,
	}
	if m.Type >= uint64(len(names)) {
		return ""
	}
	return names[m.Type].String()
}

// nameControl: a handshake differs from a heartbeat by its uuid.
func nameControl(m *codec.Message) string {
	switch {
	case m.Type == codec.V1Terminate:
		return codec.KindTerminate.String()
	case m.Type != codec.V1Heartbeat:
		return ""
	case m.Payload != nil:
		return codec.KindHandshake.String()
	}
	return codec.KindHeartbeat.String()
}

// nameStream is for sessions between engine and worker that have begun.
func nameStream(m *codec.Message) string {
	switch m.Type {
	case codec.V1Write:
		return codec.KindChunk.String()
	case codec.V1Error:
		return codec.KindError.String()
	case codec.V1Close:
		return codec.KindChoke.String()
	}
	return ""
}
