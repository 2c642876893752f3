package metrics

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// machine creates a folder with the files that are read below /.
func machine(t *testing.T, root string, sent, received int, cpu string) System {
	t.Helper()
	for path, content := range map[string]string{
		"sys/class/net/wg0/statistics/tx_bytes":   fmt.Sprintln(sent),
		"sys/class/net/wg0/statistics/rx_bytes":   fmt.Sprintln(received),
		"sys/class/net/wg0/statistics/tx_packets": "3\n",
		"sys/class/net/wg0/statistics/rx_packets": "4\n",
		"proc/uptime":  "3600.25 7000.00\n",
		"proc/stat":    "cpu  " + cpu + "\ncpu0 1 1 1 1\n",
		"proc/meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n",
	} {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return System{root, "wg0"}
}

func TestWhatAClientMeasures(t *testing.T) {
	values, err := machine(t, t.TempDir(), 1, 2, "1 0 1 2").Client(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "values", fmt.Sprint(values),
		"map[bytes_received:2 bytes_sent:1 connection_uptime:3600.25 packets_received:4 packets_sent:3]")
}

func TestAnInterfaceThatIsNotThereIsAnError(t *testing.T) {
	if _, err := (System{t.TempDir(), "wg0"}).Client(time.Now()); err == nil {
		t.Error("there is none")
	}
}

func TestAHeadendsRatesAreThoseSinceTheLastSample(t *testing.T) {
	root, now := t.TempDir(), time.Unix(1000, 0)
	headend := &Headend{System: machine(t, root, 1000, 2000, "10 0 10 70 10 0 0 0 5 0"), Connections: "echo 150"}
	measured := func(want string) {
		t.Helper()
		values, err := headend.Measure(now)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "values", fmt.Sprint(values), want)
	}
	measured("map[active_connections:150 cpu_usage:20 memory_usage:614400]")
	machine(t, root, 4000, 8000, "40 0 30 130 0 0 0 0 5 0")
	now = now.Add(30 * time.Second)
	measured("map[active_connections:150 bandwidth_in:200 bandwidth_out:100 cpu_usage:50 memory_usage:614400]")
	machine(t, root, 0, 0, "40 0 30 130 0 0 0 0 5 0") // the interface was recreated
	now = now.Add(30 * time.Second)
	headend.Connections = "exit 1"
	measured("map[cpu_usage:0 memory_usage:614400]")
}
