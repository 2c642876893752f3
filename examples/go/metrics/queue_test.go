package metrics

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openQueue(t *testing.T, folder string, limit int) *Queue {
	t.Helper()
	queue, err := OpenQueue(folder, limit)
	if err != nil {
		t.Fatal(err)
	}
	return queue
}

func put(t *testing.T, queue *Queue, samples ...string) {
	t.Helper()
	for _, sample := range samples {
		if _, err := queue.Put([]byte(sample)); err != nil {
			t.Fatal(err)
		}
	}
}

func texts(batch []Waiting) string {
	var all []string
	for _, each := range batch {
		all = append(all, string(each.Sample))
	}
	return strings.Join(all, " ")
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestWhatWasPutIsThereWhenTheQueueIsOpenedAgain(t *testing.T) {
	folder := t.TempDir()
	put(t, openQueue(t, folder, 10), "1", "2", "3")
	queue := openQueue(t, folder, 10)
	put(t, queue, "4")
	expect(t, "samples", texts(queue.Oldest(10, 100)), "1 2 3 4")
}

func TestWhatWasSentIsGone(t *testing.T) {
	folder := t.TempDir()
	queue := openQueue(t, folder, 10)
	put(t, queue, "1", "2", "3")
	queue.Sent(queue.Oldest(2, 100)[1])
	expect(t, "samples", texts(queue.Oldest(10, 100)), "3")
	expect(t, "after opening again", texts(openQueue(t, folder, 10).Oldest(10, 100)), "3")
	expect(t, "sent", queue.Count("sent"), 2)
}

func TestAFullQueueDropsTheOldestAndCounts(t *testing.T) {
	folder := t.TempDir()
	queue := openQueue(t, folder, 3)
	put(t, queue, "1", "2", "3")
	dropped, err := queue.Put([]byte("4"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "dropped now", dropped, 1)
	put(t, queue, "5")
	expect(t, "samples", texts(queue.Oldest(10, 100)), "3 4 5")
	expect(t, "counted", openQueue(t, folder, 3).Count("dropped"), 2)
	files, _ := os.ReadDir(filepath.Join(folder, "waiting"))
	expect(t, "files", len(files), 3)
}

func TestASampleThatIsDroppedWhileItIsSentIsCountedOnce(t *testing.T) {
	queue := openQueue(t, t.TempDir(), 2)
	put(t, queue, "1", "2")
	batch := queue.Oldest(10, 100)
	put(t, queue, "3")
	queue.Sent(batch[1])
	expect(t, "samples", texts(queue.Oldest(10, 100)), "3")
	expect(t, "sent", queue.Count("sent"), 1)
	expect(t, "dropped", queue.Count("dropped"), 1)
}

func TestABatchKeepsToBothLimitsButIsNeverEmpty(t *testing.T) {
	queue := openQueue(t, t.TempDir(), 10)
	put(t, queue, "1111", "2222", "3333")
	expect(t, "by number", texts(queue.Oldest(1, 100)), "1111")
	expect(t, "by size", texts(queue.Oldest(10, 12)), "1111 2222")
	expect(t, "one that is too large", texts(queue.Oldest(10, 1)), "1111")
}

func TestAFileThatWasLeftHalfWrittenIsNoSample(t *testing.T) {
	folder := t.TempDir()
	put(t, openQueue(t, folder, 10), "1")
	scratch := filepath.Join(folder, "waiting", "00000000000000000001.json.new")
	if err := os.WriteFile(scratch, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	queue := openQueue(t, folder, 10)
	expect(t, "samples", queue.Len(), 1)
	if _, err := os.Stat(scratch); !os.IsNotExist(err) {
		t.Error("it is still there")
	}
}

func TestABrokenFileIsSetAsideAndStopsNothing(t *testing.T) {
	folder := t.TempDir()
	put(t, openQueue(t, folder, 10), "1")
	broken := filepath.Join(folder, "waiting", "00000000000000000001.json")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	queue := openQueue(t, folder, 10)
	expect(t, "samples", texts(queue.Oldest(10, 100)), "1")
	expect(t, "rejected", queue.Count("rejected_total"), 1)
	expect(t, "waiting", queue.Len(), 1)
}

func TestRejectedSamplesAreKeptWithTheReasonAndBounded(t *testing.T) {
	folder := t.TempDir()
	queue := openQueue(t, folder, 2)
	for n := 0; n < 3; n++ {
		put(t, queue, fmt.Sprint(n))
		queue.Reject(queue.Oldest(1, 100)[0], "because")
	}
	files, _ := filepath.Glob(filepath.Join(folder, "rejected", "*.json"))
	expect(t, "files", len(files), 2)
	content, _ := os.ReadFile(files[1])
	expect(t, "the last", string(content), `{"reason":"because","sample":"2"}`+"\n")
	expect(t, "rejected", queue.Count("rejected_total"), 3)
	expect(t, "waiting", openQueue(t, folder, 2).Len(), 0)
}

func TestWithoutADiskSamplesAreKeptInMemory(t *testing.T) {
	folder := t.TempDir()
	queue := openQueue(t, folder, 2)
	waiting := filepath.Join(folder, "waiting")
	if err := os.Remove(waiting); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(waiting, nil, 0o600); err != nil { // no folder any more
		t.Fatal(err)
	}
	for _, sample := range []string{"1", "2", "3"} {
		if _, err := queue.Put([]byte(sample)); err == nil {
			t.Fatal("it says that it is on disk")
		}
	}
	batch := queue.Oldest(10, 100)
	expect(t, "samples", texts(batch), "2 3")
	queue.Sent(batch[1])
	expect(t, "waiting", queue.Len(), 0)
}
