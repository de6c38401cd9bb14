package service

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-rpc/sluice/fsm"
)

// Policy says how a Balancer chooses among the instances that are ready.
type Policy uint8

// The policies.
const (
	// PreferFirst takes the first in the order of preference, as C++ clients do.
	PreferFirst Policy = iota
	// RoundRobin takes the one that was not chosen for the longest time.
	RoundRobin
	// LeastInFlight takes the one with the fewest open calls, of several the one that was
	// not chosen for the longest time.
	LeastInFlight
	// PowerOfTwo takes of two at random the one with fewer open calls. It is as good as
	// LeastInFlight where many clients choose at once without knowing of each other.
	PowerOfTwo
	// ByKey takes the same for the same key, in every client that lists the same instances
	// (rendezvous hashing): when one goes, only its keys move. Without a key it is
	// PowerOfTwo.
	ByKey
)

// String returns the policy's name.
func (p Policy) String() string {
	return [...]string{"first", "round_robin", "least_in_flight", "power_of_two", "by_key", "unknown"}[min(p, ByKey+1)]
}

// Outcome is what a call says about the instance that it was made to.
type Outcome uint8

// The outcomes.
const (
	// Neutral says nothing: the caller gave up, or the call never left.
	Neutral Outcome = iota
	// Succeeded says that the instance answered, if only with an error of its own.
	Succeeded
	// Failed says that it did not: it could not be dialled, was lost, or was too late.
	Failed
)

// BalanceConfig configures a Balancer. The zero value works.
type BalanceConfig struct {
	// Policy of the choice. If zero, PreferFirst.
	Policy Policy
	// EjectAfter is how many failures in a row eject an instance. If zero, 5. If negative,
	// none does. One that is back from ejection is ejected again by the first failure
	// before a success.
	EjectAfter int
	// EjectFor is how long the first ejection lasts; each one behind it takes twice as
	// long, until the instance has been well for as long as it was away. If zero, 5 s.
	EjectFor time.Duration
	// MaxEjectFor bounds that. If zero, 5 minutes. If negative, no limit.
	MaxEjectFor time.Duration
	// MaxEjectedPercent is how much of all instances may be ejected at a time; never are
	// all of them, and where there are several, one always may. If zero, 50.
	MaxEjectedPercent int
	// SlowStart is how long an instance that comes back gets less than its share, which
	// grows evenly from a tenth to the whole. If zero, 10 s. If negative, none.
	SlowStart time.Duration
	// Random is where the Balancer gets random numbers from; it is then the Balancer's
	// own. If nil, one with a random seed.
	Random rand.Source
}

// Balancer chooses one of the instances of a service for each call, leaves out those that
// fail, and lets them back in slowly. It is pure: without clock, I/O, goroutines and
// locks. Its owner guards it and tells it the time, which never runs backwards.
//
//	b, err := service.NewBalancer(service.BalanceConfig{Policy: service.PowerOfTwo})
//	b.Update(now, resolved.Endpoints)        // at each answer of the locator
//	i := b.Pick(now, key)                    // nil: no instance at all
//	... call what is at i.Endpoint ...
//	b.Done(i, now, service.Succeeded)        // once for each Pick
//	other := b.Pick(now, key, i)             // fail-over: anything but i
//	b.Drain(i)                               // i said that it is going away
//
// An owner keeps what belongs to an instance, its connection for example, in
// Instance.Value.
type Balancer struct {
	// immutable
	cfg    BalanceConfig
	random *rand.Rand

	// owned by the caller
	list    []*Instance // ready, ejected and draining; in the order of preference
	ready   int         // how many of list are ready
	ejected int         // and how many ejected
	turn    uint64      // counts choices
}

// Instance is one place where a service is. It belongs to its Balancer, whose guard
// guards it.
type Instance struct {
	// Endpoint is where it is, and what makes it the same in two Updates. Immutable.
	Endpoint Endpoint
	// Value is the owner's. The Balancer keeps it as long as the Instance, and does not
	// look at it.
	Value any

	machine   fsm.Machine[InstanceState, instanceEvent]
	hash      uint64 // of the endpoint, for ByKey
	notified  bool   // draining since it said so: an Update does not call it back
	inFlight  int
	last      uint64    // turn of the last choice
	fails     int       // in a row
	ejections int       // in a row
	until     time.Time // ejected: when it may come back
	since     time.Time // ready: when it came back; zero if it has its whole share
	picks     uint64
	failures  uint64
	ejectedN  uint64
}

