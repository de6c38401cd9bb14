package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A result is one measurement: a line of the -out file.
type result struct {
	Run       string  `json:"run"` // rounds count within one
	Mode      string  `json:"mode"`
	Net       string  `json:"net"`
	Round     int     `json:"round"`
	Workload  string  `json:"w"`
	Peer      string  `json:"peer"`
	Ops       uint64  `json:"ops"`
	Bytes     uint64  `json:"bytes"` // of payload, one way
	Seconds   float64 `json:"s"`
	ServerCPU float64 `json:"server_cpu_s"`
	ClientCPU float64 `json:"client_cpu_s"`
	P50       float64 `json:"p50_us,omitempty"`
	P99       float64 `json:"p99_us,omitempty"`
	Foreign   float64 `json:"foreign_cores"` // taken by anybody else meanwhile
	Verified  bool    `json:"verified,omitempty"`
	Err       string  `json:"err,omitempty"`
}

// A window is the time of one measurement, with the clocks at its beginning.
type window struct {
	servers        []int
	at             time.Time
	serverCPU, own float64
	busy           float64
}

func openWindow(servers []int) window {
	w := window{servers: servers, busy: busySeconds()}
	w.serverCPU, w.own = cpuSeconds(servers...), cpuSeconds(os.Getpid())
	w.at = time.Now()
	return w
}

// close fills in what happened since.
func (w *window) close(r *result, ops, size uint64) {
	r.Seconds = time.Since(w.at).Seconds()
	r.ServerCPU = cpuSeconds(w.servers...) - w.serverCPU
	r.ClientCPU = cpuSeconds(os.Getpid()) - w.own
	r.Foreign = (busySeconds() - w.busy - r.ServerCPU - r.ClientCPU) / r.Seconds
	r.Ops, r.Bytes = ops, size
}

// cpuSeconds adds up the CPU clocks of processes, exact to the nanosecond; one that is 0
// or gone has none.
func cpuSeconds(pids ...int) (sum float64) {
	const perProcess, scheduled = 3, 2 // clock_getcpuclockid(3): ~pid, and which clock
	for _, pid := range pids {
		var ts unix.Timespec
		if pid == 0 || unix.ClockGettime(int32(^pid<<perProcess|scheduled), &ts) != nil {
			continue
		}
		sum += float64(ts.Sec) + float64(ts.Nsec)/1e9
	}
	return sum
}

// busySeconds is what all processors did so far, user and system, in steps of 10 ms.
func busySeconds() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var user, nice, system, idle, wait, irq, softirq float64
	fmt.Sscanf(line, "cpu %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &wait, &irq, &softirq)
	const ticks = 100
	return (user + nice + system + irq + softirq) / ticks
}
