package service_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/service"
)

// fixed is a source of one number.
type fixed uint64

func (f fixed) Uint64() uint64 { return uint64(f) }

func TestBackoff(t *testing.T) {
	const lowest, highest = fixed(0), fixed(math.MaxUint64)
	for _, row := range []struct {
		b    service.Backoff
		n    int
		want time.Duration // the bound
	}{
		{service.Backoff{}, 0, time.Second}, {service.Backoff{}, 1, 2 * time.Second}, {service.Backoff{}, 4, 12 * time.Second},
		{service.Backoff{}, 5, 12 * time.Second}, {service.Backoff{}, 6, 12 * time.Second}, {service.Backoff{}, math.MaxInt, 12 * time.Second},
		{service.Backoff{}, -1, time.Second}, {service.Backoff{}, math.MinInt, time.Second},
		{service.Backoff{Base: 10 * time.Millisecond, Max: 25 * time.Millisecond}, 1, 20 * time.Millisecond},
		{service.Backoff{Base: 10 * time.Millisecond, Max: 25 * time.Millisecond}, 2, 25 * time.Millisecond},
		{service.Backoff{Base: time.Minute}, 0, 12 * time.Second},
		{service.Backoff{Base: -1}, 7, 0},
		{service.Backoff{Base: -1, Max: -1}, math.MaxInt, 0},
		{service.Backoff{Max: -1}, 10, 1024 * time.Second},
		{service.Backoff{Max: -1}, math.MaxInt, math.MaxInt64},
		{service.Backoff{Base: math.MaxInt64, Max: -1}, 3, math.MaxInt64},
		{service.Backoff{Base: 3, Max: math.MaxInt64}, 63, math.MaxInt64},
	} {
		if low, high := row.b.Delay(row.n, lowest), row.b.Delay(row.n, highest); low != 0 || high != row.want {
			t.Errorf("%v.Delay(%d) = %v..%v, want 0..%v", row.b, row.n, low, high, row.want)
		}
	}
	src, sum := rand.NewPCG(5, 6), time.Duration(0)
	const n = 10000
	for range n {
		d := service.Backoff{}.Delay(3, src)
		if d < 0 || d > 8*time.Second {
			t.Fatalf("Delay(3) = %v, want 0..8s", d)
		}
		sum += d
	}
	if mean := sum / n; mean < 3800*time.Millisecond || mean > 4200*time.Millisecond {
		t.Errorf("the mean of Delay(3) is %v, want about 4s", mean)
	}
}
