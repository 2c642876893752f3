package metrics

import (
	"math/rand"
	"time"
)

// Backoff computes the pause after each failure: a random part ("full jitter") of a pause that
// doubles from First up to Most, so that a fleet does not reconnect at the same time.
type Backoff struct {
	First, Most time.Duration
	// Random returns a number from 0 up to, but not including, 1.
	Random func() float64

	failures int
}

// LongestWait is the maximum Retry-After that is obeyed; a wrong one must not silence a fleet.
const LongestWait = time.Hour

// NewBackoff returns a Backoff that starts with one second.
func NewBackoff(most time.Duration) Backoff {
	random := rand.New(rand.NewSource(time.Now().UnixNano()))
	return Backoff{First: time.Second, Most: most, Random: random.Float64}
}

// Pause returns how long to wait after one more failure, at least the manager's Retry-After.
func (b *Backoff) Pause(retryAfter time.Duration) time.Duration {
	most := b.First
	for n := 0; n < b.failures && most < b.Most; n++ {
		most *= 2
	}
	b.failures++
	if most > b.Most {
		most = b.Most
	}
	if retryAfter > LongestWait {
		retryAfter = LongestWait
	}
	return retryAfter + time.Duration(b.Random()*float64(most))
}

// Reset clears the failures after a success.
func (b *Backoff) Reset() { b.failures = 0 }
