// The headend submits its load every 30 seconds, with a token that it gets for its API key.
//
//	headend        run until SIGTERM
//	headend -once  measure once, submit all queued samples; exit status 0 if all were sent
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
	settings := environment.Settings("HEADEND_ID", 30*time.Second)
	headend := &metrics.Headend{
		System:      settings.System,
		Connections: environment.Get("CONNECTIONS_COMMAND"),
	}
	labels := map[string]any{}
	if name := environment.Get("HEADEND_NAME"); name != "" {
		labels["headend_name"] = name
	}
	return metrics.Program{
		Settings: settings,
		Kind:     "headend",
		Labels:   labels,
		Credential: &metrics.Tokens{
			URL:      settings.Manager + "/api/v1/auth/token",
			NodeType: "headend",
			Key:      settings.Key,
			HTTP:     metrics.NewHTTP(),
			Now:      time.Now,
		},
		Measure: headend.Measure,
	}
}
