package metrics

import (
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sent is a request that the tests' manager received.
type sent struct {
	path, bearer, encoding string
	body                   map[string]any
}

// manager responds to each request with the next of `answers`, and then always with the last.
func manager(t *testing.T, answers ...http.HandlerFunc) (*httptest.Server, *[]sent) {
	t.Helper()
	var requests []sent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var reader io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
			}
			reader = unpacked
		}
		got := sent{
			path:     r.Method + " " + r.URL.Path,
			bearer:   r.Header.Get("Authorization"),
			encoding: r.Header.Get("Content-Encoding"),
		}
		if err := json.NewDecoder(reader).Decode(&got.body); err != nil {
			t.Error(err)
		}
		requests = append(requests, got)
		place := len(requests) - 1
		if place >= len(answers) {
			place = len(answers) - 1
		}
		answers[place](w, r)
	}))
	t.Cleanup(server.Close)
	return server, &requests
}

func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for n := 0; n < len(headers); n += 2 {
			w.Header().Set(headers[n], headers[n+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

var received = says(200, `{"status":"metrics_received","receipt":"2-1041-0"}`)

func keyFile(t *testing.T, key string) KeyFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	return KeyFile(path)
}

func sender(t *testing.T, server *httptest.Server) *Sender {
	t.Helper()
	return &Sender{
		URL:        server.URL + "/api/v1/clients/c1/metrics",
		Labels:     map[string]any{"headless": true},
		Credential: keyFile(t, "the-key\n"),
		HTTP:       NewHTTP(),
	}
}

func send(s *Sender, samples ...string) error {
	var all [][]byte
	for _, sample := range samples {
		all = append(all, []byte(sample))
	}
	return s.Send(context.Background(), all)
}

func failure(t *testing.T, err error) *Failure {
	t.Helper()
	var found *Failure
	if !errors.As(err, &found) {
		t.Fatalf("no failure: %v", err)
	}
	return found
}

func TestOneSampleIsTheGuidesPayload(t *testing.T) {
	server, requests := manager(t, received)
	if err := send(sender(t, server), `{"timestamp":7.5,"metrics":{"bytes_sent":1}}`); err != nil {
		t.Fatal(err)
	}
	got := (*requests)[0]
	expect(t, "path", got.path, "POST /api/v1/clients/c1/metrics")
	expect(t, "bearer", got.bearer, "Bearer the-key")
	expect(t, "encoding", got.encoding, "")
	body, _ := json.Marshal(got.body)
	expect(t, "body", string(body), `{"headless":true,"metrics":{"bytes_sent":1},"timestamp":7.5}`)
}

func TestWhatIsNoObjectIsRejectedWithoutARequest(t *testing.T) {
	server, requests := manager(t, received)
	for _, sample := range []string{"7", "null", "[1]", "{"} {
		found := failure(t, send(sender(t, server), sample))
		expect(t, "rejected", found.Rejected(), true)
		expect(t, "status", found.Status, 0)
	}
	expect(t, "requests", len(*requests), 0)
}

func TestSeveralSamplesAreABacklogInGzip(t *testing.T) {
	server, requests := manager(t, received)
	samples := make([]string, 50)
	for n := range samples {
		samples[n] = `{"timestamp":7.5,"metrics":{"bytes_sent":1}}`
	}
	if err := send(sender(t, server), samples...); err != nil {
		t.Fatal(err)
	}
	got := (*requests)[0]
	expect(t, "encoding", got.encoding, "gzip")
	expect(t, "samples", len(got.body["samples"].([]any)), 50)
	expect(t, "headless", got.body["headless"] == true, true)
}

func TestAnAnswerThatIsNot200SaysWhyAndWhen(t *testing.T) {
	server, _ := manager(t, says(503, `{"error": "Kafka is away"}`, "Retry-After", "7"))
	found := failure(t, send(sender(t, server), `{}`))
	expect(t, "status", found.Status, 503)
	expect(t, "retry after", found.RetryAfter, 7*time.Second)
	expect(t, "rejected", found.Rejected(), false)
	if !strings.Contains(found.Reason, "Kafka is away") {
		t.Error(found.Reason)
	}
}

func TestOnlyTheManagerRejectsSamples(t *testing.T) {
	for status, rejected := range map[int]bool{
		400: true, 413: true, 401: false, 404: false, 408: false, 415: false, 429: false, 500: false,
	} {
		server, _ := manager(t, says(status, "{}", managerHeader, managerValue), says(status, "{}"))
		s := sender(t, server)
		expect(t, "rejected", failure(t, send(s, `{}`)).Rejected(), rejected)
		expect(t, "rejected by a proxy", failure(t, send(s, `{}`)).Rejected(), false)
	}
}

func TestNoAnswerIsAFailureToo(t *testing.T) {
	server, _ := manager(t, received)
	server.Close()
	expect(t, "status", failure(t, send(sender(t, server), `{}`)).Status, 0)
}

func TestAHotelsPageIsNotTheManager(t *testing.T) {
	for _, page := range []string{"<html>Welcome</html>", `{"status":"ok"}`} {
		server, _ := manager(t, says(200, page))
		found := failure(t, send(sender(t, server), `{}`))
		expect(t, "reason", found.Reason, "the response does not come from the manager")
		expect(t, "rejected", found.Rejected(), false)
	}
}

func TestTheCredentialFollowsNoRedirection(t *testing.T) {
	elsewhere, requests := manager(t, received)
	server, _ := manager(t, says(307, "", "Location", elsewhere.URL))
	expect(t, "status", failure(t, send(sender(t, server), `{}`)).Status, 307)
	expect(t, "requests elsewhere", len(*requests), 0)
}

func TestAnotherKeyNeedsNoRestart(t *testing.T) {
	server, requests := manager(t, says(401, "{}"), received)
	s := sender(t, server)
	expect(t, "status", failure(t, send(s, `{}`)).Status, 401)
	if err := os.WriteFile(string(s.Credential.(KeyFile)), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := send(s, `{}`); err != nil {
		t.Fatal(err)
	}
	expect(t, "bearer", (*requests)[1].bearer, "Bearer another")
}

func TestAFileWithoutAKeyIsSaid(t *testing.T) {
	for _, content := range []string{"", " \n", "two keys\n", "a\nkey", "a\x00key", "schlüssel"} {
		if _, err := keyFile(t, content).Bearer(context.Background()); err == nil {
			t.Errorf("%q is no key", content)
		}
	}
}

func TestABlankAtTheEndOfTheKeyFileIsNoPartOfTheKey(t *testing.T) {
	for _, content := range []string{"key", "key\n", "key\r\n", " \tkey \r\n\n", "\ufeffkey\r\n"} {
		key, err := keyFile(t, content).Bearer(context.Background())
		if err != nil || key != "key" {
			t.Errorf("%q holds %q (%v)", content, key, err)
		}
	}
}

func TestTheNextConnectionResumesTheTLSSession(t *testing.T) {
	var resumed []bool
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resumed = append(resumed, r.TLS.DidResume)
		w.Header().Set("Connection", "close")
		received(w, r)
	}))
	server.StartTLS()
	t.Cleanup(server.Close)
	s := sender(t, server)
	authorities := x509.NewCertPool()
	authorities.AddCert(server.Certificate())
	s.HTTP.Transport.(*http.Transport).TLSClientConfig.RootCAs = authorities
	for n := 0; n < 2; n++ {
		if err := send(s, `{}`); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, "resumed", fmt.Sprint(resumed), "[false true]")
}
