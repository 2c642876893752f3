package metrics

import (
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Settings are the settings of both programs.
type Settings struct {
	// ID is empty if it comes from an enrolment.
	Manager, ID string
	Key         KeyFile
	Enrolment   KeyFile // the token's file, if there is one
	Name        string
	RotateAfter time.Duration // 0: never
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
	enrolment := e.Get("ENROLMENT_TOKEN_FILE")
	fixed := e.Get(id)
	if enrolment == "" {
		fixed = e.Text(id, "")
	}
	return Settings{
		Manager:     manager,
		ID:          fixed,
		Key:         KeyFile(e.Text("API_KEY_FILE", "")),
		Enrolment:   KeyFile(enrolment),
		Name:        e.name(),
		Queue:       e.Text("QUEUE_DIR", ""),
		QueueMax:    int(e.number("QUEUE_MAX", 1440)),
		Interval:    e.seconds("INTERVAL_SECONDS", interval),
		MostPause:   e.seconds("MAX_PAUSE_SECONDS", time.Minute),
		RotateAfter: e.days("ROTATE_KEY_DAYS"),
		System:      System{e.Text("SYSTEM_ROOT", "/"), e.Text("INTERFACE", "wg0")},
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

// name is the name under which the agent enrols.
func (e *Environment) name() string {
	if name := e.Get("AGENT_NAME"); name != "" {
		return name
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "agent"
	}
	return name
}

// days reads a setting that may be 0, which is the default.
func (e *Environment) days(name string) time.Duration {
	if text := e.Get(name); text == "" || text == "0" {
		return 0
	}
	return time.Duration(e.number(name, 0) * 24 * float64(time.Hour))
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
	if err != nil || !(value > 0) || value > 1e5 {
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
