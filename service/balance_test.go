package service

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/fsm/fsmtest"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// rewrite is read by fsmtest.
var _ = flag.Bool("rewrite", false, "rewrite the files in testdata")

// start is when the tests of the Balancer begin.
var start = time.Unix(1_700_000_000, 0)

// hosts returns endpoints a:1, b:1 and so on for "ab".
func hosts(names string) (list []Endpoint) {
	for _, name := range names {
		list = append(list, Endpoint{Host: string(name), Port: 1})
	}
	return list
}

func newBalancer(t testing.TB, names string, cfg BalanceConfig) *Balancer {
	t.Helper()
	cfg.Random = rand.NewPCG(1, 2)
	b, err := NewBalancer(cfg)
	if err != nil {
		t.Fatalf("NewBalancer() = %v", err)
	}
	b.Update(hosts(names))
	return b
}

// call makes a call that ends at once, and returns the host, "" if there is none.
func call(b *Balancer, now time.Time, key string, o Outcome) string {
	i := b.Pick(now, key)
	if i == nil {
		return ""
	}
	b.Done(i, now, o)
	return i.Endpoint.Host
}

// calls counts the hosts of n calls of which each is open for as long as the next
// three.
func calls(b *Balancer, now time.Time, n int, key func(int) string) map[string]int {
	count, open := make(map[string]int), []*Instance(nil)
	for k := range n {
		i := b.Pick(now, key(k))
		count[i.Endpoint.Host]++
		if open = append(open, i); len(open) > 3 {
			b.Done(open[0], now, Succeeded)
			open = open[1:]
		}
	}
	for _, i := range open {
		b.Done(i, now, Succeeded)
	}
	return count
}

func noKey(int) string { return "" }

// instanceAt returns the instance of a host.
func instanceAt(t testing.TB, b *Balancer, host string) *Instance {
	t.Helper()
	for _, i := range b.All() {
		if i.Endpoint.Host == host {
			return i
		}
	}
	t.Fatalf("no instance %q", host)
	return nil
}

func TestInstanceStates(t *testing.T) { fsmtest.Walk(t, instanceTable, "testdata/instance") }

func TestBalancerPolicies(t *testing.T) {
	const n = 3000
	for _, row := range []struct {
		policy      Policy
		least, most int // of each host but the first
	}{
		{PreferFirst, 0, 0},
		{RoundRobin, n / 3, n / 3},
		{LeastInFlight, n / 3, n / 3},
		{PowerOfTwo, n/3 - 150, n/3 + 150},
		{ByKey, n/3 - 150, n/3 + 150}, // without a key
	} {
		b := newBalancer(t, "abc", BalanceConfig{Policy: row.policy})
		count := calls(b, start, n, noKey)
		if count["a"]+count["b"]+count["c"] != n {
			t.Errorf("%v: %v, want %d calls", row.policy, count, n)
		}
		for _, host := range []string{"b", "c"} {
			if c := count[host]; c < row.least || c > row.most {
				t.Errorf("%v: %d calls to %s, want %d to %d", row.policy, c, host, row.least, row.most)
			}
		}
	}
}

// One instance takes much longer than the others: it must get fewer calls.
func TestBalancerSlowInstance(t *testing.T) {
	for _, policy := range []Policy{LeastInFlight, PowerOfTwo} {
		b, count := newBalancer(t, "abc", BalanceConfig{Policy: policy}), make(map[string]int)
		for range 300 {
			i := b.Pick(start, "")
			count[i.Endpoint.Host]++
			if i.Endpoint.Host != "a" || i.InFlight() == 10 {
				b.Done(i, start, Succeeded)
			}
		}
		if count["a"] > 40 || count["b"] < 100 || count["c"] < 100 {
			t.Errorf("%v: %v, want few calls to a", policy, count)
		}
	}
}

func TestBalancerByKey(t *testing.T) {
	b := newBalancer(t, "abcde", BalanceConfig{Policy: ByKey})
	key := func(i int) string { return fmt.Sprintf("user %d", i) }
	before := make(map[string]string)
	for i := range 1000 {
		before[key(i)] = call(b, start, key(i), Succeeded)
	}
	count := make(map[string]int)
	for _, host := range before {
		count[host]++
	}
	for host, n := range count {
		if n < 140 || n > 260 {
			t.Errorf("%s has %d of 1000 keys, want about 200", host, n)
		}
	}
	other := newBalancer(t, "edcba", BalanceConfig{Policy: ByKey})
	for k, host := range before {
		if got := call(other, start, k, Succeeded); got != host {
			t.Fatalf("another client: %q at %s, want %s", k, got, host)
		}
	}
	b.Update(hosts("abde"))
	for k, host := range before {
		if got := call(b, start, k, Succeeded); got == "c" || host != "c" && got != host {
			t.Fatalf("without c: %q at %s, want %s", k, got, host)
		}
	}
}

