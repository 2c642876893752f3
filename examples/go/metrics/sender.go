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
	// MaxSamples is the maximum number of samples in one request; it is that of a frame.
	MaxSamples = 500
	// MaxBytes is their maximum total size; labels and punctuation fit the other 4 KiB of a body.
	MaxBytes = 60 << 10
	// gzipFrom is the smallest body that is compressed. A single sample is smaller; compressing
	// it would save little, and the manager handles uncompressed bodies at less cost.
	gzipFrom = 1 << 10

	timeout   = 10 * time.Second // the manager responds within 8
	maxAnswer = 1 << 20

	// managerHeader is in every response of the manager, with the value managerValue. A response
	// without it comes from a proxy, a firewall or a captive portal.
	managerHeader = "Tobogganing-Service"
	managerValue  = "manager"
)

// Failure is a failed request.
type Failure struct {
	// Status is the status of the response; 0 if there was none.
	Status int
	// Reason is a description for logs.
	Reason string
	// RetryAfter is the Retry-After of the response.
	RetryAfter time.Duration
	// FromManager is true if the response certainly comes from the manager.
	FromManager bool
	// Invalid is true if no request was sent because a sample is not a JSON object.
	Invalid bool
}

func (f *Failure) Error() string { return f.Reason }

// Rejected returns whether the manager will never accept these samples. A proxy's 400 or 413 does
// not count: it concerns the connection, or the proxy's own limit.
func (f *Failure) Rejected() bool {
	return f.Invalid || f.FromManager && (f.Status == http.StatusBadRequest || f.TooLarge())
}

// TooLarge returns whether the manager or a proxy accepts only smaller requests.
func (f *Failure) TooLarge() bool { return f.Status == http.StatusRequestEntityTooLarge }

// Credential authenticates a sender.
type Credential interface {
	// Bearer returns the credential to send.
	Bearer(ctx context.Context) (string, error)
	// Identify is called with the id that the credential belongs to.
	Identify(id string)
	// Refused is called after a 401; it returns whether Bearer may return another one.
	Refused() bool
}

// Sender submits samples of one client or headend.
type Sender struct {
	// URL is the URL of the endpoint.
	URL string
	// Labels are sent with each request: headless of a client, headend_name of a headend.
	Labels     map[string]any
	Credential Credential
	HTTP       *http.Client
}

// NewHTTP returns a client that follows no redirects, because they would forward the credential. It
// keeps its connection between two reports, and resumes the TLS session if the connection was
// closed: both avoid most of the manager's cost of a new connection.
func NewHTTP() *http.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.IdleConnTimeout = 85 * time.Second // the manager closes idle connections after 90
	transport.TLSClientConfig = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	return &http.Client{Timeout: timeout, CheckRedirect: stay, Transport: transport}
}

// Send submits samples, oldest first, each a JSON object with timestamp and metrics. Without an
// error, the manager has confirmed all of them. The error is a *Failure if the request failed.
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

// body is a submission for one sample, and a backlog for several.
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
	if answer.Status != "metrics_received" { // e.g. the page of a captive portal
		return &Failure{Status: http.StatusOK, Reason: "the response does not come from the manager"}
	}
	return nil
}

// post sends JSON and decodes the response. The error is a *Failure.
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
			sender = "an intermediary"
		}
		return &Failure{
			Status:      response.StatusCode,
			Reason:      fmt.Sprintf("%s responds %s: %s", sender, response.Status, shown(content)),
			RetryAfter:  time.Duration(seconds) * time.Second,
			FromManager: fromManager,
		}
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return &Failure{Status: http.StatusOK, Reason: "the response does not come from the manager"}
	}
	return nil
}

func request(ctx context.Context, url, bearer string, body []byte) (*http.Request, error) {
	packed := len(body) >= gzipFrom
	if packed {
		var buffer bytes.Buffer
		writer := gzip.NewWriter(&buffer)
		_, _ = writer.Write(body) // a buffer never fails
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

// shown returns the start of a response in one line.
func shown(content []byte) string {
	text := strings.Join(strings.Fields(string(content)), " ")
	if len(text) > 200 {
		text = text[:200] + " …"
	}
	return text
}
