package metrics

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Program describes the differences between the client and the headend.
type Program struct {
	Settings
	// Kind is client or headend.
	Kind       string
	Labels     map[string]any
	Credential Credential
	Measure    func(now time.Time) (map[string]any, error)
}

// Main runs a program until SIGTERM or an interrupt, or once with the argument -once. It returns
// the exit status: 2 if settings are not valid, 1 if samples remain queued.
func Main(load func(*Environment) Program, getenv func(string) string, args []string, output io.Writer) int {
	logger := log.New(output, "", log.LstdFlags|log.LUTC)
	once := len(args) == 1 && args[0] == "-once"
	if len(args) > 0 && !once {
		fmt.Fprintln(output, "usage: [-once]; settings come from the environment")
		return 2
	}
	environment := &Environment{Get: getenv}
	program := load(environment)
	if err := environment.Err(); err != nil {
		logger.Print(err)
		return 2
	}
	queue, err := OpenQueue(program.Queue, program.QueueMax)
	if err != nil {
		logger.Print(err)
		return 2
	}
	sender := &Sender{
		Labels:     program.Labels,
		Credential: program.Credential,
		HTTP:       NewHTTP(),
	}
	identified := &IdentifiedSender{Sender: sender, Identity: &Identity{
		Manager: program.Manager,
		Kind:    program.Kind,
		FixedID: program.ID,
		Name:    program.Name,
		Key:     program.Key,
		Token:   program.Enrolment,
		Period:  program.RotateAfter,
		Pause:   program.MostPause,
		HTTP:    sender.HTTP,
		Log:     logger,
	}}
	agent := &Agent{
		Measure:  program.Measure,
		Queue:    queue,
		Send:     identified.Send,
		Interval: program.Interval,
		ID:       identified.Identity.ID,
		Backoff:  NewBackoff(program.MostPause),
		Log:      logger,
	}
	if once {
		if agent.Once() != nil {
			return 1
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	agent.Run(ctx)
	return 0
}