func TestBalancerExcept(t *testing.T) {
	for policy := range ByKey + 1 {
		b := newBalancer(t, "abc", BalanceConfig{Policy: policy})
		var tried []*Instance
		for range 3 {
			i := b.Pick(start, "key", tried...)
			if i == nil || slices.Contains(tried, i) {
				t.Fatalf("%v: Pick() behind %d others = %v, want another", policy, len(tried), i)
			}
			tried = append(tried, i)
		}
		if i := b.Pick(start, "key", tried...); i != nil {
			t.Errorf("%v: Pick(all tried) = %v, want nil", policy, i.Endpoint)
		}
	}
	if i := newBalancer(t, "", BalanceConfig{}).Pick(start, ""); i != nil {
		t.Errorf("Pick() of none = %v, want nil", i.Endpoint)
	}
}

func TestBalancerEjects(t *testing.T) {
	b := newBalancer(t, "ab", BalanceConfig{EjectAfter: 3, SlowStart: -1})
	now := start
	for range 2 {
		call(b, now, "", Failed)
	}
	call(b, now, "", Succeeded) // the row is over
	for k, want := range []string{"a", "a", "a", "b", "b"} {
		if got := call(b, now, "", []Outcome{Failed, Failed, Failed, Succeeded, Neutral}[k]); got != want {
			t.Fatalf("call %d at %s, want %s", k, got, want)
		}
	}
	for _, rest := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
		if s := b.AppendStats(nil, now)[0]; s.State != InstanceEjected || !s.Until.Equal(now.Add(rest)) || s.Weight != 0 {
			t.Fatalf("stats of a = %+v, want ejected for %v", s, rest)
		}
		if got := call(b, now.Add(rest-1), "", Succeeded); got != "b" {
			t.Errorf("before %v: call at %s, want b", rest, got)
		}
		now = now.Add(rest)
		if got := call(b, now, "", Failed); got != "a" { // and one failure is enough now
			t.Errorf("after %v: call at %s, want a", rest, got)
		}
	}
	now = now.Add(40 * time.Second)
	if got := call(b, now, "", Succeeded); got != "a" {
		t.Errorf("back again: call at %s, want a", got)
	}
	now = now.Add(40 * time.Second)
	call(b, now, "", Succeeded) // well for as long as it was away: as new
	for range 3 {
		call(b, now, "", Failed)
	}
	if s := b.AppendStats(nil, now)[0]; !s.Until.Equal(now.Add(5*time.Second)) || s.Ejections != 5 {
		t.Errorf("stats of a = %+v, want ejected for 5s, for the 5th time", s)
	}
}

func TestBalancerEjectionGrowsToItsBound(t *testing.T) {
	b := newBalancer(t, "ab", BalanceConfig{EjectAfter: 1, MaxEjectFor: 7 * time.Second, SlowStart: -1})
	now := start
	for _, want := range []time.Duration{5 * time.Second, 7 * time.Second, 7 * time.Second} {
		call(b, now, "", Failed)
		s := b.AppendStats(nil, now)[0]
		if got := s.Until.Sub(now); got != want {
			t.Errorf("ejected for %v, want %v", got, want)
		}
		now = s.Until
	}
}

func TestBalancerNeverEjectsAll(t *testing.T) {
	for _, row := range []struct {
		names   string
		percent int
		after   int
		want    int
	}{
		{"a", 100, 1, 0}, {"ab", 0, 1, 1}, {"ab", 1, 1, 1}, {"abc", 50, 1, 1}, {"abcd", 50, 1, 2},
		{"abcd", 100, 1, 3}, {"abcd", 100, -1, 0}, {"abcdefghij", 30, 1, 3},
	} {
		b := newBalancer(t, row.names, BalanceConfig{Policy: RoundRobin, MaxEjectedPercent: row.percent, EjectAfter: row.after})
		for range 200 {
			if call(b, start, "", Failed) == "" {
				t.Fatalf("%q: Pick() = nil", row.names)
			}
		}
		ejected := 0
		for _, s := range b.AppendStats(nil, start) {
			if s.State == InstanceEjected {
				ejected++
			}
		}
		if ejected != row.want || b.Len() != len(row.names) {
			t.Errorf("%q, %d%%: %d ejected of %d, want %d", row.names, row.percent, ejected, b.Len(), row.want)
		}
	}
}

