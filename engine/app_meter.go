package engine

import (
	"math"
	"slices"
	"time"
)

const (
	meterTick  = 5 * time.Second // of the averages
	maxTimings = 1024            // the last requests, of which Info makes quantiles
	maxTicks   = 1000            // that are caught up one by one; then everything has decayed
)

// meter counts what comes in and how long it takes.
type meter struct {
	began time.Time
	next  time.Time // end of the present tick
	count uint64    // of all requests
	fresh float64   // requests of the present tick
	rates [3]float64
	ready bool // rates has a first value

	depths, samples float64 // of the present tick
	depth           float64 // average

	times []time.Duration // a ring once it is full
	at    int
}

func (m *meter) start(now time.Time) { m.began, m.next = now, now.Add(meterTick) }

// mark counts a request that found, or made, the queue so deep.
func (m *meter) mark(now time.Time, depth int) {
	m.tick(now)
	m.count++
	m.fresh++
	m.depths += float64(depth)
	m.samples++
}

// tick ends the ticks that are over.
func (m *meter) tick(now time.Time) {
	for n := 0; !now.Before(m.next); n++ {
		if n == maxTicks {
			m.rates, m.next = [3]float64{}, now.Add(meterTick)
			return
		}
		m.next = m.next.Add(meterTick)
		rate := m.fresh / meterTick.Seconds()
		for i, minutes := range [...]float64{1, 5, 15} {
			if !m.ready {
				m.rates[i] = rate
				continue
			}
			m.rates[i] += (1 - math.Exp(-meterTick.Minutes()/minutes)) * (rate - m.rates[i])
		}
		depth := 0.0
		if m.samples > 0 {
			depth = m.depths / m.samples
		}
		m.depth += (1 - math.Exp(-meterTick.Minutes())) * (depth - m.depth)
		m.ready, m.fresh, m.depths, m.samples = true, 0, 0, 0
	}
}

// took notes how long a request took.
func (m *meter) took(d time.Duration) {
	if len(m.times) < maxTimings {
		m.times = append(m.times, d)
		return
	}
	m.times[m.at] = d
	m.at = (m.at + 1) % maxTimings
}

// fill tells an AppInfo.
func (m *meter) fill(i *AppInfo, now time.Time) {
	m.tick(now)
	i.Rate, i.DepthAverage = m.rates, m.depth
	if age := now.Sub(m.began).Seconds(); age > 0 {
		i.RateMean = float64(m.count) / age
	}
	if len(m.times) == 0 {
		return
	}
	sorted := slices.Clone(m.times)
	slices.Sort(sorted)
	for n, q := range infoQuantiles {
		at := int(math.Ceil(q/100*float64(len(sorted)))) - 1
		i.Timings[n] = sorted[max(at, 0)]
	}
	for n, bound := range infoBounds {
		within, _ := slices.BinarySearch(sorted, bound+1)
		i.TimingsReversed[n] = 100 * float64(within) / float64(len(sorted))
	}
}
