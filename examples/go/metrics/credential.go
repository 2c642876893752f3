package metrics

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// KeyFile is the path of a file with an API key. It is read for each request, so
// that a new key needs no restart.
type KeyFile string

// Bearer returns the key.
func (k KeyFile) Bearer(context.Context) (string, error) { return k.read("API_KEY_FILE") }

// read returns the key; errors name the setting.
func (k KeyFile) read(setting string) (string, error) {
	content, err := os.ReadFile(string(k))
	if err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	key := strings.TrimSpace(strings.TrimPrefix(string(content), byteOrderMark))
	if !isKey(key) {
		return "", fmt.Errorf("%s: %s does not contain exactly one API key", setting, string(k))
	}
	return key, nil
}

// byteOrderMark is written by some editors at the beginning of a file.
const byteOrderMark = "\ufeff"

// notInKeys returns whether a character cannot be part of a key; keys contain visible ASCII only.
func notInKeys(r rune) bool { return r <= ' ' || r > '~' }

// Identify does nothing: a key identifies its owner.
func (k KeyFile) Identify(string) {}

// Refused returns false, because there is no other key.
func (k KeyFile) Refused() bool { return false }

// Tokens requests tokens for an API key, and the next one before a token expires. It must be used
// by one goroutine only.
type Tokens struct {
	// URL is the URL of the endpoint, …/api/v1/auth/token.
	URL, NodeID, NodeType string
	Key                   KeyFile
	HTTP                  *http.Client
	// Now is a monotonic clock.
	Now func() time.Time

	token      string
	renew, end time.Time
}

// Bearer returns a token that is valid by its own claims.
func (t *Tokens) Bearer(ctx context.Context) (string, error) {
	now := t.Now()
	if t.token != "" && now.Before(t.renew) {
		return t.token, nil
	}
	token, life, err := t.get(ctx)
	if err != nil {
		if t.token != "" && now.Before(t.end) {
			return t.token, nil
		}
		return "", err
	}
	t.token, t.end = token, now.Add(life)
	t.renew = now.Add(life * 2 / 3)
	return token, nil
}

// Identify sets the id that the tokens belong to.
func (t *Tokens) Identify(id string) { t.NodeID = id }

// Refused discards the token, so that Bearer requests another one.
func (t *Tokens) Refused() bool {
	t.token = ""
	return true
}

// get requests a token; it returns the token and its lifetime.
func (t *Tokens) get(ctx context.Context) (string, time.Duration, error) {
	key, err := t.Key.Bearer(ctx)
	if err != nil {
		return "", 0, err
	}
	body, err := json.Marshal(map[string]string{
		"node_id": t.NodeID, "node_type": t.NodeType, "api_key": key,
	})
	if err != nil {
		return "", 0, err
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := post(ctx, t.HTTP, t.URL, "", body, &answer); err != nil {
		var failure *Failure
		if errors.As(err, &failure) {
			failure.Reason = "no token: " + failure.Reason
			failure.FromManager = false // the response is not about the samples
		}
		return "", 0, err
	}
	return answer.AccessToken, lifetime(answer.AccessToken), nil
}

// lifetime is the validity of a new token by its own claims, independent of the local clock. It is
// 0 if there are no such claims; then each request uses a new token.
func lifetime(token string) time.Duration {
	var claims struct{ Iat, Exp float64 }
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return 0
	}
	return time.Duration((claims.Exp - claims.Iat) * float64(time.Second))
}
