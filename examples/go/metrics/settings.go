package metrics

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Settings are the settings of both programs.
type Settings struct {
	Manager, ID string
	Key         KeyFile
	Queue       string
	QueueMax    int
	Interval    time.Duration
	MostPause   time.Duration
	System      System
}

// Environment reads settings, and collects their errors.
type Environment struct {
	Get      func(name string) string
	problems []string
}

// Settings reads the settings of both programs; `id` is the name of the setting with the id.
func (e *Environment) Settings(id string, interval time.Duration) Settings {
	manager := strings.TrimRight(e.Text("MANAGER_URL", ""), "/")
	if address, err := url.Parse(manager); manager != "" && (err != nil || address.Host == "") {
		e.Problem("MANAGER_URL is not a URL")
	}
	return Settings{
		Manager:   manager,
		ID:        e.Text(id, ""),
		Key:       KeyFile(e.Text("API_KEY_FILE", "")),
		Queue:     e.Text("QUEUE_DIR", ""),
		QueueMax:  int(e.number("QUEUE_MAX", 1440)),
		Interval:  e.seconds("INTERVAL_SECONDS", interval),
		MostPause: e.seconds("MAX_PAUSE_SECONDS", time.Minute),
		System:    System{e.Text("SYSTEM_ROOT", "/"), e.Text("INTERFACE", "wg0")},
	}
}

// Text reads a setting; without a default it is required.
func (e *Environment) Text(name, otherwise string) string {
	if value := e.Get(name); value != "" {
		return value
	}
	if otherwise == "" {
		e.Problem(name + " is not set")
	}
	return otherwise
}

func (e *Environment) seconds(name string, otherwise time.Duration) time.Duration {
	return time.Duration(e.number(name, otherwise.Seconds()) * float64(time.Second))
}

func (e *Environment) number(name string, otherwise float64) float64 {
	text := e.Get(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || value <= 0 || value > 1e6 {
		e.Problem(name + " is not a number above 0")
		return otherwise
	}
	return value
}

// Problem records an error.
func (e *Environment) Problem(problem string) { e.problems = append(e.problems, problem) }

// Err returns all errors as one.
func (e *Environment) Err() error {
	if len(e.problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(e.problems, "; "))
}
