package engine

import (
	"math"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	began := time.Unix(1000, 0)
	var m meter
	m.start(began)
	now := began
	for range 60 * 20 { // 2 a second for 10 minutes
		m.mark(now, 4)
		now = now.Add(500 * time.Millisecond)
	}
	var i AppInfo
	m.fill(&i, now)
	for n, rate := range i.Rate {
		if math.Abs(rate-2) > 0.01 {
			t.Errorf("Rate[%d] = %v, want 2", n, rate)
		}
	}
	if math.Abs(i.RateMean-2) > 0.01 || math.Abs(i.DepthAverage-4) > 0.01 {
		t.Errorf("RateMean, DepthAverage = %v, %v, want 2, 4", i.RateMean, i.DepthAverage)
	}
	m.fill(&i, now.Add(time.Minute))
	if want := 2 / math.E; math.Abs(i.Rate[0]-want) > 0.05 {
		t.Errorf("Rate[0] after a minute of silence = %v, want %v", i.Rate[0], want)
	}
	m.fill(&i, now.Add(1000*time.Hour))
	if i.Rate != [3]float64{} {
		t.Errorf("Rate after a long silence = %v, want 0", i.Rate)
	}
}

func TestTimings(t *testing.T) {
	var m meter
	m.start(time.Unix(0, 0))
	for range 3 * maxTimings { // what is old is forgotten
		m.took(time.Hour)
	}
	for n := range maxTimings {
		m.took(time.Duration(n+1) * time.Millisecond)
	}
	var i AppInfo
	m.fill(&i, time.Unix(1, 0))
	if i.Timings[0] != 512*time.Millisecond || i.Timings[1] != 768*time.Millisecond || i.Timings[6] != 1024*time.Millisecond {
		t.Errorf("Timings = %v, want 512ms, 768ms, … 1.024s", i.Timings)
	}
	if want := 100 * 1000.0 / 1024; i.TimingsReversed[8] != want || i.TimingsReversed[0] != 100.0/1024 {
		t.Errorf("TimingsReversed = %v, want %v within 1 s", i.TimingsReversed, want)
	}
	if len(m.times) != maxTimings {
		t.Errorf("%d timings are kept, want %d", len(m.times), maxTimings)
	}
}
