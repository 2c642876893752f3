// Package metrics reports for Tobogganing's clients and headends: it measures, keeps on disk what
// the manager could not take yet, and submits it.
package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand"
	"time"
)

// Agent measures at an interval and submits what waits.
type Agent struct {
	// Measure returns values by their names in the API; what it leaves out keeps its last value.
	Measure  func(now time.Time) (map[string]any, error)
	Queue    *Queue
	Send     func(ctx context.Context, samples [][]byte) error
	Interval time.Duration
	Backoff  Backoff
	Log      *log.Logger

	most    int // samples in the next request
	trouble string
}

// Run measures and submits until `ctx` is done; a request under way is then finished first. The
// first sample comes at a random moment of the interval: a fleet that was started at once does
// not report at once.
func (a *Agent) Run(ctx context.Context) {
	wake := make(chan struct{}, 1)
	measured := make(chan struct{})
	defer func() { <-measured }() // a sample that is being written is finished, too
	go func() {
		defer close(measured)
		first := time.Duration(rand.New(rand.NewSource(time.Now().UnixNano())).Int63n(int64(a.Interval)))
		if !sleep(ctx, first) {
			return
		}
		ticker := time.NewTicker(a.Interval)
		defer ticker.Stop()
		for {
			if err := a.take(time.Now()); err != nil {
				a.Log.Print(err)
			}
			select {
			case wake <- struct{}{}:
			default: // it is awake
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		for ctx.Err() == nil && a.Queue.Len() > 0 {
			if err := a.deliver(); err != nil {
				sleep(ctx, a.Backoff.Pause(retryAfter(err)))
			}
		}
	}
}

// Once measures once and submits all that waits, as long as that succeeds.
func (a *Agent) Once() error {
	if err := a.take(time.Now()); err != nil {
		a.Log.Print(err)
		return err
	}
	for a.Queue.Len() > 0 {
		if err := a.deliver(); err != nil {
			return err
		}
	}
	return nil
}

// take puts a sample on the queue; the error says why there is none.
func (a *Agent) take(now time.Time) error {
	values, err := a.Measure(now)
	if err != nil {
		return fmt.Errorf("nothing to report: %w", err)
	}
	timestamp := float64(now.UnixMilli()) / 1000
	sample, err := json.Marshal(map[string]any{"timestamp": timestamp, "metrics": values})
	if err != nil {
		return fmt.Errorf("nothing to report: %w", err)
	}
	dropped, err := a.Queue.Put(sample)
	if err != nil {
		a.Log.Printf("a sample is kept in memory only: %v", err)
	}
	if dropped > 0 {
		a.Log.Printf("the queue is full: dropped the oldest %d, %d so far", dropped, a.Queue.Count("dropped"))
	}
	return nil
}

// deliver makes one request for the oldest samples; the error says why they wait on. A sample
// that is rejected is found by halves, and set aside.
func (a *Agent) deliver() error {
	if a.most == 0 {
		a.most = MaxSamples
	}
	batch := a.Queue.Oldest(a.most, MaxBytes)
	if len(batch) == 0 {
		return nil
	}
	samples := make([][]byte, len(batch))
	for place, each := range batch {
		samples[place] = each.Sample
	}
	// Not the context that ends the agent: whoever breaks off a request does not know its fate.
	err := a.Send(context.Background(), samples)
	var failure *Failure
	switch {
	case err == nil:
		a.Queue.Sent(batch[len(batch)-1])
		if a.trouble != "" || len(batch) > 1 {
			a.Log.Printf("sent %d samples, %d wait", len(batch), a.Queue.Len())
		}
		a.most = smaller(2*a.most, MaxSamples)
	case errors.As(err, &failure) && failure.Rejected() && len(batch) == 1:
		a.Queue.Reject(batch[0], failure.Reason)
		a.Log.Printf("set a sample aside: %v", err)
	case errors.As(err, &failure) && failure.Rejected():
		a.most = len(batch) / 2
		return nil
	default:
		if errors.As(err, &failure) && failure.TooLarge() && len(batch) > 1 {
			a.most = len(batch) / 2 // a proxy before the manager may take less than it
		}
		if a.trouble != err.Error() {
			a.trouble = err.Error()
			a.Log.Printf("%d samples wait: %v", a.Queue.Len(), err)
		}
		return err
	}
	a.trouble = ""
	a.Backoff.Reset()
	return nil
}

func retryAfter(err error) time.Duration {
	var failure *Failure
	if errors.As(err, &failure) {
		return failure.RetryAfter
	}
	return 0
}

// sleep waits, and tells whether it was not disturbed by the end of `ctx`.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func smaller(a, b int) int {
	if a < b {
		return a
	}
	return b
}
