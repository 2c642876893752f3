// Package metrics reports the metrics of Tobogganing's clients and headends: it measures, queues
// samples on disk, and submits them.
package metrics

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand"
	"time"
)

// Agent measures at an interval and submits queued samples.
type Agent struct {
	// Measure returns values by their names in the API; omitted metrics keep their last value.
	Measure  func(now time.Time) (map[string]any, error)
	Queue    *Queue
	Send     func(ctx context.Context, samples [][]byte) error
	Interval time.Duration
	// ID returns the id of the agent, which decides when in an interval it measures. It is optional.
	ID      func() (string, error)
	Backoff Backoff
	Log     *log.Logger

	most    int // samples in the next request
	trouble string
}

// Run measures and submits until `ctx` is done; a request in flight is completed first.
func (a *Agent) Run(ctx context.Context) {
	wake := make(chan struct{}, 1)
	measured := make(chan struct{})
	defer func() { <-measured }() // a sample that is being written is completed too
	go func() {
		defer close(measured)
		if !sleep(ctx, a.untilFirst(time.Now())) {
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
			default: // already awake
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

// untilFirst returns the pause before the first sample. The id of an agent determines its place in
// every interval: agents that start together report evenly spread, and keep their places after a
// restart. An agent that has no id yet takes a random place.
func (a *Agent) untilFirst(now time.Time) time.Duration {
	place := rand.New(rand.NewSource(now.UnixNano())).Float64()
	if a.ID != nil {
		if id, err := a.ID(); err == nil {
			hash := sha256.Sum256([]byte(id))
			place = float64(binary.BigEndian.Uint32(hash[:4])) / (1 << 32)
		}
	}
	since := time.Duration(now.UnixNano() % int64(a.Interval))
	return (time.Duration(place*float64(a.Interval)) - since + a.Interval) % a.Interval
}

// Once measures once and submits all queued samples, until a request fails.
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

// take measures and queues a sample.
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
		a.Log.Printf("queue full: dropped the oldest %d samples, %d in total", dropped, a.Queue.Count("dropped"))
	}
	return nil
}

// deliver sends the oldest samples in one request. The batch is halved to find a rejected sample,
// which is moved to the rejected ones.
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
	// Not the context that ends the agent: the result of a cancelled request is unknown.
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
		a.Log.Printf("rejected a sample: %v", err)
	case errors.As(err, &failure) && failure.Rejected():
		a.most = len(batch) / 2
		return nil
	default:
		if errors.As(err, &failure) && failure.TooLarge() && len(batch) > 1 {
			a.most = len(batch) / 2 // the limit of a proxy may be lower
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

// sleep waits, and returns false if `ctx` ends first.
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
