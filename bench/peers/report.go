package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"text/tabwriter"
)

// A metric is one figure of a workload. A ratio is that of the peer's figure to the
// base's, so it is good to be below 1 where less is better, and above where more is.
type metric struct {
	name, workload string
	more           bool // is better
	figure         func(r *result) float64
}

func p50(r *result) float64         { return r.P50 }
func microsPerOp(r *result) float64 { return r.ServerCPU / float64(r.Ops) * 1e6 }
func gigaPerCPU(r *result) float64  { return float64(r.Bytes) / r.ServerCPU / 1e9 }
func megaPerCPU(r *result) float64  { return float64(r.Ops) / r.ServerCPU / 1e6 }

var metrics = []metric{
	{"W1 p50, us", "W1", false, p50},
	{"W1 us/op", "W1", false, microsPerOp},
	{"W2-64 us/op", "W2-64", false, microsPerOp},
	{"W2-256 us/op", "W2-256", false, microsPerOp},
	{"W2-64x16 us/op", "W2-64x16", false, microsPerOp},
	{"W3-1k GB/cpu-s", "W3-1k", true, gigaPerCPU},
	{"W3-64k GB/cpu-s", "W3-64k", true, gigaPerCPU},
	{"W5 M/cpu-s", "W5", true, megaPerCPU},
}

// bases are what the others are divided by.
var bases = [...]string{"gnet", "cepoll"}

// reportFiles prints the table of what -out wrote.
func reportFiles(w io.Writer, names []string) error {
	var all []result
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var r result
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, r)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return table(w, all)
}

// place is where figures are compared: never across modes or networks.
type place struct{ mode, network string }

// moment is where ratios are taken: within one round of one run.
type moment struct {
	run   string
	round int
}

// table prints every metric of every peer.
func table(w io.Writer, all []result) error {
	var places []place
	var names []string
	failed := 0
	for _, r := range all {
		if p := (place{r.Mode, r.Net}); !slices.Contains(places, p) {
			places = append(places, p)
		}
		if !slices.Contains(names, r.Peer) {
			names = append(names, r.Peer)
		}
		if r.Err != "" {
			failed++
		}
	}
	for _, p := range places {
		if err := tableOf(w, p, names, all); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "%d measurements, %d failed and are left out\n", len(all), failed)
	return nil
}

func tableOf(w io.Writer, p place, names []string, all []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var foreign []float64
	fmt.Fprintf(t, "%s, %s\tpeer\tn\tmedian\tx gnet [95 %%]\tx cepoll [95 %%]\tbetter\tserver us/op\n", p.mode, p.network)
	for _, m := range metrics {
		figures := make(map[string]map[moment]float64)
		cost := make(map[string][]float64)
		for i := range all {
			r := &all[i]
			if r.Mode != p.mode || r.Net != p.network || r.Workload != m.workload || r.Err != "" || r.Verified || r.Ops == 0 {
				continue
			}
			if figures[r.Peer] == nil {
				figures[r.Peer] = make(map[moment]float64)
			}
			figures[r.Peer][moment{r.Run, r.Round}] = m.figure(r)
			cost[r.Peer] = append(cost[r.Peer], microsPerOp(r))
			foreign = append(foreign, r.Foreign)
		}
		for _, name := range names {
			own := figures[name]
			if len(own) == 0 {
				continue
			}
			var values []float64
			for _, v := range own {
				values = append(values, v)
			}
			better := "less"
			if m.more {
				better = "more"
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%.3g\t", m.name, name, len(own), median(values))
			for _, base := range bases {
				fmt.Fprintf(t, "%s\t", interval(ratios(own, figures[base])))
			}
			fmt.Fprintf(t, "%s\t%.3g\n", better, median(cost[name]))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "others took %.2f of the processors in the median, %.2f in the worst tenth\n\n",
		max(0, quantile(foreign, 0.5)), quantile(foreign, 0.9))
	return err
}

// ratios divides what was measured in the same round.
func ratios(own, base map[moment]float64) []float64 {
	var list []float64
	for at, v := range own {
		if b, ok := base[at]; ok && b > 0 {
			list = append(list, v/b)
		}
	}
	slices.Sort(list) // or the bootstrap would depend on the order of a map
	return list
}

// interval is the median and what 95 % of bootstrap medians lie in.
func interval(list []float64) string {
	if len(list) == 0 {
		return "-"
	}
	const draws = 4000
	rng := rand.New(rand.NewPCG(1, 2))
	medians, sample := make([]float64, draws), make([]float64, len(list))
	for i := range medians {
		for j := range sample {
			sample[j] = list[rng.IntN(len(list))]
		}
		medians[i] = median(sample)
	}
	return fmt.Sprintf("%.2f [%.2f..%.2f]", median(list), quantile(medians, 0.025), quantile(medians, 0.975))
}

func median(list []float64) float64 { return quantile(list, 0.5) }

// quantile interpolates between the two values that are nearest.
func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.SortedFunc(slices.Values(list), cmp.Compare)
	at := q * float64(len(s)-1)
	low := int(at)
	high := min(low+1, len(s)-1)
	return s[low] + (s[high]-s[low])*(at-float64(low))
}
