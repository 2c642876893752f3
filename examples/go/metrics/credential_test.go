package metrics

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// token responds with a token that is valid for this number of seconds.
func token(name string, life int) http.HandlerFunc {
	claims := fmt.Sprintf(`{"sub":%q,"iat":1000000,"exp":%d}`, name, 1000000+life)
	text := "ey." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + name
	return says(200, fmt.Sprintf(`{"access_token":%q}`, text))
}

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) forward(seconds int) { c.now = c.now.Add(time.Duration(seconds) * time.Second) }

func tokens(t *testing.T, answers ...http.HandlerFunc) (*Tokens, *clock, *[]sent) {
	t.Helper()
	server, requests := manager(t, answers...)
	clock := &clock{time.Unix(5000, 0)}
	return &Tokens{
		URL:      server.URL + "/api/v1/auth/token",
		NodeID:   "h1",
		NodeType: "headend",
		Key:      keyFile(t, "the-key"),
		HTTP:     NewHTTP(),
		Now:      func() time.Time { return clock.now },
	}, clock, requests
}

func bearer(t *testing.T, tokens *Tokens) string {
	t.Helper()
	text, err := tokens.Bearer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return text[len(text)-1:]
}

func TestATokenIsAskedForWithTheKeyAndUsedAgain(t *testing.T) {
	tokens, clock, requests := tokens(t, token("a", 90))
	expect(t, "token", bearer(t, tokens), "a")
	clock.forward(59)
	expect(t, "token", bearer(t, tokens), "a")
	expect(t, "requests", len(*requests), 1)
	got := (*requests)[0]
	expect(t, "path", got.path, "POST /api/v1/auth/token")
	expect(t, "who", fmt.Sprint(got.body), "map[api_key:the-key node_id:h1 node_type:headend]")
}

func TestATokenIsRenewedBeforeItEndsWhateverTheClockSays(t *testing.T) {
	tokens, clock, _ := tokens(t, token("a", 90), token("b", 90))
	expect(t, "token", bearer(t, tokens), "a")
	clock.forward(61)
	expect(t, "token", bearer(t, tokens), "b")
}

func TestATokenIsUsedToItsEndIfThereIsNoOther(t *testing.T) {
	tokens, clock, _ := tokens(t, token("a", 90), says(503, "{}", "Retry-After", "3"))
	expect(t, "token", bearer(t, tokens), "a")
	clock.forward(89)
	expect(t, "token", bearer(t, tokens), "a")
	clock.forward(2)
	_, err := tokens.Bearer(context.Background())
	expect(t, "retry after", failure(t, err).RetryAfter, 3*time.Second)
}

func TestARefusedTokenIsReplacedAtOnceAndOnce(t *testing.T) {
	var bearers []string
	server, requests := manager(t, says(401, "{}"), received, says(401, "{}"))
	tokens, _, _ := tokens(t, token("a", 90), token("b", 90), token("c", 90))
	s := sender(t, server)
	s.Credential = tokens
	if err := send(s, `{}`); err != nil {
		t.Fatal(err)
	}
	expect(t, "status", failure(t, send(s, `{}`)).Status, 401)
	for _, request := range *requests {
		bearers = append(bearers, request.bearer[len(request.bearer)-1:])
	}
	expect(t, "tokens", fmt.Sprint(bearers), "[a b b c]")
}

func TestARefusedKeyIsNotTheSamplesFault(t *testing.T) {
	for _, status := range []int{400, 401, 413} {
		tokens, _, _ := tokens(t, says(status, "{}"))
		_, err := tokens.Bearer(context.Background())
		expect(t, "rejected", failure(t, err).Rejected(), false)
	}
}

func TestATokenWithoutClaimsIsUsedOnce(t *testing.T) {
	for _, text := range []string{"", "x", "a.b.c", "a.!.c"} {
		expect(t, "lifetime", lifetime(text), 0)
	}
}
