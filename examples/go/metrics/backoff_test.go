package metrics

import (
	"testing"
	"time"
)

func TestPausesDoubleUpToTheMostAndBeginAnew(t *testing.T) {
	backoff := Backoff{First: time.Second, Most: 5 * time.Second, Random: func() float64 { return 0.5 }}
	for _, want := range []float64{0.5, 1, 2, 2.5, 2.5} {
		expect(t, "pause", backoff.Pause(0).Seconds(), want)
	}
	backoff.Reset()
	expect(t, "after a success", backoff.Pause(0).Seconds(), 0.5)
}

func TestPausesAreRandom(t *testing.T) {
	backoff, others := NewBackoff(time.Minute), map[time.Duration]bool{}
	for n := 0; n < 100; n++ {
		pause := backoff.Pause(0)
		others[pause] = true
		if pause < 0 || pause >= time.Minute {
			t.Fatal(pause)
		}
	}
	if len(others) < 90 {
		t.Errorf("only %d different pauses of 100", len(others))
	}
}

func TestRetryAfterIsTheLeastAndAFoolishOneIsBounded(t *testing.T) {
	backoff := Backoff{First: time.Second, Most: time.Minute, Random: func() float64 { return 0.5 }}
	expect(t, "pause", backoff.Pause(7*time.Second).Seconds(), 7.5)
	expect(t, "pause", backoff.Pause(1000*time.Hour), time.Hour+time.Second)
}
