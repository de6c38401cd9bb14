package fsm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/fsm"
)

type state uint8

func (s state) String() string {
	switch {
	case s == 29:
		return ""
	case s == 30:
		return "s0"
	}
	return fmt.Sprintf("s%d", uint8(s))
}

type event uint8

func (e event) String() string {
	if e == 31 {
		return "e0"
	}
	return fmt.Sprintf("e%d", uint8(e))
}

type rule = fsm.Rule[state, event]

// loop is a table with a cycle, a self-loop, two events on one arrow and a final state.
var loop = []rule{
	{From: 1, On: 1, To: 2},
	{From: 0, On: 0, To: 1},
	{From: 1, On: 2, To: 0},
	{From: 1, On: 0, To: 1},
	{From: 1, On: 3, To: 0},
	{From: 2, On: 1, To: 2},
}

func TestTable(t *testing.T) {
	table, err := fsm.New("loop", state(0), loop)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Name(); got != "loop" {
		t.Errorf("Name() = %q, want loop", got)
	}
	if got := table.Start(); got != 0 {
		t.Errorf("Start() = %v, want s0", got)
	}
	if got, want := table.States(), []state{0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("States() = %v, want %v", got, want)
	}
	if got, want := table.Events(), []event{0, 1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("Events() = %v, want %v", got, want)
	}
	for s, want := range map[state]bool{0: false, 1: false, 2: true, 3: false, 31: false, 32: false, 255: false} {
		if got := table.Final(s); got != want {
			t.Errorf("Final(%d) = %v, want %v", uint8(s), got, want)
		}
	}
	for _, c := range []struct {
		from state
		on   event
		to   state
		ok   bool
	}{
		{0, 0, 1, true},
		{1, 0, 1, true},
		{1, 3, 0, true},
		{0, 1, 0, false},
		{2, 3, 2, false},
		{31, 0, 31, false},
		{32, 0, 32, false},
		{33, 0, 33, false}, // 33 mod 32 is a known state
		{0, 32, 0, false},  // 32 mod 32 is a legal event
		{255, 255, 255, false},
	} {
		if to, ok := table.Next(c.from, c.on); to != c.to || ok != c.ok {
			t.Errorf("Next(%d, %d) = %d, %v, want %d, %v", uint8(c.from), uint8(c.on), uint8(to), ok, uint8(c.to), c.ok)
		}
	}
}

func TestTableIsImmutable(t *testing.T) {
	rules := slices.Clone(loop)
	table := fsm.Must("loop", state(0), rules)
	dot, sorted := table.DOT(), table.Rules()
	if !slices.IsSortedFunc(sorted, func(a, b rule) int {
		return int(a.From)*fsm.MaxValues + int(a.On) - int(b.From)*fsm.MaxValues - int(b.On)
	}) {
		t.Errorf("Rules() = %v, want them in order", sorted)
	}
	for _, rs := range [][]rule{rules, table.Rules()} {
		clear(rs)
	}
	clear(table.States())
	clear(table.Events())
	if got := table.Rules(); !slices.Equal(got, sorted) {
		t.Errorf("Rules() = %v after its results were cleared, want %v", got, sorted)
	}
	if got := table.DOT(); got != dot {
		t.Errorf("DOT() = %s after its inputs were cleared, want %s", got, dot)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		start state
		rules []rule
		want  string
	}{
		{"empty", 0, nil, `fsm "empty": no rules`},
		{"two ways", 0, []rule{{From: 0, On: 1, To: 1}, {From: 0, On: 1, To: 2}}, "rule 1 (s0 --e1--> s2): an earlier rule moves s0 on e1 to s1"},
		{"twice", 0, []rule{{From: 0, On: 1, To: 1}, {From: 0, On: 1, To: 1}}, "rule 1 (s0 --e1--> s1): an earlier rule moves s0 on e1 to s1"},
		{"unreachable", 0, []rule{{From: 0, On: 1, To: 1}, {From: 2, On: 1, To: 3}}, "rule s2 --e1--> s3: nothing leads from s0 to s2"},
		{"island", 0, []rule{{From: 0, On: 1, To: 1}, {From: 2, On: 1, To: 3}, {From: 3, On: 1, To: 2}}, "nothing leads from s0 to s2"},
		{"start apart", 5, []rule{{From: 0, On: 1, To: 1}}, "nothing leads from s5 to s0"},
		{"start over", 32, []rule{{From: 0, On: 1, To: 1}}, "start: state 32 is over the bound of 31"},
		{"from over", 0, []rule{{From: 32, On: 1, To: 1}}, "rule 0: state 32 is over the bound of 31"},
		{"to over", 0, []rule{{From: 0, On: 0, To: 1}, {From: 0, On: 1, To: 255}}, "rule 1: state 255 is over the bound of 31"},
		{"on over", 0, []rule{{From: 0, On: 32, To: 1}}, "rule 0: event 32 is over the bound of 31"},
		{"no name", 0, []rule{{From: 0, On: 1, To: 29}}, "states: value 29 has no name"},
		{"same state", 0, []rule{{From: 0, On: 1, To: 30}}, `states: values 0 and 30 are both called "s0"`},
		{"same event", 0, []rule{{From: 0, On: 0, To: 1}, {From: 0, On: 31, To: 1}}, `events: values 0 and 31 are both called "e0"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, err := fsm.New(c.name, c.start, c.rules)
			if err == nil || table != nil {
				t.Fatalf("New() = %v, %v, want an error", table, err)
			}
			if got := err.Error(); !strings.HasPrefix(got, fmt.Sprintf("fsm %q: ", c.name)) || !strings.Contains(got, c.want) {
				t.Errorf("New() = %q, want %q in it and the table's name before", got, c.want)
			}
		})
	}
}

func TestMustPanics(t *testing.T) {
	defer func() {
		if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "no rules") {
			t.Errorf("Must() panicked with %v, want New's error", err)
		}
	}()
	fsm.Must[state, event]("none", 0, nil)
}

func TestMachine(t *testing.T) {
	table := fsm.Must("loop", state(0), loop)
	m, other := table.Machine(), table.Machine()
	for _, c := range []struct {
		on       event
		from, to state
		ok       bool
	}{
		{3, 0, 0, false},
		{0, 0, 1, true},
		{0, 1, 1, true},
		{200, 1, 1, false},
		{1, 1, 2, true},
		{0, 2, 2, false},
	} {
		from, to, ok := m.Fire(c.on)
		if from != c.from || to != c.to || ok != c.ok || m.State() != c.to {
			t.Errorf("Fire(%d) = %v, %v, %v in %v, want %v, %v, %v", uint8(c.on), from, to, ok, m.State(), c.from, c.to, c.ok)
		}
	}
	if got := other.State(); got != 0 {
		t.Errorf("State() = %v on a machine that nothing fired, want s0", got)
	}
}

func TestAllocations(t *testing.T) {
	table := fsm.Must("loop", state(0), loop)
	m := table.Machine()
	e := event(0)
	if n := testing.AllocsPerRun(100, func() {
		m.Fire(e % 5)
		table.Next(m.State(), e)
		table.Final(m.State())
		other := table.Machine()
		other.Fire(e)
		e++
	}); n != 0 {
		t.Errorf("Next, Final, Machine and Fire make %v allocations, want 0", n)
	}
}

func BenchmarkFire(b *testing.B) {
	table := fsm.Must("loop", state(0), loop)
	m := table.Machine()
	e := event(0)
	for b.Loop() {
		m.Fire(e & 3)
		e++
	}
}
