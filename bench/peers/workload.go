package main

import (
	"fmt"
	"slices"
	"strings"
)

// A workload is what one client does for the time of one measurement.
type workload struct {
	name   string
	stream bool // one way; else every frame is echoed
	size   int  // of a payload; 0 is mixed, see mixedSizes
	conns  int
	flight int // frames under way on each connection
}

var workloads = []workload{
	{name: "W1", size: 64, conns: 1, flight: 1},
	{name: "W2-64", size: 64, conns: 1, flight: 64},
	{name: "W2-256", size: 64, conns: 1, flight: 256},
	{name: "W2-64x16", size: 64, conns: 64, flight: 16},
	{name: "W3-1k", stream: true, size: 1 << 10, conns: 1},
	{name: "W3-64k", stream: true, size: 64 << 10, conns: 1},
	{name: "W5", stream: true, conns: 1},
}

// mixedSizes of W5: 32 to 128 bytes, 80 in the mean.
var mixedSizes = [...]int{32, 128, 64, 96, 48, 112, 80, 33, 127, 65, 95, 80}

// mixedSessions is over how many sessions W5 deals its chunks.
const mixedSessions = 100

// sessions counts the sessions that the workload uses on a connection.
func (w *workload) sessions() int {
	if w.size == 0 {
		return mixedSessions
	}
	return 1
}

// findWorkloads returns the workloads of a comma list. "W2" is every one that begins so.
func findWorkloads(list string) ([]workload, error) {
	var found []workload
	for _, want := range strings.Split(list, ",") {
		i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == want })
		if i >= 0 {
			found = append(found, workloads[i])
			continue
		}
		before := len(found)
		for _, w := range workloads {
			if strings.HasPrefix(w.name, want+"-") {
				found = append(found, w)
			}
		}
		if len(found) == before {
			return nil, fmt.Errorf("no workload %q", want)
		}
	}
	return found, nil
}
