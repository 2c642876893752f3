package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"testing"
	"time"
)

// sends is a manager that returns the errors of a list in order, then none.
type sends struct {
	batches  []string
	failures []error
	sent     chan struct{}
}

func (s *sends) send(_ context.Context, samples [][]byte) error {
	s.batches = append(s.batches, string(bytes.Join(samples, []byte(" "))))
	if s.sent != nil {
		s.sent <- struct{}{}
	}
	if len(s.failures) == 0 {
		return nil
	}
	err := s.failures[0]
	s.failures = s.failures[1:]
	return err
}

func agent(t *testing.T, s *sends) (*Agent, *bytes.Buffer) {
	t.Helper()
	var output bytes.Buffer
	return &Agent{
		Measure:  func(time.Time) (map[string]any, error) { return map[string]any{"bytes_sent": 1}, nil },
		Queue:    openQueue(t, t.TempDir(), 100),
		Send:     s.send,
		Interval: time.Millisecond,
		Backoff:  Backoff{First: time.Microsecond, Most: time.Microsecond, Random: func() float64 { return 0 }},
		Log:      log.New(&output, "", 0),
	}, &output
}

func rejects(bad string) func(context.Context, [][]byte) error {
	return func(_ context.Context, samples [][]byte) error {
		for _, sample := range samples {
			if string(sample) == bad {
				return &Failure{Status: 400, Reason: "it is bad", FromManager: true}
			}
		}
		return nil
	}
}

func TestOnceMeasuresAndSendsAllThatWaits(t *testing.T) {
	s := &sends{}
	agent, _ := agent(t, s)
	put(t, agent.Queue, "1", "2")
	if err := agent.Once(); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.batches[0], `1 2 {"metrics":{"bytes_sent":1},"timestamp":`) {
		t.Error(s.batches)
	}
	expect(t, "waiting", agent.Queue.Len(), 0)
}

func TestWhatCannotBeSentWaits(t *testing.T) {
	for _, err := range []error{&Failure{Status: 401, Reason: "refused"}, errors.New("no key")} {
		agent, output := agent(t, &sends{failures: []error{err}})
		expect(t, "the same error", agent.Once() == err, true)
		expect(t, "waiting", agent.Queue.Len(), 1)
		expect(t, "said", output.String(), fmt.Sprintf("1 samples wait: %v\n", err))
	}
}

func TestTheOneThatIsRejectedIsFoundAndTheOthersAreSent(t *testing.T) {
	for bad := 0; bad < 9; bad++ {
		agent, _ := agent(t, &sends{})
		agent.Send = rejects(fmt.Sprint(bad))
		put(t, agent.Queue, "0", "1", "2", "3", "4", "5", "6", "7", "8")
		if err := agent.Once(); err != nil {
			t.Fatal(err)
		}
		expect(t, "sent", agent.Queue.Count("sent"), 9)
		expect(t, "rejected", agent.Queue.Count("rejected_total"), 1)
	}
}

func TestAfterARejectionBatchesGrowAgain(t *testing.T) {
	tooLarge := &Failure{Status: 413, FromManager: true}
	s := &sends{failures: []error{tooLarge, tooLarge}}
	agent, _ := agent(t, s)
	put(t, agent.Queue, "1", "2", "3", "4", "5", "6", "7")
	if err := agent.Once(); err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for _, batch := range s.batches {
		sizes = append(sizes, len(strings.Fields(batch)))
	}
	expect(t, "sizes", fmt.Sprint(sizes), "[8 4 2 4 2]")
}

func TestAProxyThatTakesLessGetsLessAndDiscardsNothing(t *testing.T) {
	tooLarge := &Failure{Status: 413}
	s := &sends{failures: []error{tooLarge, tooLarge, tooLarge}}
	agent, _ := agent(t, s)
	put(t, agent.Queue, "1", "2", "3")
	for n := 0; n < 3; n++ {
		expect(t, "failure", agent.deliver() == tooLarge, true)
	}
	expect(t, "waiting", agent.Queue.Len(), 3)
	expect(t, "batches", fmt.Sprintf("%q", s.batches), `["1 2 3" "1" "1"]`)
}

func TestNothingMeasuredIsAnError(t *testing.T) {
	agent, _ := agent(t, &sends{})
	agent.Measure = func(time.Time) (map[string]any, error) { return nil, errors.New("no wg0") }
	if err := agent.Once(); err == nil || !strings.Contains(err.Error(), "no wg0") {
		t.Error(err)
	}
}

func TestItRunsThroughAnOutageUntilItIsStopped(t *testing.T) {
	down := errors.New("down")
	s := &sends{failures: []error{down, down, down}, sent: make(chan struct{})}
	agent, output := agent(t, s)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		agent.Run(ctx)
		close(ended)
	}()
	for n := 0; n < 5; n++ {
		<-s.sent
	}
	stop()
	for open := true; open; {
		select {
		case <-s.sent: // one more may be in flight
		case <-ended:
			open = false
		}
	}
	if n := strings.Count(output.String(), "down"); n != 1 {
		t.Errorf("the same error was logged %d times:\n%s", n, output)
	}
	if agent.Queue.Count("sent") < 2 {
		t.Error("nothing was sent after the outage")
	}
}

func TestAgentsMeasureEvenlySpread(t *testing.T) {
	const agents, parts = 6000, 60
	now := time.Unix(1_700_000_017, 123)
	counts := make([]int, parts)
	for n := 0; n < agents; n++ {
		id := fmt.Sprintf("client-%07d", n)
		agent := &Agent{Interval: time.Minute, ID: func() (string, error) { return id, nil }}
		first := agent.untilFirst(now)
		if first < 0 || first >= time.Minute {
			t.Fatalf("%s waits for %v", id, first)
		}
		later := now.Add(47 * time.Second)
		if moved := later.Add(agent.untilFirst(later)).Sub(now.Add(first)); moved%time.Minute != 0 {
			t.Fatalf("%s moves by %v with a restart", id, moved)
		}
		counts[first*parts/time.Minute]++
	}
	for part, count := range counts {
		if count < 50 || count > 150 {
			t.Errorf("%d of %d agents measure in second %d", count, agents, part)
		}
	}
}

func TestAnAgentWithoutAnIDMeasuresWithinTheInterval(t *testing.T) {
	agent := &Agent{Interval: time.Minute, ID: func() (string, error) { return "", errors.New("none") }}
	for n := 0; n < 100; n++ {
		if first := agent.untilFirst(time.Now()); first < 0 || first >= time.Minute {
			t.Fatalf("it waits for %v", first)
		}
	}
}
