package service_test

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/service"
)

// TestRingVectors has points and choices that were computed by another program, in
// another language.
func TestRingVectors(t *testing.T) {
	for _, row := range []struct {
		weights map[string]uint32
		points  int
		at      map[uint32]string // a point, and what the first point above it has
		seeds   map[string]string
	}{
		{
			map[string]uint32{"app_v1": 1, "app_v2": 3}, 512,
			map[uint32]string{0: "app_v2", 0xa6eb1a: "app_v2", 0xff846248: "app_v1", 0xff846249: "app_v2", 0xffa4333e: "app_v2"},
			map[string]string{"": "app_v2", "seed": "app_v2", "alice": "app_v1", "bob": "app_v2", "carol": "app_v2"},
		},
		{
			map[string]uint32{"a": 1, "b": 2, "c": 3}, 768,
			map[uint32]string{0x28537e: "b", 0x28537f: "c", 0x9cfd6b: "c", 0xffc88269: "c", 0xffe54f8c: "c", 0xffe54f8d: "b"},
			map[string]string{"": "c", "seed": "c", "alice": "c", "bob": "b", "session-42": "c"},
		},
		{
			map[string]uint32{"only": 7}, 256,
			map[uint32]string{0: "only", 1<<32 - 1: "only"},
			map[string]string{"": "only", "seed": "only"},
		},
	} {
		r, err := service.NewRing(row.weights)
		if err != nil || r.Len() != row.points {
			t.Fatalf("NewRing(%v) = %v, %v, want %d points", row.weights, r, err, row.points)
		}
		for point, want := range row.at {
			if got := r.At(point); got != want {
				t.Errorf("%v: At(%#x) = %q, want %q", row.weights, point, got, want)
			}
		}
		for seed, want := range row.seeds {
			if got := r.Choose(seed); got != want {
				t.Errorf("%v: Choose(%q) = %q, want %q", row.weights, seed, got, want)
			}
		}
	}
}

// slowRing is the rule written down again, without any search or order.
type slowRing map[uint32]string

func newSlowRing(weights map[string]uint32) slowRing {
	var total uint64
	for _, w := range weights {
		total += uint64(w)
	}
	ring := slowRing{}
	for name, w := range weights {
		hashes := (2*64*uint64(len(weights))*uint64(w) + total) / (2 * total) // rounded
		for i := range hashes {
			h := md5.New()
			h.Write([]byte(name))
			_ = binary.Write(h, binary.LittleEndian, i)
			sum := h.Sum(nil)
			for ; len(sum) > 0; sum = sum[4:] {
				p := uint32(sum[0]) | uint32(sum[1])<<8 | uint32(sum[2])<<16 | uint32(sum[3])<<24
				if old, taken := ring[p]; !taken || name < old {
					ring[p] = name
				}
			}
		}
	}
	return ring
}

// at walks all points for the nearest above.
func (s slowRing) at(point uint32) string {
	best, name := uint32(0), ""
	for p, n := range s {
		if above := p - point - 1; name == "" || above < best { // distances wrap as the ring does
			best, name = above, n
		}
	}
	return name
}

func TestRingAgain(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		weights := map[string]uint32{}
		for i := range 1 + rnd.IntN(6) {
			weights[fmt.Sprint("service", i, strings.Repeat("x", rnd.IntN(60)))] = 1 + uint32(rnd.IntN(10))
		}
		r, err := service.NewRing(weights)
		if err != nil {
			t.Fatal(err)
		}
		slow := newSlowRing(weights)
		if r.Len() < len(slow) {
			t.Errorf("%v: %d points, want %d", weights, r.Len(), len(slow))
		}
		for i := range 100 {
			point := rnd.Uint32()
			if got, want := r.At(point), slow.at(point); got != want {
				t.Errorf("%v: At(%#x) = %q, want %q", weights, point, got, want)
			}
			seed := fmt.Sprint("seed", i)
			h := md5.Sum([]byte(seed))
			x := [4]byte{}
			for i, b := range h {
				x[i%4] ^= b
			}
			if got, want := r.Choose(seed), slow.at(binary.LittleEndian.Uint32(x[:])); got != want {
				t.Errorf("%v: Choose(%q) = %q, want %q", weights, seed, got, want)
			}
		}
	}
}

