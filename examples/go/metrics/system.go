package metrics

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// System is a Linux machine, read through the files below Root ("/", or the host's root in a
// container), and one of its network interfaces.
type System struct {
	Root, Interface string
}

// Client measures the metrics of a client.
func (s System) Client(time.Time) (map[string]any, error) {
	values := map[string]any{}
	for name, file := range map[string]string{
		"bytes_sent": "tx_bytes", "bytes_received": "rx_bytes",
		"packets_sent": "tx_packets", "packets_received": "rx_packets",
	} {
		value, err := s.counter(file)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	fields, err := s.fields("proc/uptime", "")
	if err != nil {
		return nil, err
	}
	uptime, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return nil, fmt.Errorf("proc/uptime: %w", err)
	}
	values["connection_uptime"] = uptime
	return values, nil
}

// Headend measures the metrics of a headend. Only System must be set.
type Headend struct {
	System
	// Connections is a shell command that prints the number of active connections; if it is
	// empty or fails, the metric is omitted.
	Connections string

	at             time.Time
	received, sent uint64
	busy, total    float64
}

// Measure returns the load: bandwidth in bytes per second since the last call (omitted in the
// first), CPU in percent since the last call (since boot in the first), memory in bytes.
func (h *Headend) Measure(now time.Time) (map[string]any, error) {
	values := map[string]any{}
	received, err := h.counter("rx_bytes")
	if err != nil {
		return nil, err
	}
	sent, err := h.counter("tx_bytes")
	if err != nil {
		return nil, err
	}
	seconds := now.Sub(h.at).Seconds()
	if !h.at.IsZero() && seconds > 0 && received >= h.received && sent >= h.sent {
		values["bandwidth_in"] = math.Round(float64(received-h.received) / seconds)
		values["bandwidth_out"] = math.Round(float64(sent-h.sent) / seconds)
	}
	h.at, h.received, h.sent = now, received, sent
	if values["cpu_usage"], err = h.cpu(); err != nil {
		return nil, err
	}
	if values["memory_usage"], err = h.memory(); err != nil {
		return nil, err
	}
	if connections, err := h.connections(); err == nil {
		values["active_connections"] = connections
	}
	return values, nil
}

func (h *Headend) connections() (uint64, error) {
	if h.Connections == "" {
		return 0, errors.New("no command")
	}
	output, err := exec.Command("sh", "-c", h.Connections).Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(output)), 10, 63)
}

func (h *Headend) cpu() (float64, error) {
	fields, err := h.fields("proc/stat", "cpu")
	if err != nil {
		return 0, err
	}
	var total, idle float64
	for place, field := range fields {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, fmt.Errorf("proc/stat: %w", err)
		}
		if place < 8 { // user nice system idle iowait irq softirq steal; guests are in user
			total += ticks
		}
		if place == 3 || place == 4 {
			idle += ticks
		}
	}
	busy := total - idle
	moreBusy, more := busy-h.busy, total-h.total
	h.busy, h.total = busy, total
	if more <= 0 {
		return 0, nil
	}
	return math.Max(0, math.Round(1000*moreBusy/more)/10), nil
}

func (h *Headend) memory() (float64, error) {
	var kilobytes [2]float64
	for place, name := range []string{"MemTotal:", "MemAvailable:"} {
		fields, err := h.fields("proc/meminfo", name)
		if err != nil {
			return 0, err
		}
		if kilobytes[place], err = strconv.ParseFloat(fields[0], 64); err != nil {
			return 0, fmt.Errorf("proc/meminfo: %w", err)
		}
	}
	return (kilobytes[0] - kilobytes[1]) * 1024, nil
}

func (s System) counter(name string) (uint64, error) {
	path := filepath.Join(s.Root, "sys/class/net", s.Interface, "statistics", name)
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("no counters of INTERFACE %s: %w", s.Interface, err)
	}
	value, err := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s contains no counter: %w", path, err)
	}
	return value, nil
}

// fields returns the fields after the word `first` in the line that starts with it; without a word,
// the fields of the first line.
func (s System) fields(path, first string) ([]string, error) {
	content, err := os.ReadFile(filepath.Join(s.Root, path))
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(content), "\n") {
		fields := strings.Fields(line)
		if first == "" && len(fields) > 0 {
			return fields, nil
		}
		if len(fields) > 1 && fields[0] == first {
			return fields[1:], nil
		}
	}
	return nil, fmt.Errorf("%s: no line %s", path, first)
}
