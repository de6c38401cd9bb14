package service

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/sluice-rpc/sluice/codec"
)

// Resolved is what a locator says of a service: where it is, and what it is (protocol:
// locator).
type Resolved struct {
	// Endpoints in the order of preference, of v4 and v6 addresses alike. v0 has exactly
	// one, and it is the name of a host. See Gone.
	Endpoints []Endpoint
	// Version of the service's protocol. Clients that ask for 0 take any.
	Version uint32
	// API of the service. A nil one is written as an empty one, which is what a service
	// has that was published without.
	API *API
}

// Gone reports whether there is no endpoint: in an update of [Update] that the service
// left (protocol: locator, connect).
func (s Resolved) Gone() bool { return len(s.Endpoints) == 0 }

// DecodeResolved reads v1's answer to resolve: the argument array of a value,
// [[[host, port]...], version, graph] (protocol: locator). args is borrowed. A graph
// that makes no sense is a *GraphError.
func DecodeResolved(args []byte) (Resolved, error) {
	r := argsReader(args)
	s := r.resolved()
	return done(&r, "resolve", s)
}

// AppendResolved appends the argument array that DecodeResolved reads.
func AppendResolved(dst []byte, s Resolved) []byte {
	dst = AppendEndpoints(codec.AppendArrayHeader(dst, 3), s.Endpoints)
	return AppendAPI(codec.AppendUint(dst, uint64(s.Version)), s.API)
}

// DecodeResolvedV0 reads v0's answer to resolve: the data of a chunk, which is
// [[host, port], version, {number: name}], packed once more (protocol: locator). chunk
// is borrowed and holds nothing else. An API that makes no sense is a *GraphError.
func DecodeResolvedV0(chunk []byte) (Resolved, error) {
	r := valueReader(chunk)
	surplus := r.tuple("answer", 3)
	s := Resolved{Endpoints: []Endpoint{r.endpoint()}, Version: r.version()}
	s.API = r.api(readAPIV0)
	r.skip(surplus)
	r.end()
	return done(&r, "resolve", s)
}

// AppendResolvedV0 appends the data of the chunk that DecodeResolvedV0 reads. v0 has room
// for the first endpoint only; without one there is an error, and dst is as before.
func AppendResolvedV0(dst []byte, s Resolved) ([]byte, error) {
	if s.Gone() {
		return dst, errors.New("service: v0 cannot say where a service without endpoints is")
	}
	dst = AppendEndpoint(codec.AppendArrayHeader(dst, 3), s.Endpoints[0])
	return AppendAPIV0(codec.AppendUint(dst, uint64(s.Version)), s.API), nil
}

// resolved reads the items of an array: endpoints, version and graph.
func (r *reader) resolved() Resolved {
	s := Resolved{Endpoints: r.endpoints(), Version: r.version()}
	s.API = r.api(readAPI)
	return s
}

func (r *reader) version() uint32 { return uint32(r.number("version", math.MaxUint32)) }

func (r *reader) api(read func(*reader) (*API, error)) *API {
	if !r.ok() {
		return nil
	}
	a, err := read(r)
	if err != nil {
		r.refused = err
	}
	return a
}

// Update is one message of the stream that answers connect: what has changed among the
// services of a node (protocol: locator).
type Update struct {
	// UUID of the node.
	UUID string
	// Services by name. One that is Gone has left the node.
	Services map[string]Resolved
}

// DecodeUpdate reads the argument array [uuid, {name: [endpoints, version, graph]}], of at
// most MaxEntries services. args is borrowed. A graph that makes no sense is a
// *GraphError, and the update is lost. Of a name that is there twice the last counts.
func DecodeUpdate(args []byte) (Update, error) {
	r := argsReader(args)
	u := Update{UUID: r.name("uuid"), Services: make(map[string]Resolved)}
	for n := r.table("services", MaxEntries); n > 0 && r.ok(); n-- {
		name := r.name("service")
		surplus := r.tuple("service", 3)
		u.Services[name] = r.resolved()
		r.skip(surplus)
		if err := r.Err(); err != nil {
			r.refused = fmt.Errorf("%.64q: %w", name, err)
		}
	}
	return done(&r, "connect", u)
}

// AppendUpdate appends the argument array that DecodeUpdate reads.
func AppendUpdate(dst []byte, u Update) []byte {
	dst = codec.AppendString(codec.AppendArrayHeader(dst, 2), u.UUID)
	dst = codec.AppendMapHeader(dst, len(u.Services))
	for _, name := range sortedKeys(u.Services) {
		dst = AppendResolved(codec.AppendString(dst, name), u.Services[name])
	}
	return dst
}

// DecodeCluster reads the answer to cluster: the argument array [{uuid: [host, port]}], of
// at most MaxEntries nodes, with where the locator of each is (protocol: locator). args
// is borrowed. Of a node that is there twice the last counts.
func DecodeCluster(args []byte) (map[string]Endpoint, error) {
	r := argsReader(args)
	nodes := make(map[string]Endpoint)
	for n := r.table("nodes", MaxEntries); n > 0 && r.ok(); n-- {
		uuid := r.name("uuid")
		nodes[uuid] = r.endpoint()
	}
	return done(&r, "cluster", nodes)
}

// AppendCluster appends the argument array that DecodeCluster reads.
func AppendCluster(dst []byte, nodes map[string]Endpoint) []byte {
	dst = codec.AppendMapHeader(codec.AppendArrayHeader(dst, 1), len(nodes))
	for _, uuid := range sortedKeys(nodes) {
		dst = AppendEndpoint(codec.AppendString(dst, uuid), nodes[uuid])
	}
	return dst
}

// sortedKeys returns the keys as the C++ runtime orders them.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