// The instance that was well has left: better one that rests than none.
func TestBalancerOnlyEjectedLeft(t *testing.T) {
	b := newBalancer(t, "abc", BalanceConfig{EjectAfter: 1, MaxEjectedPercent: 100})
	call(b, start, "", Failed)
	call(b, start.Add(time.Second), "", Failed)
	b.Update(hosts("ba"))
	if got := call(b, start.Add(2*time.Second), "", Succeeded); got != "a" {
		t.Errorf("call at %q, want a, which comes back first", got)
	}
	if a := instanceAt(t, b, "a"); a.State() != InstanceReady {
		t.Errorf("a is %v, want ready", a.State())
	}
	if i := b.Pick(start, "", instanceAt(t, b, "a")); i != instanceAt(t, b, "b") {
		t.Errorf("Pick(but a) = %v, want b", i)
	}
}

func TestBalancerSlowStart(t *testing.T) {
	for policy := range ByKey + 1 {
		cfg := BalanceConfig{Policy: policy, EjectAfter: 1}
		b := newBalancer(t, "ab", cfg)
		key := func(i int) string { return fmt.Sprint(i) }
		share := calls(newBalancer(t, "ab", cfg), start, 1000, key)["a"]
		a := instanceAt(t, b, "a")
		b.Report(a, start, Failed)
		back := start.Add(5 * time.Second)
		var counts []int
		for _, after := range []time.Duration{0, 5 * time.Second, 10 * time.Second} {
			counts = append(counts, calls(b, back.Add(after), 1000, key)["a"])
		}
		if counts[0] == 0 || counts[0] > share/2 || counts[1] <= counts[0] || counts[2] < share*9/10 {
			t.Errorf("%v: %d of 1000 calls at a, want few, more, and about %d", policy, counts, share)
		}
		if w := b.AppendStats(nil, back.Add(5*time.Second))[0].Weight; w < 0.54 || w > 0.56 {
			t.Errorf("%v: weight %v at half of the time, want 0.55", policy, w)
		}
	}
}

func TestBalancerDrain(t *testing.T) {
	for policy := range ByKey + 1 {
		b := newBalancer(t, "ab", BalanceConfig{Policy: policy})
		a := instanceAt(t, b, "a")
		var open []*Instance
		for a.InFlight() < 2 {
			open = append(open, b.Pick(start, fmt.Sprint(len(open))))
		}
		b.Drain(a)
		b.Update(hosts("ab")) // does not call it back
		for k := range 100 {
			if got := call(b, start, fmt.Sprint(k), Succeeded); got != "b" {
				t.Fatalf("%v: call at %s, want b", policy, got)
			}
		}
		for k, i := range open {
			if a.State() != InstanceDraining && i == a {
				t.Errorf("%v: %v before call %d of it has ended, want draining", policy, a.State(), k)
			}
			b.Done(i, start, Failed)
		}
		if a.State() != InstanceGone || len(b.All()) != 1 || b.Len() != 1 {
			t.Errorf("%v: %v, %d instances, want gone, 1", policy, a.State(), len(b.All()))
		}
		b.Drain(a) // nothing more to do
		b.Done(a, start, Failed)
		b.Update(hosts("ab"))
		if b.Len() != 2 || instanceAt(t, b, "a") == a {
			t.Errorf("%v: listed again: Len() = %d, want a new a", policy, b.Len())
		}
	}
}

func TestBalancerUpdate(t *testing.T) {
	b := newBalancer(t, "abc", BalanceConfig{Policy: LeastInFlight})
	a, c := instanceAt(t, b, "a"), instanceAt(t, b, "c")
	a.Value = "connection"
	for a.InFlight() == 0 {
		b.Pick(start, "")
	}
	b.Update(hosts("dbd"))
	if got := order(b); got != "dba" || b.Len() != 2 || a.State() != InstanceDraining || c.State() != InstanceGone {
		t.Errorf("instances %s, Len %d, a %v, c %v; want dba, 2, draining, gone", got, b.Len(), a.State(), c.State())
	}
	b.Update(hosts("abd"))
	if instanceAt(t, b, "a") != a || a.State() != InstanceReady || a.Value != "connection" || order(b) != "abd" {
		t.Errorf("instances %s, a %v; want abd, and a as before", order(b), a.State())
	}
	b.Update(nil)
	if i := b.Pick(start, ""); i != nil || order(b) != "a" {
		t.Errorf("Pick() of none = %v, instances %s, want nil, a", i, order(b))
	}
	many := make([]Endpoint, MaxEndpoints+10)
	for i := range many {
		many[i] = Endpoint{Host: "many", Port: uint16(i)}
	}
	if b.Update(many); b.Len() != MaxEndpoints {
		t.Errorf("Len() = %d, want %d", b.Len(), MaxEndpoints)
	}
}

