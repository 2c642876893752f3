package metrics

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func environment(lines ...string) *Environment {
	return &Environment{Get: func(name string) string {
		for _, line := range lines {
			if value := strings.TrimPrefix(line, name+"="); value != line {
				return value
			}
		}
		return ""
	}}
}

func TestDefaults(t *testing.T) {
	e := environment("MANAGER_URL=https://manager.example/", "CLIENT_ID=c1", "API_KEY_FILE=key", "QUEUE_DIR=queue", "AGENT_NAME=n")
	expect(t, "settings", e.Settings("CLIENT_ID", time.Minute), Settings{
		Manager:   "https://manager.example",
		ID:        "c1",
		Key:       "key",
		Name:      "n",
		Queue:     "queue",
		QueueMax:  1440,
		Interval:  time.Minute,
		MostPause: time.Minute,
		System:    System{"/", "wg0"},
	})
	if err := e.Err(); err != nil {
		t.Error(err)
	}
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	e := environment("MANAGER_URL=manager", "API_KEY_FILE=key", "INTERVAL_SECONDS=0", "QUEUE_MAX=many")
	e.Settings("CLIENT_ID", time.Minute)
	expect(t, "error", e.Err().Error(), "MANAGER_URL is not a URL; CLIENT_ID is not set; QUEUE_DIR is not set; "+
		"QUEUE_MAX is not a number above 0; INTERVAL_SECONDS is not a number above 0")
}

func TestAProgramThatCannotStartSaysWhyAndEndsWith2(t *testing.T) {
	load := func(e *Environment) Program { return Program{Settings: e.Settings("CLIENT_ID", time.Minute)} }
	for _, args := range [][]string{{}, {"-once"}, {"-twice"}} {
		var output bytes.Buffer
		expect(t, "status", Main(load, environment().Get, args, &output), 2)
		if output.Len() == 0 {
			t.Error("it says nothing")
		}
	}
}

func TestOnceTellsByItsStatusWhetherAllWasSent(t *testing.T) {
	server, _ := manager(t, received, says(503, "{}"))
	folder := t.TempDir()
	load := func(e *Environment) Program {
		return Program{
			Settings:   e.Settings("CLIENT_ID", time.Minute),
			Kind:       "client",
			Credential: keyFile(t, "the-key"),
			Measure:    machine(t, folder, 1, 2, "1 1 1 1").Client,
		}
	}
	get := environment("MANAGER_URL="+server.URL, "CLIENT_ID=c1", "API_KEY_FILE=-", "QUEUE_DIR="+folder).Get
	for _, status := range []int{0, 1} {
		expect(t, "status", Main(load, get, []string{"-once"}, &bytes.Buffer{}), status)
	}
}
