package fsm_test

import (
	"testing"

	"github.com/sluice-rpc/sluice/fsm"
)

// oracle is New and Next done the slow way.
type oracle map[state]map[event]state

// newOracle returns nil where New must refuse.
func newOracle(start state, rules []rule) oracle {
	if len(rules) == 0 || start >= fsm.MaxValues {
		return nil
	}
	o := oracle{}
	known, events := map[state]bool{start: true}, map[event]bool{}
	for _, r := range rules {
		_, twice := o[r.From][r.On]
		if twice || r.From >= fsm.MaxValues || r.To >= fsm.MaxValues || r.On >= fsm.MaxValues {
			return nil
		}
		if o[r.From] == nil {
			o[r.From] = map[event]state{}
		}
		o[r.From][r.On] = r.To
		known[r.From], known[r.To], events[r.On] = true, true, true
	}
	if known[29] || known[0] && known[30] || events[0] && events[31] || len(o.reach(start)) != len(known) {
		return nil // see state.String and event.String
	}
	return o
}

// reach returns the states that can be reached from s, with s.
func (o oracle) reach(s state) map[state]bool {
	seen := map[state]bool{}
	for todo := []state{s}; len(todo) > 0; todo = todo[1:] {
		if seen[todo[0]] {
			continue
		}
		seen[todo[0]] = true
		for _, to := range o[todo[0]] {
			todo = append(todo, to)
		}
	}
	return seen
}

func FuzzNew(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0, 0, 0, 1, 1, 1, 2})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 2})
	f.Add([]byte{3, 3, 31, 31, 31, 32, 3})
	f.Add([]byte{0, 0, 1, 29, 0, 2, 30})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 {
			return
		}
		start, program := state(program[0]), program[1:]
		var rules []rule
		for ; len(program) >= 3; program = program[3:] {
			rules = append(rules, rule{From: state(program[0]), On: event(program[1]), To: state(program[2])})
		}
		want := newOracle(start, rules)
		table, err := fsm.New("fuzz", start, rules)
		if (err != nil) != (want == nil) {
			t.Fatalf("New(%v, %v) = %v, want an error: %v", start, rules, err, want == nil)
		}
		if err != nil {
			return
		}
		for s := range 256 {
			for e := range 256 {
				to, legal := want[state(s)][event(e)]
				if !legal {
					to = state(s)
				}
				if got, ok := table.Next(state(s), event(e)); got != to || ok != legal {
					t.Fatalf("Next(%d, %d) = %v, %v, want %v, %v", s, e, got, ok, to, legal)
				}
			}
		}
	})
}
