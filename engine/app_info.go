package engine

import (
	"time"
)

// AppInfo is what an application tells of itself (protocol: info of an app). Its msgpack
// form has the keys and types of the live runtime.
type AppInfo struct {
	Uptime  time.Duration
	Profile string // its name
	Load    int    // requests that run, on all slaves

	Accepted uint64 // requests that were taken
	Rejected uint64 // requests that were refused: the queue was full, or the App is stopping

	QueueLimit   int // 0: no queue
	QueueDepth   int
	DepthAverage float64
	OldestEvent  time.Duration // of the queue

	Rate     [3]float64 // requests a second, over 1, 5 and 15 minutes
	RateMean float64    // since the start

	// Timings of the last requests that ended, from their enqueue on, in the order of
	// InfoQuantiles.
	Timings [7]time.Duration
	// TimingsReversed is how many of them, in percent, took at most InfoBounds.
	TimingsReversed [9]float64

	PoolLimit int
	Active    int // slaves with load
	Idle      int // the others
	Spawned   uint64
	Crashed   uint64
	Slaves    []AppSlave // in the order of their start
}

// AppSlave is what an AppInfo tells of a slave.
type AppSlave struct {
	UUID     string
	State    State
	Accepted uint64
	Load     int
	Tx, Rx   int           // open directions: to the worker, from it
	Oldest   time.Duration // age of its oldest request
	Uptime   time.Duration
	Profile  string
}

// AppendInfo appends the info as one msgpack map, as the live runtime sends it as the one
// argument of info's value.
func (i AppInfo) AppendInfo(dst []byte) []byte { return dst }