// InstanceStats is what a Balancer counts about an Instance.
type InstanceStats struct {
	Endpoint  Endpoint
	State     InstanceState
	InFlight  int       // calls that are open
	Weight    float64   // of its share: 0.1 to 1, and 0 if it is not ready
	Until     time.Time // if ejected: when it may come back
	Picks     uint64
	Failures  uint64
	Ejections uint64
}

// NewBalancer returns a Balancer without instances. It starts no goroutine.
func NewBalancer(cfg BalanceConfig) (*Balancer, error) {
	if cfg.Policy > ByKey {
		return nil, fmt.Errorf("service: balance policy %d: there are 0 to %d", cfg.Policy, ByKey)
	}
	if cfg.MaxEjectedPercent < 0 || cfg.MaxEjectedPercent > 100 || cfg.EjectFor < 0 {
		return nil, fmt.Errorf("service: MaxEjectedPercent %d, EjectFor %v: want 0 to 100, and not negative",
			cfg.MaxEjectedPercent, cfg.EjectFor)
	}
	if cfg.EjectAfter == 0 {
		cfg.EjectAfter = 5
	}
	if cfg.EjectFor == 0 {
		cfg.EjectFor = 5 * time.Second
	}
	if cfg.MaxEjectFor == 0 {
		cfg.MaxEjectFor = 5 * time.Minute
	}
	if cfg.MaxEjectedPercent == 0 {
		cfg.MaxEjectedPercent = 50
	}
	if cfg.SlowStart == 0 {
		cfg.SlowStart = 10 * time.Second
	}
	if cfg.Random == nil {
		cfg.Random = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	return &Balancer{cfg: cfg, random: rand.New(cfg.Random)}, nil
}

// Update says where the service is now, in the order of preference; of an endpoint that
// is there twice the first counts, and only the first MaxEndpoints do. Instances that are
// listed still keep their history. Those that are not are drained, and are listed again
// by a later Update without loss. One that was drained by Drain stays so while it has
// calls. endpoints is borrowed.
func (b *Balancer) Update(endpoints []Endpoint) {
	old := b.list
	b.list = make([]*Instance, 0, min(len(endpoints), MaxEndpoints)+len(old))
	for _, e := range endpoints {
		switch at := indexOf(old, e); {
		case len(b.list) == MaxEndpoints || indexOf(b.list, e) >= 0:
		case at < 0:
			b.list = append(b.list, newInstance(e))
			b.ready++
		default:
			i := old[at]
			if !i.notified {
				b.fire(i, instRelist)
			}
			b.list = append(b.list, i)
		}
	}
	for _, i := range old {
		if indexOf(b.list, i.Endpoint) < 0 {
			b.fire(i, instDrain)
			if i.inFlight > 0 && len(b.list) < 2*MaxEndpoints {
				b.list = append(b.list, i)
			} else {
				b.fire(i, instForget)
			}
		}
	}
}

func newInstance(e Endpoint) *Instance {
	return &Instance{Endpoint: e, machine: instanceTable.Machine(), hash: hashEndpoint(e)}
}

func indexOf(list []*Instance, e Endpoint) int {
	return slices.IndexFunc(list, func(i *Instance) bool { return i.Endpoint == e })
}

// fire moves an instance and keeps count of the states.
func (b *Balancer) fire(i *Instance, e instanceEvent) bool {
	from, to, ok := i.machine.Fire(e)
	if !ok {
		return false
	}
	b.count(from, -1)
	b.count(to, +1)
	return true
}

func (b *Balancer) count(s InstanceState, by int) {
	switch s {
	case InstanceReady:
		b.ready += by
	case InstanceEjected:
		b.ejected += by
	}
}

// Pick chooses an instance for a call, and counts the call as open until Done. The key
// matters to ByKey only. What is in except is not chosen: instances that this very call
// has been tried on. It is nil if no other is left. If all others are ejected, the one
// that would come back first is chosen, and let back in if nothing else is ready. Pick
// does not allocate.
func (b *Balancer) Pick(now time.Time, key string, except ...*Instance) *Instance {
	b.readmit(now)
	i := b.choose(now, key, except)
	if i == nil {
		if i = b.soonest(except); i == nil {
			return nil
		}
		if b.ready == 0 {
			b.letIn(i, now)
		}
	}
	b.turn++
	i.last = b.turn
	i.inFlight++
	i.picks++
	return i
}

// readmit lets those back in that have rested for long enough.
func (b *Balancer) readmit(now time.Time) {
	if b.ejected == 0 {
		return
	}
	for _, i := range b.list {
		if i.State() == InstanceEjected && !now.Before(i.until) {
			b.letIn(i, now)
		}
	}
}

// letIn lets an ejected instance back in, on probation.
func (b *Balancer) letIn(i *Instance, now time.Time) {
	b.fire(i, instReadmit)
	i.since = now
	i.fails = b.cfg.EjectAfter - 1
}

// soonest returns the ejected instance that would come back first, nil if there is none.
func (b *Balancer) soonest(except []*Instance) (best *Instance) {
	for _, i := range b.list {
		if i.State() == InstanceEjected && !slices.Contains(except, i) && (best == nil || i.until.Before(best.until)) {
			best = i
		}
	}
	return best
}

// Done says that a call of Pick has ended, and how. Any Pick has one Done, even if the
// instance has been drained or forgotten since.
func (b *Balancer) Done(i *Instance, now time.Time, o Outcome) {
	if i.inFlight > 0 {
		i.inFlight--
	}
	b.Report(i, now, o)
	if i.State() == InstanceDraining && i.inFlight == 0 {
		b.forget(i)
	}
}

// Report says how an instance is without a call having ended: a lost connection is a
// failure, a heartbeat may be a success.
func (b *Balancer) Report(i *Instance, now time.Time, o Outcome) {
	switch o {
	case Failed:
		i.failures++
		i.fails++
		if b.cfg.EjectAfter > 0 && i.fails >= b.cfg.EjectAfter && i.State() == InstanceReady && b.mayEject() {
			b.eject(i, now)
		}
	case Succeeded:
		if i.State() != InstanceReady {
			return // the rest of a call from before
		}
		i.fails = 0
		if i.ejections > 0 && now.Sub(i.since) >= b.restOf(i.ejections) {
			i.ejections = 0
		}
	}
}

// mayEject reports whether one more instance may be ejected.
func (b *Balancer) mayEject() bool {
	most := max((b.ready+b.ejected)*b.cfg.MaxEjectedPercent/100, 1)
	return b.ready > 1 && b.ejected < most
}

func (b *Balancer) eject(i *Instance, now time.Time) {
	b.fire(i, instEject)
	i.ejections++
	i.ejectedN++
	i.until = now.Add(b.restOf(i.ejections))
}

// restOf returns how long the ejection of that number lasts, the first of which is 1.
func (b *Balancer) restOf(number int) time.Duration {
	return Backoff{Base: b.cfg.EjectFor, Max: b.cfg.MaxEjectFor}.bound(number - 1)
}

// Drain says that an instance is going away: it gets no more calls, and is forgotten when
// its last has ended. An Update that lists it behind that makes it a new one.
func (b *Balancer) Drain(i *Instance) {
	i.notified = true
	b.fire(i, instDrain)
	if i.State() == InstanceDraining && i.inFlight == 0 {
		b.forget(i)
	}
}

func (b *Balancer) forget(i *Instance) {
	b.fire(i, instForget)
	if at := slices.Index(b.list, i); at >= 0 {
		b.list = slices.Delete(b.list, at, at+1)
	}
}

// Len returns how many instances may get calls, now or when they are let back in.
func (b *Balancer) Len() int { return b.ready + b.ejected }

// All returns the instances that are not forgotten, in the order of preference, and behind
// them those that are not listed any more but have open calls. The slice is the caller's.
func (b *Balancer) All() []*Instance { return slices.Clone(b.list) }

// AppendStats appends the counts of All.
func (b *Balancer) AppendStats(dst []InstanceStats, now time.Time) []InstanceStats {
	for _, i := range b.list {
		s := InstanceStats{
			Endpoint: i.Endpoint, State: i.State(), InFlight: i.inFlight,
			Picks: i.picks, Failures: i.failures, Ejections: i.ejectedN,
		}
		switch s.State {
		case InstanceReady:
			s.Weight = b.weight(i, now)
		case InstanceEjected:
			s.Until = i.until
		}
		dst = append(dst, s)
	}
	return dst
}

// State returns what the Balancer thinks of the instance.
func (i *Instance) State() InstanceState { return i.machine.State() }

// InFlight returns how many calls to the instance are open.
func (i *Instance) InFlight() int { return i.inFlight }
