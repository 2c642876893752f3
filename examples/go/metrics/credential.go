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

// KeyFile is the path of a file with an API key. It is read each time: another key needs no
// restart.
type KeyFile string

// Bearer returns the key.
func (k KeyFile) Bearer(context.Context) (string, error) {
	content, err := os.ReadFile(string(k))
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(strings.TrimPrefix(string(content), byteOrderMark))
	if !isKey(key) {
		return "", fmt.Errorf("%s does not hold one API key", string(k))
	}
	return key, nil
}

// byteOrderMark is what some editors put before the first character of a file.
const byteOrderMark = "\ufeff"

// notInKeys tells whether a character cannot be part of a key: only visible ASCII can.
func notInKeys(r rune) bool { return r <= ' ' || r > '~' }

// Identify does nothing: a key stands for itself.
func (k KeyFile) Identify(string) {}

// Refused tells that there is no other key.
func (k KeyFile) Refused() bool { return false }

// Tokens gets tokens for an API key, and the next one before a token ends. It is for one
// goroutine.
type Tokens struct {
	// URL is that of the endpoint, …/api/v1/auth/token.
	URL, NodeID, NodeType string
	Key                   KeyFile
	HTTP                  *http.Client
	// Now is a clock that no one sets back.
	Now func() time.Time

	token      string
	renew, end time.Time
}

// Bearer returns a token that is valid, as far as one can know here.
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

// Identify sets whose tokens these are.
func (t *Tokens) Identify(id string) { t.NodeID = id }

// Refused forgets the token, so that Bearer gets another one.
func (t *Tokens) Refused() bool {
	t.token = ""
	return true
}

// get returns a token and how long it is valid.
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
			failure.FromManager = false // whatever it says is not about the samples
		}
		return "", 0, err
	}
	return answer.AccessToken, lifetime(answer.AccessToken), nil
}

// lifetime is how long a new token is valid by its own claims, whatever the clock says here. It
// is 0 where it has none: then each request asks for another one.
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