// TestRingShares checks that services are chosen about as their weights are, and that a
// seed keeps its service when another one is added, unless that one takes it.
func TestRingShares(t *testing.T) {
	weights := map[string]uint32{"one": 1, "two": 2, "five": 5, "none": 0}
	before, err := service.NewRing(weights)
	if err != nil {
		t.Fatal(err)
	}
	const n = 20000
	random := rand.New(rand.NewPCG(3, 4))
	seeds, points := map[string]float64{}, map[string]float64{}
	for i := range n {
		seeds[before.Choose(fmt.Sprint("user", i))]++
		points[before.At(random.Uint32())]++
	}
	for name, w := range weights {
		want := float64(n) * float64(w) / 8
		for what, got := range map[string]float64{"seeds": seeds[name], "points": points[name]} {
			if got < 0.75*want || got > 1.25*want {
				t.Errorf("%s: %v of %d %s, want about %v", name, got, n, what, want)
			}
		}
	}
	if !slices.Equal(before.Members(), []string{"five", "none", "one", "two"}) {
		t.Errorf("Members() = %q", before.Members())
	}

	equal := map[string]uint32{"a": 1, "b": 1, "c": 1}
	before, _ = service.NewRing(equal)
	equal["d"] = 1
	after, _ := service.NewRing(equal)
	moved := 0
	for i := range n {
		seed := fmt.Sprint("user", i)
		if was, is := before.Choose(seed), after.Choose(seed); was != is {
			moved++
			if is != "d" {
				t.Errorf("%s moved from %s to %s when d came", seed, was, is)
			}
		}
	}
	if moved < n/6 || moved > n/3 {
		t.Errorf("%d of %d seeds moved, want about a quarter", moved, n)
	}
}

func TestRingErrors(t *testing.T) {
	many := map[string]uint32{}
	for i := range service.MaxRingMembers + 1 {
		many[fmt.Sprint(i)] = 1
	}
	for want, weights := range map[string]map[string]uint32{
		"routing group of 0 services without any weight": nil,
		"routing group of 2 services without any weight": {"a": 0, "b": 0},
		"routing group: empty name":                      {"a": 1, "": 1},
		"routing group: name of 1025 bytes":              {strings.Repeat("n", service.MaxNameBytes+1): 1},
		"routing group of 1025 services, limit 1024":     many,
	} {
		if r, err := service.NewRing(weights); err == nil || !strings.Contains(err.Error(), want) || r != nil {
			t.Errorf("NewRing() = %v, %v, want %s", r, err, want)
		}
	}
	delete(many, "0")
	big, err := service.NewRing(many)
	if err != nil || big.Len() != service.MaxRingPoints/2 {
		t.Fatalf("NewRing(1024 services) = %v, %v, want %d points", big, err, service.MaxRingPoints/2)
	}
	raw := service.AppendRouting(nil, map[string]*service.Ring{"g": big})
	if _, err := service.DecodeRouting(raw); err != nil {
		t.Errorf("DecodeRouting(1024 services) = %v", err)
	}
}

// TestRingWeights has sums that the float arithmetic of the runtime decides.
func TestRingWeights(t *testing.T) {
	for _, row := range []struct {
		weights map[string]uint32
		points  int
	}{
		{map[string]uint32{"a": 1 << 31, "b": 1 << 31}, 512},
		{map[string]uint32{"a": 1<<32 - 1, "b": 1}, 512},
		{map[string]uint32{"a": 1, "b": 1, "c": 1 << 20}, 768},
		{map[string]uint32{"a": 1, "b": 255}, 516}, // half a hash is a whole one, twice
	} {
		r, err := service.NewRing(row.weights)
		if err != nil || r.Len() != row.points {
			t.Errorf("NewRing(%v) = %v points, %v, want %d", row.weights, r.Len(), err, row.points)
		}
	}
	weights := map[string]uint32{"a": 1 << 24} // to which a float cannot add 1
	for i := range 1000 {
		weights[fmt.Sprint("b", i)] = 1
	}
	if r, err := service.NewRing(weights); err != nil || r.Len() != 1001*64*4 {
		t.Errorf("NewRing(2^24 and 1000 times 1) = %v points, %v, want %d", r.Len(), err, 1001*64*4)
	}
}

// TestRingOrder checks that a received ring may be in any order, that equal points stay
// in theirs, and that the largest and smallest points are found.
func TestRingOrder(t *testing.T) {
	point := func(at uint64, name string) []byte { return arr(num(at), str(name)) }
	groups, err := service.DecodeRouting(arr(dict(str("g"), arr(
		point(1<<32-1, "last"), point(7, "second"), point(7, "first"), point(0, "zero")))))
	if err != nil {
		t.Fatal(err)
	}
	g := groups["g"]
	for at, want := range map[uint32]string{0: "second", 6: "second", 7: "last", 1<<32 - 2: "last", 1<<32 - 1: "zero"} {
		if got := g.At(at); got != want {
			t.Errorf("At(%d) = %q, want %q", at, got, want)
		}
	}
	var crowd [][]byte
	for i := range 40 {
		crowd = append(crowd, point(7, fmt.Sprint("s", (i+5)%40)), point(uint64(1000-i), "other"))
	}
	groups, err = service.DecodeRouting(arr(dict(str("g"), arr(crowd...))))
	if err != nil || groups["g"].At(6) != "s5" {
		t.Errorf("At(6) = %q, %v, want s5, the first of those with the same point", groups["g"].At(6), err)
	}
	if n := testing.AllocsPerRun(100, func() { g.Choose("a seed of more than the 32 bytes that fit a small buffer") }); n > 1 {
		t.Errorf("Choose() makes %v allocations, want at most 1", n)
	}
}
