package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Queue keeps samples in a folder until they are sent, oldest first. Samples survive a crash of the
// process.
//
//	waiting/<number>.json   one sample
//	rejected/<number>.json  {"reason": …, "sample": …}, a sample that the manager rejected
//	sent, dropped, rejected_total  counters since the folder was created
//
// If the disk is full, samples are kept in memory. A Queue is safe for concurrent use by the
// goroutines of one process; each process needs its own folder.
type Queue struct {
	folder string
	limit  int

	mu      sync.Mutex
	waiting []Waiting
}

// Waiting is a queued sample in JSON, identified by its number.
type Waiting struct {
	Number int64
	Sample []byte
	lost   bool // it could not be written
}

// OpenQueue opens the queue in a folder, which is created if it is missing. It keeps at most
// `limit` samples, and as many rejected ones.
func OpenQueue(folder string, limit int) (*Queue, error) {
	q := &Queue{folder: folder, limit: limit}
	for _, name := range []string{"waiting", "rejected"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o700); err != nil {
			return nil, err
		}
	}
	numbers, err := q.list("waiting")
	if err != nil {
		return nil, err
	}
	for _, number := range numbers {
		q.waiting = append(q.waiting, Waiting{Number: number})
	}
	return q, nil
}

// Put adds a sample and drops the oldest ones beyond the limit; it returns the number of dropped
// samples. The sample is queued even if there is an error, which gives the reason why it is not on disk.
func (q *Queue) Put(sample []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	number := time.Now().UnixNano()
	if n := len(q.waiting); n > 0 && number <= q.waiting[n-1].Number {
		number = q.waiting[n-1].Number + 1
	}
	added := Waiting{Number: number}
	err := write(q.path("waiting", number), sample)
	if err != nil {
		added.Sample, added.lost = sample, true
	}
	q.waiting = append(q.waiting, added)
	surplus := len(q.waiting) - q.limit
	if surplus <= 0 {
		return 0, err
	}
	return q.remove(q.waiting[surplus-1].Number, "dropped"), err
}

// Len returns the number of queued samples.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Oldest returns the oldest samples, limited by number and total bytes, but at least one if there
// is one. Files that do not contain JSON are rejected.
func (q *Queue) Oldest(most, size int) []Waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	var oldest []Waiting
	var broken []Waiting
	for _, each := range q.waiting {
		if !each.lost {
			sample, err := os.ReadFile(q.path("waiting", each.Number))
			each.Sample = bytes.TrimSpace(sample)
			if err != nil || !json.Valid(each.Sample) { // e.g. after a power failure
				broken = append(broken, each)
				continue
			}
		}
		size -= len(each.Sample) + 1
		if len(oldest) == most || len(oldest) > 0 && size < 0 {
			break
		}
		oldest = append(oldest, each)
	}
	for _, each := range broken {
		q.reject(each, "the file contains no sample")
	}
	return oldest
}

// Sent removes the samples up to and including this one.
func (q *Queue) Sent(last Waiting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(last.Number, "sent")
}

// Reject moves a sample to the rejected ones, with the reason.
func (q *Queue) Reject(sample Waiting, reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reject(sample, reason)
}

func (q *Queue) reject(sample Waiting, reason string) {
	entry := map[string]string{"reason": reason, "sample": string(sample.Sample)}
	text, _ := json.Marshal(entry) // strings always encode
	// It is removed from the queue even if it cannot be stored: it must not be sent forever.
	_ = write(q.path("rejected", sample.Number), append(text, '\n'))
	for place, each := range q.waiting {
		if each.Number == sample.Number {
			q.waiting = append(q.waiting[:place:place], q.waiting[place+1:]...)
			q.count("rejected_total", 1)
			break
		}
	}
	_ = os.Remove(q.path("waiting", sample.Number))
	if kept, err := q.list("rejected"); err == nil && len(kept) > q.limit {
		_ = os.Remove(q.path("rejected", kept[0]))
	}
}

// remove removes the samples up to this number and counts them; it returns their number.
func (q *Queue) remove(last int64, counter string) int {
	n := 0
	for n < len(q.waiting) && q.waiting[n].Number <= last {
		_ = os.Remove(q.path("waiting", q.waiting[n].Number))
		n++
	}
	q.waiting = append([]Waiting(nil), q.waiting[n:]...)
	q.count(counter, n)
	return n
}

// Count returns a counter of the folder: sent, dropped or rejected_total.
func (q *Queue) Count(name string) int {
	text, _ := os.ReadFile(filepath.Join(q.folder, name))
	n, _ := strconv.Atoi(strings.TrimSpace(string(text))) // missing: nothing was counted yet
	return n
}

func (q *Queue) count(name string, more int) {
	if more > 0 {
		text := fmt.Sprintf("%d\n", q.Count(name)+more)
		_ = replace(filepath.Join(q.folder, name), []byte(text))
	}
}

// list returns the numbers of a folder's files in order, and removes partly written files.
func (q *Queue) list(name string) ([]int64, error) {
	files, err := os.ReadDir(filepath.Join(q.folder, name))
	if err != nil {
		return nil, err
	}
	var numbers []int64
	for _, file := range files { // sorted by name; all names have the same length
		text, isSample := cutSuffix(file.Name(), ".json")
		if number, err := strconv.ParseInt(text, 10, 64); isSample && err == nil {
			numbers = append(numbers, number)
		} else {
			_ = os.Remove(filepath.Join(q.folder, name, file.Name()))
		}
	}
	return numbers, nil
}

func (q *Queue) path(name string, number int64) string {
	return filepath.Join(q.folder, name, fmt.Sprintf("%020d.json", number))
}
