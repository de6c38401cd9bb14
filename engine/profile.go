package engine

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// Profile says how many workers an [App] has and how long things may take (protocol:
// profile). The zero Profile is DefaultProfile; of any other a zero field means its
// default and a negative one none or no limit, where that makes sense.
type Profile struct {
	// Name of the profile, for Info. If empty, "default".
	Name string

	// SpawnTimeout (spawn-timeout) is read, kept and shown, and bounds nothing: in the live
	// runtime it is for the answer of an isolation daemon, and Isolate has none. The system
	// starts a process in one call that has succeeded or failed when it returns; what the
	// process then takes is HandshakeTimeout's. If zero, 1 s.
	SpawnTimeout time.Duration
	// HandshakeTimeout (handshake-timeout, in v0 startup-timeout) is the time from the
	// start of a process until its slave is active. If zero, 5 s, in v0 10 s. A command
	// that compiles first, like go run, wants minutes.
	HandshakeTimeout time.Duration
	// HeartbeatTimeout (heartbeat-timeout) of an active slave. If zero, 30 s.
	HeartbeatTimeout time.Duration
	// IdleTimeout (idle-timeout): a slave that had nothing to do for so long is
	// terminated, unless the population wants it. If zero, 600 s. If negative, never,
	// which is 0 in a profile on the wire.
	IdleTimeout time.Duration
	// TerminateTimeout (terminate-timeout, in v0 termination-timeout) lies between a
	// terminate and SIGTERM. If zero, 10 s, in v0 5 s.
	TerminateTimeout time.Duration
	// SealTimeout (seal-timeout) bounds how long open requests may hold up the end of a
	// slave, and of the whole application. If zero, 60 s.
	SealTimeout time.Duration
	// RequestTimeout (request-timeout) bounds a request from its enqueue until both sides
	// have ended it, unless its request_timeout header says otherwise. If zero, 24 h.
	RequestTimeout time.Duration

	// Concurrency (concurrency) is how many requests a slave gets at once. If zero, 10.
	Concurrency int
	// PoolLimit (pool-limit) bounds the slaves. If zero, 10. At most MaxPoolLimit.
	PoolLimit int
	// QueueLimit (queue-limit) bounds the requests that wait for a slave. If zero, 100. If
	// negative, there is no queue, which is 0 on the wire: a request is taken while the
	// pool at its largest had a free slot for it.
	QueueLimit int
	// GrowThreshold (grow-threshold): the pool grows by a slave for so many requests in
	// the queue. If zero, QueueLimit/PoolLimit/2, at least 1.
	GrowThreshold int
	// CrashlogLimit (crashlog-limit) is how many of a worker's last lines are kept. If
	// zero, 50. If negative, none. At most 10,000, each of up to 4 KiB.
	CrashlogLimit int
	// LogOutput (log-output) has what workers write logged, line by line.
	LogOutput bool

	// Isolate (isolate.type) is how workers are run. If empty, "process", which is the
	// only one there is.
	Isolate string

	// PublishOn (publish-on) is how many active slaves the application needs for
	// AppConfig.OnPublish(true); 0: it is published from the start.
	PublishOn int
	// UnpublishUnder (unpublish-under): with fewer active slaves it is unpublished again;
	// 0: never.
	UnpublishUnder int
}

// MaxPoolLimit bounds Profile.PoolLimit.
const MaxPoolLimit = 1024

// DefaultProfile returns the profile with the defaults of a dialect (protocol: profile).
func DefaultProfile(d codec.Dialect) Profile { return Profile{}.withDefaults(d) }

// withDefaults replaces what is zero.
func (p Profile) withDefaults(d codec.Dialect) Profile {
	handshake, terminate := 5*time.Second, 10*time.Second
	if d == codec.V0 {
		handshake, terminate = 10*time.Second, 5*time.Second
	}
	orDuration(&p.SpawnTimeout, time.Second)
	orDuration(&p.HandshakeTimeout, handshake)
	orDuration(&p.HeartbeatTimeout, 30*time.Second)
	orDuration(&p.IdleTimeout, 600*time.Second)
	orDuration(&p.TerminateTimeout, terminate)
	orDuration(&p.SealTimeout, 60*time.Second)
	orDuration(&p.RequestTimeout, 24*time.Hour)
	p.Concurrency = cmp.Or(p.Concurrency, 10)
	p.PoolLimit = cmp.Or(p.PoolLimit, 10)
	p.QueueLimit = cmp.Or(p.QueueLimit, 100)
	if p.Concurrency > 0 && p.PoolLimit > 0 {
		p.GrowThreshold = cmp.Or(p.GrowThreshold, max(1, max(p.QueueLimit, 0)/p.PoolLimit/2))
	}
	p.CrashlogLimit = cmp.Or(p.CrashlogLimit, 50)
	if p.Name == "" {
		p.Name = "default"
	}
	if p.Isolate == "" {
		p.Isolate = "process"
	}
	return p
}

// Validate returns what is wrong with a profile, each fault with the key of the field.
func (p Profile) Validate() error {
	var faults []error
	count := func(key string, n, most int) {
		if n < 0 || n > most {
			faults = append(faults, faulty(key, "is %d, want 1 to %d", n, most))
		}
	}
	count("concurrency", p.Concurrency, math.MaxInt32)
	count("pool-limit", p.PoolLimit, MaxPoolLimit)
	count("grow-threshold", p.GrowThreshold, math.MaxInt32)
	atLeast := func(key string, n int) {
		if n < 0 {
			faults = append(faults, faulty(key, "is %d, want 0 or more", n))
		}
	}
	atLeast("publish-on", p.PublishOn)
	atLeast("unpublish-under", p.UnpublishUnder)
	atMost := func(key string, n, most int) {
		if n > most {
			faults = append(faults, faulty(key, "is %d, want at most %d", n, most))
		}
	}
	atMost("queue-limit", p.QueueLimit, maxQueueLimit)
	atMost("crashlog-limit", p.CrashlogLimit, maxCrashlogLimit)
	if p.Isolate != "" && p.Isolate != "process" {
		faults = append(faults, faulty("isolate.type", "is %q, want \"process\", the only one there is", p.Isolate))
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("engine: profile: %w", errors.Join(faults...))
}

// profileFault is what is wrong with one key of a profile.
type profileFault struct{ key, text string }

// Error returns for example "pool-limit is no whole number".
func (f *profileFault) Error() string { return f.key + " " + f.text }

func faulty(key, format string, args ...any) error {
	return &profileFault{key, fmt.Sprintf(format, args...)}
}

// faultyField returns the field of a profile that err is about and what is wrong with it:
// the first one, or the whole.
func faultyField(err error) (field string, cause error) {
	if f := (*profileFault)(nil); errors.As(err, &f) {
		return f.key, errors.New(f.text)
	}
	return "", err
}

const (
	// maxQueueLimit bounds Profile.QueueLimit: each request in the queue holds a session
	// and what its client has sent.
	maxQueueLimit = 1 << 20
	// maxCrashlogLimit bounds Profile.CrashlogLimit: a worker that never stops writing
	// has so many lines in our memory.
	maxCrashlogLimit = 10_000
)
