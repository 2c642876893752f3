package metrics

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxSamples is how many samples go in one request: frames of the pipeline hold no more.
	MaxSamples = 500
	// MaxBytes is how large they may be together: the limit of a body, 64 KiB, less the rest.
	MaxBytes = 60 << 10
	// gzipFrom is from which size a body is compressed. A single sample is smaller: it would
	// hardly shrink, and the manager takes plain ones at less cost.
	gzipFrom = 1 << 10

	timeout   = 10 * time.Second // the manager responds within 8
	maxAnswer = 1 << 20

	// managerHeader is in every response of the manager, with the value managerValue. A response
	// without it comes from a proxy, a firewall or a captive portal.
	managerHeader = "Tobogganing-Service"
	managerValue  = "manager"
)

// Failure is why a request did not succeed.
type Failure struct {
	// Status is that of the answer; 0 where there was none.
	Status int
	// Reason is for people.
	Reason string
	// RetryAfter is how long the manager asks to wait.
	RetryAfter time.Duration
	// FromManager tells whether the response is certainly the manager's own.
	FromManager bool
	// Invalid tells whether no request was made, as the sample is not a JSON object.
	Invalid bool
}

func (f *Failure) Error() string { return f.Reason }

// Rejected tells whether the manager will never accept these samples. Only the manager can say so:
// a proxy's 400 or 413 is about the connection, or about a limit of its own.
func (f *Failure) Rejected() bool {
	return f.Invalid || f.FromManager && (f.Status == http.StatusBadRequest || f.TooLarge())
}

// TooLarge tells whether the manager, or a proxy before it, takes only smaller requests.
func (f *Failure) TooLarge() bool { return f.Status == http.StatusRequestEntityTooLarge }

// Credential is what a sender proves itself with.
type Credential interface {
	// Bearer returns the text to send.
	Bearer(ctx context.Context) (string, error)
	// Identify is told whose credential it is.
	Identify(id string)
	// Refused is told of a 401, and tells whether Bearer has another one now.
	Refused() bool
}

// Sender submits samples of one client or headend.
type Sender struct {
	// URL is that of the endpoint.
	URL string
	// Labels go with each request: headless of a client, headend_name of a headend.
	Labels     map[string]any
	Credential Credential
	HTTP       *http.Client
}

// NewHTTP returns a client that follows no redirection, which would carry the credential along, and
// that resumes TLS sessions, which saves the manager most of the cost of a new connection.
func NewHTTP() *http.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	return &http.Client{Timeout: timeout, CheckRedirect: stay, Transport: transport}
}

// Send submits samples, oldest first, each a JSON object with timestamp and metrics. Without an
// error the manager has all of them. The error is a *Failure where the manager is its cause.
func (s *Sender) Send(ctx context.Context, samples [][]byte) error {
	body, err := s.body(samples)
	if err != nil {
		return err
	}
	err = s.post(ctx, body)
	if failure, ok := err.(*Failure); ok && failure.Status == http.StatusUnauthorized {
		if s.Credential.Refused() {
			err = s.post(ctx, body)
		}
	}
	return err
}

// body is the guide's payload for one sample, and a backlog for several.
func (s *Sender) body(samples [][]byte) ([]byte, error) {
	document := map[string]any{}
	if len(samples) == 1 {
		if err := json.Unmarshal(samples[0], &document); err != nil {
			return nil, &Failure{Reason: "not a sample: " + err.Error(), Invalid: true}
		}
		if document == nil {
			return nil, &Failure{Reason: "not a sample: null", Invalid: true}
		}
	} else {
		list := make([]json.RawMessage, len(samples))
		for place, sample := range samples {
			list[place] = sample
		}
		document["samples"] = list
	}
	for name, value := range s.Labels {
		document[name] = value
	}
	return json.Marshal(document)
}

func (s *Sender) post(ctx context.Context, body []byte) error {
	bearer, err := s.Credential.Bearer(ctx)
	if err != nil {
		return err
	}
	var answer struct{ Status string }
	if err := post(ctx, s.HTTP, s.URL, bearer, body, &answer); err != nil {
		return err
	}
	if answer.Status != "metrics_received" { // such as a hotel's page
		return &Failure{Status: http.StatusOK, Reason: "the response is not the manager's"}
	}
	return nil
}

// post sends JSON and decodes the answer. The error is a *Failure.
func post(ctx context.Context, client *http.Client, url, bearer string, body []byte, answer any) error {
	request, err := request(ctx, url, bearer, body)
	if err != nil {
		return &Failure{Reason: err.Error()}
	}
	response, err := client.Do(request)
	if err != nil {
		return &Failure{Reason: err.Error()}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return &Failure{Reason: err.Error()}
	}
	if response.StatusCode != http.StatusOK {
		seconds, _ := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 31)
		fromManager := response.Header.Get(managerHeader) == managerValue
		sender := "the manager"
		if !fromManager {
			sender = "something before the manager"
		}
		return &Failure{
			Status:      response.StatusCode,
			Reason:      fmt.Sprintf("%s responds %s: %s", sender, response.Status, shown(content)),
			RetryAfter:  time.Duration(seconds) * time.Second,
			FromManager: fromManager,
		}
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return &Failure{Status: http.StatusOK, Reason: "the response is not the manager's"}
	}
	return nil
}

func request(ctx context.Context, url, bearer string, body []byte) (*http.Request, error) {
	packed := len(body) >= gzipFrom
	if packed {
		var buffer bytes.Buffer
		writer := gzip.NewWriter(&buffer)
		_, _ = writer.Write(body) // a buffer takes all
		_ = writer.Close()
		body = buffer.Bytes()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if packed {
		request.Header.Set("Content-Encoding", "gzip")
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	return request, nil
}

// shown is the start of an answer, in one line.
func shown(content []byte) string {
	text := strings.Join(strings.Fields(string(content)), " ")
	if len(text) > 200 {
		text = text[:200] + " …"
	}
	return text
}
