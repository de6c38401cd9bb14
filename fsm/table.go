package fsm

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// MaxValues is how many states, and how many events, a table may have: their values are 0 to MaxValues-1.
const MaxValues = 32

// Enum is what states and events are: small enums that can say their names.
type Enum interface {
	~uint8
	fmt.Stringer
}

// Rule is one legal move: in state From, the event On leads to state To. From and To may be equal.
type Rule[S, E Enum] struct {
	From S
	On   E
	To   S
}

// String returns the rule as "from --on--> to".
func (r Rule[S, E]) String() string {
	return r.From.String() + " --" + r.On.String() + "--> " + r.To.String()
}

// Table is the set of legal moves of one kind of machine. It is immutable: any goroutine may read it.
type Table[S, E Enum] struct {
	name  string
	start S
	rules []Rule[S, E] // ordered by From, then On

	states uint32            // bit s: the table knows state s
	events uint32            // bit e: the table knows event e
	legal  [MaxValues]uint32 // bit e of legal[s]: e may happen in s
	next   [MaxValues][MaxValues]S
}

// New builds a table. The name stands in errors and diagrams. It refuses, naming the rule or the value:
//   - an empty set of rules;
//   - a value of [MaxValues] or more;
//   - two rules for one state and event, even if they agree;
//   - a state that no path from start reaches;
//   - two states, or two events, that share a name, and an empty name: a String method that lacks a case.
func New[S, E Enum](name string, start S, rules []Rule[S, E]) (*Table[S, E], error) {
	t := &Table[S, E]{name: name, start: start}
	if len(rules) == 0 {
		return nil, t.errorf("no rules")
	}
	if start >= MaxValues {
		return nil, t.errorf("start: state %d is over the bound of %d", uint8(start), MaxValues-1)
	}
	t.states = 1 << start
	for i, r := range rules {
		if err := t.add(i, r); err != nil {
			return nil, err
		}
	}
	t.rules = slices.Clone(rules)
	slices.SortFunc(t.rules, func(a, b Rule[S, E]) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.On, b.On))
	})
	if err := t.checkReach(); err != nil {
		return nil, err
	}
	if err := checkNames(t, "states", t.States()); err != nil {
		return nil, err
	}
	if err := checkNames(t, "events", t.Events()); err != nil {
		return nil, err
	}
	return t, nil
}

// Must is [New] for a package-level table: it panics with the error, which is then a bug in the rules as written.
func Must[S, E Enum](name string, start S, rules []Rule[S, E]) *Table[S, E] {
	t, err := New(name, start, rules)
	if err != nil {
		panic(err)
	}
	return t
}

// Next returns the state that the event leads to. Where the event is not legal, and for values that the table does
// not know, it returns s itself and false. It does not allocate.
func (t *Table[S, E]) Next(s S, e E) (S, bool) {
	if s >= MaxValues || e >= MaxValues || t.legal[s]>>e&1 == 0 {
		return s, false
	}
	return t.next[s][e], true
}

// Machine returns a new machine in the start state. It belongs to the caller.
func (t *Table[S, E]) Machine() Machine[S, E] {
	return Machine[S, E]{table: t, state: t.start}
}

// Name returns the name given to [New].
func (t *Table[S, E]) Name() string { return t.name }

// Start returns the state that machines start in.
func (t *Table[S, E]) Start() S { return t.start }

// States returns every state of the table in order of value. The slice is the caller's.
func (t *Table[S, E]) States() []S { return values[S](t.states) }

// Events returns every event of the table in order of value. The slice is the caller's.
func (t *Table[S, E]) Events() []E { return values[E](t.events) }

// Rules returns the rules, ordered by From, then On. The slice is the caller's.
func (t *Table[S, E]) Rules() []Rule[S, E] { return slices.Clone(t.rules) }

// Final reports whether s is a state of the table that no event leads out of. A state whose only events lead back to
// itself is final too.
func (t *Table[S, E]) Final(s S) bool {
	if s >= MaxValues || t.states>>s&1 == 0 {
		return false
	}
	for legal := t.legal[s]; legal != 0; legal &= legal - 1 {
		if t.next[s][bits.TrailingZeros32(legal)] != s {
			return false
		}
	}
	return true
}

// add enters rule i, or says why it cannot stand. A value over the bound is shown as a number: its String may not
// know it.
func (t *Table[S, E]) add(i int, r Rule[S, E]) error {
	for _, s := range []S{r.From, r.To} {
		if s >= MaxValues {
			return t.errorf("rule %d: state %d is over the bound of %d", i, uint8(s), MaxValues-1)
		}
	}
	if r.On >= MaxValues {
		return t.errorf("rule %d: event %d is over the bound of %d", i, uint8(r.On), MaxValues-1)
	}
	if to, ok := t.Next(r.From, r.On); ok {
		return t.errorf("rule %d (%v): an earlier rule moves %v on %v to %v", i, r, r.From, r.On, to)
	}
	t.states |= 1<<r.From | 1<<r.To
	t.events |= 1 << r.On
	t.legal[r.From] |= 1 << r.On
	t.next[r.From][r.On] = r.To
	return nil
}

// checkReach fails for the first state that no path from start reaches.
func (t *Table[S, E]) checkReach() error {
	reached := uint32(1) << t.start
	for before := uint32(0); before != reached; {
		before = reached
		for _, r := range t.rules {
			if reached>>r.From&1 == 1 {
				reached |= 1 << r.To
			}
		}
	}
	for _, r := range t.rules {
		if reached>>r.From&1 == 0 {
			return t.errorf("rule %v: nothing leads from %v to %v", r, t.start, r.From)
		}
	}
	return nil
}

// errorf returns an error that names the table.
func (t *Table[S, E]) errorf(format string, args ...any) error {
	return fmt.Errorf("fsm %q: %w", t.name, fmt.Errorf(format, args...))
}

// checkNames fails when a value has no name or two values share one.
func checkNames[S, E, V Enum](t *Table[S, E], kind string, all []V) error {
	owner := make(map[string]V, len(all))
	for _, v := range all {
		name := v.String()
		if name == "" {
			return t.errorf("%s: value %d has no name", kind, uint8(v))
		}
		if first, taken := owner[name]; taken {
			return t.errorf("%s: values %d and %d are both called %q", kind, uint8(first), uint8(v), name)
		}
		owner[name] = v
	}
	return nil
}

// values returns the values whose bits are set, in order.
func values[V Enum](set uint32) []V {
	out := make([]V, 0, bits.OnesCount32(set))
	for ; set != 0; set &= set - 1 {
		out = append(out, V(bits.TrailingZeros32(set)))
	}
	return out
}