func order(b *Balancer) string {
	var s strings.Builder
	for _, i := range b.All() {
		s.WriteString(i.Endpoint.Host)
	}
	return s.String()
}

// However calls, failures, updates and drains follow each other, the counts agree and
// there is an instance for each call.
func TestBalancerInvariants(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 3))
		policy := Policy(random.IntN(int(ByKey) + 1))
		b := newBalancer(t, "abcd", BalanceConfig{Policy: policy, EjectAfter: 2, MaxEjectedPercent: 100})
		now, open := start, map[*Instance]int{}
		for range 400 {
			now = now.Add(time.Duration(random.IntN(2000)) * time.Millisecond)
			switch random.IntN(10) {
			case 0:
				b.Update(hosts("abcdef"[random.IntN(3) : 3+random.IntN(3)]))
			case 1:
				if b.Len() > 1 {
					b.Drain(b.All()[0])
				}
			case 2, 3, 4:
				for _, i := range slices.SortedFunc(maps.Keys(open), func(i, j *Instance) int {
					return strings.Compare(i.Endpoint.String(), j.Endpoint.String())
				}) {
					b.Done(i, now, Outcome(random.IntN(3)))
					if open[i]--; open[i] == 0 {
						delete(open, i)
					}
					break
				}
			default:
				i := b.Pick(now, "key")
				if (i == nil) != (b.Len() == 0) {
					t.Fatalf("seed %d: Pick() = %v of %d", seed, i, b.Len())
				}
				if i != nil {
					open[i]++
				}
			}
			checkBalancer(t, b, open)
		}
	}
}

func checkBalancer(t *testing.T, b *Balancer, open map[*Instance]int) {
	t.Helper()
	ready, ejected := 0, 0
	for _, i := range b.All() {
		switch i.State() {
		case InstanceReady:
			ready++
		case InstanceEjected:
			ejected++
		case InstanceDraining:
			if i.InFlight() == 0 {
				t.Fatalf("%v drains without a call", i.Endpoint)
			}
		default:
			t.Fatalf("%v is listed and %v", i.Endpoint, i.State())
		}
		if i.InFlight() != open[i] {
			t.Fatalf("%v: InFlight() = %d, want %d", i.Endpoint, i.InFlight(), open[i])
		}
	}
	if ready != b.ready || ejected != b.ejected {
		t.Fatalf("counted %d ready, %d ejected, are %d, %d", b.ready, b.ejected, ready, ejected)
	}
}

func TestNewBalancerRefuses(t *testing.T) {
	for _, cfg := range []BalanceConfig{{Policy: ByKey + 1}, {MaxEjectedPercent: 101}, {MaxEjectedPercent: -1}, {EjectFor: -1}} {
		if _, err := NewBalancer(cfg); err == nil {
			t.Errorf("NewBalancer(%+v) = nil error", cfg)
		}
	}
}

func TestBalancerPickDoesNotAllocate(t *testing.T) {
	for policy := range ByKey + 1 {
		b := newBalancer(t, "abcdefgh", BalanceConfig{Policy: policy, EjectAfter: 1})
		b.Report(instanceAt(t, b, "a"), start, Failed)
		now := start.Add(6 * time.Second)
		if n := testing.AllocsPerRun(100, func() {
			i := b.Pick(now, "a key that is longer than thirty-two bytes")
			j := b.Pick(now, "", i)
			b.Done(i, now, Succeeded)
			b.Done(j, now, Neutral)
		}); n != 0 && !invariants.Race {
			t.Errorf("%v: %v allocations, want 0", policy, n)
		}
	}
}

func BenchmarkBalancerPick(bench *testing.B) {
	for policy := range ByKey + 1 {
		bench.Run(policy.String(), func(bench *testing.B) {
			b := newBalancer(bench, "abcdefgh", BalanceConfig{Policy: policy})
			bench.ReportAllocs()
			for bench.Loop() {
				b.Done(b.Pick(start, "key"), start, Succeeded)
			}
		})
	}
}

func ExampleBalancer() {
	b, err := NewBalancer(BalanceConfig{Policy: RoundRobin, EjectAfter: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	b.Update([]Endpoint{{"10.0.0.1", 4000}, {"10.0.0.2", 4000}})

	first := b.Pick(now, "")
	b.Done(first, now, Failed) // say, it could not be dialled
	second := b.Pick(now, "", first)
	b.Done(second, now, Succeeded)

	for _, s := range b.AppendStats(nil, now) {
		fmt.Println(s.Endpoint, s.State)
	}
	// Output:
	// 10.0.0.1:4000 ejected
	// 10.0.0.2:4000 ready
}
