package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// AppInfo is what an application tells of itself (protocol: app and node).
type AppInfo struct {
	Uptime  time.Duration
	Profile string // its name
	Load    int    // requests that run, on all slaves

	Accepted uint64 // requests that were taken
	Rejected uint64 // requests that were refused: the queue was full, or the App is stopping

	QueueLimit   int // 0: no queue
	QueueDepth   int
	DepthAverage float64       // over a minute
	OldestEvent  time.Duration // age of the first in the queue

	Rate     [3]float64 // requests a second, over 1, 5 and 15 minutes
	RateMean float64    // since the start

	// Timings of the last 1024 requests of clients that ended, from their enqueue on: the
	// times that 50, 75, 90, 95, 98, 99 and 99.95 % of them did not pass.
	Timings [7]time.Duration
	// TimingsReversed is how many of them, in percent, took at most 1, 2, 5, 10, 20, 50,
	// 100, 500 and 1000 ms.
	TimingsReversed [9]float64

	PoolLimit int
	Active    int // slaves that have requests
	Idle      int // the others
	Spawned   uint64
	Crashed   uint64
	Slaves    []AppSlave // by uuid
	Strangers uint64     // connections at the workers' socket that were closed: too many, or without the right handshake; not sent
}

// AppSlave is what an AppInfo tells of a slave.
type AppSlave struct {
	UUID     string
	State    State
	PID      int
	Accepted uint64 // requests that it got
	Load     int    // requests that it has
	Asking   int    // of these, those whose caller has not ended yet what it sends (load:tx)
	Owed     int    // those whose answer the worker has not ended yet (load:rx)
	Oldest   time.Duration
	Uptime   time.Duration
}

var (
	infoQuantiles = [...]float64{50, 75, 90, 95, 98, 99, 99.95}
	infoBounds    = [...]time.Duration{
		time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
		50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second,
	}
)

// Stats returns a snapshot of the application's counters.
func (a *App) Stats() AppInfo {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &a.pool
	i := AppInfo{
		Uptime: now.Sub(a.began), Profile: p.profile.Name,
		Accepted: p.accepted, Rejected: p.rejected, Spawned: p.spawned, Crashed: p.crashed,
		Strangers:  a.lobby.refused(),
		QueueLimit: max(p.profile.QueueLimit, 0), QueueDepth: p.queue.depth, PoolLimit: p.profile.PoolLimit,
	}
	if first := p.queue.first; first != nil {
		i.OldestEvent = now.Sub(first.born)
	}
	for _, m := range p.members {
		one := AppSlave{Accepted: m.accepted, Load: m.load, Uptime: now.Sub(m.began)}
		if m.slave != nil {
			one.UUID, one.State, one.PID = m.slave.uuid, m.slave.State(), m.slave.PID()
			one.Asking, one.Owed = m.slave.halves()
		}
		for _, r := range p.deadlines {
			if r.member == m {
				one.Oldest = max(one.Oldest, now.Sub(r.born))
			}
		}
		i.Slaves = append(i.Slaves, one)
		i.Load += m.load
		if m.load > 0 {
			i.Active++
		}
	}
	i.Idle = len(i.Slaves) - i.Active
	slices.SortFunc(i.Slaves, func(x, y AppSlave) int { return cmp.Compare(x.UUID, y.UUID) })
	a.meter.fill(&i, now)
	return i
}

// AppendInfo appends the info as one msgpack map, with the keys and types of the live
// runtime's info, in the order of its keys.
func (i AppInfo) AppendInfo(dst []byte) []byte {
	dst = codec.AppendMapHeader(dst, 10)
	dst = i.appendPool(appendCount(dst, "load", i.Load))
	dst = appendProfileName(dst, i.Profile)
	dst = i.appendQueue(dst)
	dst = i.appendRates(dst)
	dst = codec.AppendMapHeader(codec.AppendString(dst, "requests"), 2)
	dst = codec.AppendUint(codec.AppendString(dst, "accepted"), i.Accepted)
	dst = codec.AppendUint(codec.AppendString(dst, "rejected"), i.Rejected)
	dst = i.appendTimings(dst)
	return appendCount(dst, "uptime", int(i.Uptime.Seconds()))
}

