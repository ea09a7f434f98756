package main

import (
	"math"
	"slices"
	"time"
)

// percentiles describe a set of latencies, in milliseconds.
type percentiles struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// percentilesOf sorts the latencies and picks by nearest rank: the smallest value that at least that share does not exceed.
func percentilesOf(latencies []time.Duration) percentiles {
	if len(latencies) == 0 {
		return percentiles{}
	}
	slices.Sort(latencies)
	pick := func(share float64) float64 {
		rank := int(math.Ceil(share * float64(len(latencies))))
		return float64(latencies[max(rank, 1)-1]) / float64(time.Millisecond)
	}
	return percentiles{P50: pick(0.5), P99: pick(0.99), P999: pick(0.999), Max: pick(1)}
}
