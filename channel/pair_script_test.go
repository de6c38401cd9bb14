package channel

import (
	"bytes"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPairRandom transfers data over random scripts. What arrives is a prefix of what
// was written, and all of it if nothing cuts or stalls the link for ever.
func TestPairRandom(t *testing.T) {
	seeds, batch := uint64(10_000), uint64(100)
	if testing.Short() {
		seeds = 1000
	}
	for first := uint64(0); first < seeds && !t.Failed(); first += batch {
		synctest.Test(t, func(t *testing.T) {
			for seed := first; seed < first+batch; seed++ {
				transfer(t, seed)
			}
		})
	}
}

func transfer(t *testing.T, seed uint64) {
	s := RandomScript(seed)
	r := rand.New(rand.NewPCG(seed, 1))
	ends := [2]*End{}
	ends[0], ends[1] = Pair(s)
	sent, got := [2][]byte{}, [2][]byte{}
	errs := [2]error{}
	var writers, readers sync.WaitGroup
	for i, e := range ends {
		sent[i] = pattern(r.IntN(1 << r.IntN(14)))
		_ = e.SetDeadline(time.Now().Add(time.Hour))
		step := 1 + r.IntN(2000)
		writers.Go(func() {
			for p := range slices.Chunk(sent[i], step) {
				if _, err := e.Write(p); err != nil {
					return
				}
			}
			_ = e.CloseWrite()
		})
		readers.Go(func() { got[1-i], errs[1-i] = io.ReadAll(e) })
	}
	readers.Wait()
	_, _ = ends[0].Close(), ends[1].Close()
	writers.Wait()
	for i, p := range []Path{s.AtoB, s.BtoA} {
		if !bytes.HasPrefix(sent[i], got[i]) {
			t.Errorf("seed %d, lane %d, %v: what arrived is not what was written", seed, i, s)
		}
		n := len(sent[i])
		if p.Cut.Kind == CutFIN {
			n = min(n, int(p.Cut.At))
		}
		lost := s.AtoB.Cut.Kind == CutRST || s.BtoA.Cut.Kind == CutRST || strings.Contains(s.String(), "forever")
		if !lost && (len(got[i]) != n || errs[i] != nil) {
			t.Errorf("seed %d, lane %d, %v: %d bytes arrived, %v, want %d", seed, i, s, len(got[i]), errs[i], n)
		}
	}
}

func TestParseScript(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Script
	}{
		{"", Script{}},
		{"a>b b>a", Script{}},
		{"a>b capacity=1024 latency=5ms slice=1,7,1448\n stall=4096:2s stall=9:forever cut=100:rst", Script{AtoB: Path{
			CapacityBytes: 1024, Latency: 5 * time.Millisecond, SliceBytes: []int{1, 7, 1448},
			Stalls: []Stall{{4096, 2 * time.Second}, {9, -1}}, Cut: Cut{CutRST, 100},
		}}},
		{"a<>b capacity=-1 b>a cut=0:fin", Script{
			AtoB: Path{CapacityBytes: -1}, BtoA: Path{CapacityBytes: -1, Cut: Cut{CutFIN, 0}},
		}},
	} {
		got, err := ParseScript(tt.text)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("ParseScript(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
	for _, text := range []string{
		"latency=1s", "a>b speed=1", "a>b capacity", "a>b capacity=x", "a>b latency=-1s", "a>b latency=5",
		"a>b slice=", "a>b slice=1,-1", "a>b stall=1", "a>b stall=-1:1s", "a>b stall=1:-1s", "a>b stall=x:forever",
		"a>b cut=1", "a>b cut=1:none", "a>b cut=-1:fin", "a>b cut=:rst",
	} {
		if s, err := ParseScript(text); err == nil {
			t.Errorf("ParseScript(%q) = %v, want an error", text, s)
		}
	}
}

func TestRandomScript(t *testing.T) {
	for seed := range uint64(1000) {
		s := RandomScript(seed)
		if again := RandomScript(seed); !reflect.DeepEqual(s, again) {
			t.Fatalf("seed %d gives %v and %v", seed, s, again)
		}
		if back, err := ParseScript(s.String()); err != nil || !reflect.DeepEqual(back, s) {
			t.Fatalf("ParseScript(%q) = %v, %v", s, back, err)
		}
	}
}

// FuzzParseScript: no panic, and what was understood is written in the same sense.
func FuzzParseScript(f *testing.F) {
	f.Add("a>b capacity=1024 latency=5ms slice=1,7,1448 stall=4096:2s b>a cut=100:rst")
	f.Add(RandomScript(4).String())
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScript(text)
		if err != nil {
			return
		}
		back, err := ParseScript(s.String())
		if err != nil || !reflect.DeepEqual(back, s) {
			t.Errorf("ParseScript(%q): %v, %v", s, back, err)
		}
	})
}
