// The client submits the counters of a network interface once a minute, with its API key.
//
//	client        run until SIGTERM
//	client -once  measure once, submit all queued samples; exit status 0 if all were sent
//
// Its settings come from the environment: see README.md of the examples.
package main

import (
	"os"
	"time"

	"example.org/tobogganing-metrics/metrics"
)

func main() { os.Exit(metrics.Main(load, os.Getenv, os.Args[1:], os.Stderr)) }

func load(environment *metrics.Environment) metrics.Program {
	settings := environment.Settings("CLIENT_ID", time.Minute)
	headless := environment.Text("HEADLESS", "false")
	if headless != "true" && headless != "false" {
		environment.Problem("HEADLESS must be true or false")
	}
	return metrics.Program{
		Settings:   settings,
		Kind:       "client",
		Labels:     map[string]any{"headless": headless == "true"},
		Credential: settings.Key,
		Measure:    settings.System.Client,
	}
}
