package main

import (
	"fmt"

	"github.com/sluice-rpc/sluice/session"
)

// A peer is one server in the comparison.
type peer struct {
	name string
	wire *wire // what its clients speak
	// serve listens, calls ready with its address, and serves for ever. nil: the
	// server is a program of its own, which the runner starts (cepoll).
	serve func(network, addr string) error
}

// peers is the whole field; a new one is a line here and a file of its own.
var peers = []peer{
	{"gnet", &prefixWire, serveGnet(newPrefixEcho)},
	{"cepoll", &prefixWire, nil},
	{"goepoll", &prefixWire, serveGoEpoll},
	{"gnet-mp-dense", &denseWire, serveGnet(newDenseEcho)},
	{"sluice", &v0Wire, serveWorkers(v0Wire.dialect)},
	{"sluice-v1", &v1Wire, serveWorkers(v1Wire.dialect)},
	{"sluice-table", &tableWire, serveTables},
	{"relay", &v1Wire, serveRelay},
	{"engine", &appWire, serveEngine(false, session.Extensions{})},
	{"chain", &appWire, serveEngine(true, session.Extensions{})},
	{"chain-plain", &appWire, serveEngine(true, session.Extensions{NoCredit: true, NoCancel: true, NoDeadline: true, NoCompression: true})},
}

func findPeer(name string) (*peer, error) {
	for i := range peers {
		if peers[i].name == name {
			return &peers[i], nil
		}
	}
	return nil, fmt.Errorf("no peer %q", name)
}

func peerNames() []string {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	return names
}