func appendCount(dst []byte, key string, n int) []byte {
	return codec.AppendInt(codec.AppendString(dst, key), int64(n))
}

func appendProfileName(dst []byte, name string) []byte {
	dst = codec.AppendMapHeader(codec.AppendString(dst, "profile"), 1)
	return codec.AppendString(codec.AppendString(dst, "name"), name)
}

func (i AppInfo) appendPool(dst []byte) []byte {
	dst = codec.AppendMapHeader(codec.AppendString(dst, "pool"), 6)
	dst = appendCount(dst, "active", i.Active)
	dst = appendCount(dst, "capacity", i.PoolLimit)
	dst = appendCount(dst, "idle", i.Idle)
	known := 0
	for _, s := range i.Slaves {
		if s.UUID != "" {
			known++
		}
	}
	dst = codec.AppendMapHeader(codec.AppendString(dst, "slaves"), known)
	for _, s := range i.Slaves {
		if s.UUID != "" {
			dst = s.appendSlave(codec.AppendString(dst, s.UUID), i.Profile)
		}
	}
	dst = codec.AppendUint(codec.AppendString(dst, "total:crashed"), i.Crashed)
	return codec.AppendUint(codec.AppendString(dst, "total:spawned"), i.Spawned)
}

func (s AppSlave) appendSlave(dst []byte, profile string) []byte {
	dst = codec.AppendMapHeader(dst, 8)
	dst = codec.AppendUint(codec.AppendString(dst, "accepted"), s.Accepted)
	dst = appendCount(dst, "load:rx", s.Owed)
	dst = appendCount(dst, "load:total", s.Load)
	dst = appendCount(dst, "load:tx", s.Asking)
	dst = appendCount(dst, "oldest_channel_age", int(s.Oldest.Milliseconds()))
	dst = appendProfileName(dst, profile)
	dst = codec.AppendString(codec.AppendString(dst, "state"), s.State.String())
	return appendCount(dst, "uptime", int(s.Uptime.Seconds()))
}

func (i AppInfo) appendQueue(dst []byte) []byte {
	dst = codec.AppendMapHeader(codec.AppendString(dst, "queue"), 4)
	dst = appendCount(dst, "capacity", i.QueueLimit)
	dst = appendCount(dst, "depth", i.QueueDepth)
	dst = codec.AppendFloat64(codec.AppendString(dst, "depth_average"), places(i.DepthAverage, 3))
	return appendCount(dst, "oldest_event_age", int(i.OldestEvent.Milliseconds()))
}

func (i AppInfo) appendRates(dst []byte) []byte {
	dst = codec.AppendArrayHeader(codec.AppendString(dst, "rate"), len(i.Rate))
	for _, r := range i.Rate {
		dst = codec.AppendFloat64(dst, places(r, 3))
	}
	return codec.AppendFloat64(codec.AppendString(dst, "rate_mean"), places(i.RateMean, 3))
}

func (i AppInfo) appendTimings(dst []byte) []byte {
	dst = codec.AppendMapHeader(codec.AppendString(dst, "timings"), len(i.Timings))
	for n, d := range i.Timings {
		dst = codec.AppendString(dst, fmt.Sprintf("%.2f%%", infoQuantiles[n]))
		dst = codec.AppendFloat64(dst, places(d.Seconds()*1e3, 3))
	}
	dst = codec.AppendMapHeader(codec.AppendString(dst, "timings_reversed"), len(i.TimingsReversed))
	for _, n := range [...]int{8, 6, 3, 0, 4, 1, 7, 5, 2} { // in the order of the keys
		percent := i.TimingsReversed[n]
		dst = codec.AppendString(dst, fmt.Sprintf("%dms", infoBounds[n].Milliseconds()))
		dst = codec.AppendFloat64(dst, places(percent, 2))
	}
	return dst
}

// places rounds up to n places behind the point, as the live runtime does.
func places(v float64, n int) float64 {
	scale := math.Pow10(n)
	return math.Ceil(v*scale) / scale
}
