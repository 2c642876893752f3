package metrics

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

// longestOverlap is how long an old key stays valid after its rotation, at most.
const longestOverlap = 24 * time.Hour

// validID is the syntax of ids.
var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Identity is the id and the API key of an agent. Both are read from files; the agent itself
// obtains and rotates the key. Next to the key's file are .id (from the enrolment), .nonce (during
// an enrolment) and .next (the old and the new key, during a rotation). The agent can be killed at
// any moment: the nonce and the next key are on the disk before they are sent to the manager, and
// the key, which completes an enrolment or a rotation, is written last.
type Identity struct {
	// Manager is its address, and Kind is client or headend.
	Manager, Kind string
	// FixedID is empty if the id comes from the enrolment.
	FixedID string
	// Name is the name under which the agent enrols.
	Name string
	Key  KeyFile
	// Token is the file with the token of the enrolment; empty if there is none.
	Token KeyFile
	// Period is the age at which a key is replaced; 0 is never.
	Period time.Duration
	// Pause is the time between two attempts to replace a key.
	Pause time.Duration
	HTTP  *http.Client
	Log   *log.Logger

	rotateAt time.Time
}

// Prepare enrols, if there is a token and no key yet. After an error the next call repeats it.
func (i *Identity) Prepare(ctx context.Context) error {
	if i.Token == "" {
		return nil
	}
	if _, err := os.Stat(string(i.Key)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	token, err := i.Token.read("ENROLMENT_TOKEN_FILE")
	if err != nil {
		return err
	}
	nonce, err := i.nonce()
	if err != nil {
		return err
	}
	document := map[string]any{"name": i.Name, "nonce": nonce}
	if i.FixedID != "" {
		document[i.Kind+"_id"] = i.FixedID
	}
	answer, err := i.ask(ctx, "/api/v1/enrol", token, document)
	if err != nil {
		var failure *Failure
		if errors.As(err, &failure) {
			if failure.FromManager && failure.Status == http.StatusConflict {
				_ = os.Remove(i.file("nonce")) // used up: the next attempt needs another nonce
			}
			failure.Reason = "not enrolled: " + failure.Reason
			failure.FromManager, failure.Status = false, 0 // whatever the status, it does not concern the samples
		}
		return err
	}
	id, key := answer[i.Kind+"_id"], answer["api_key"]
	if !validID.MatchString(id) || !isKey(key) {
		return &Failure{Reason: "not enrolled: the response is not the manager's"}
	}
	if err := write(i.file("id"), []byte(id+"\n")); err != nil {
		return err
	}
	if err := write(string(i.Key), []byte(key+"\n")); err != nil {
		return err
	}
	_ = os.Remove(i.file("nonce"))
	i.Log.Printf("enrolled as %s", id)
	return nil
}

// ID returns the agent's id.
func (i *Identity) ID() (string, error) {
	if i.FixedID != "" {
		return i.FixedID, nil
	}
	content, err := os.ReadFile(i.file("id"))
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(content))
	if !validID.MatchString(id) {
		return "", fmt.Errorf("%s does not hold an id", i.file("id"))
	}
	return id, nil
}

// Path returns the API path of the agent with this id.
func (i *Identity) Path(id string) string {
	return "/api/v1/" + i.Kind + "s/" + url.PathEscape(id)
}

// RotateIfDue replaces the key when it is due. A failure is logged, and tried again later.
func (i *Identity) RotateIfDue(ctx context.Context) {
	now := time.Now()
	if i.Period == 0 || now.Before(i.rotateAt) {
		return
	}
	status, err := os.Stat(string(i.Key))
	if err != nil {
		return // which the next request will report
	}
	if now.Sub(status.ModTime()) < i.Period {
		if next, err := i.next(); next == "" && err == nil {
			return
		}
	}
	i.rotateAt = now.Add(i.Pause)
	if err := i.rotate(ctx); err != nil {
		i.Log.Printf("the key is not replaced yet: %v", err)
	}
}

// FinishRotation finishes a rotation that had begun, after a 401. It returns whether there was one.
func (i *Identity) FinishRotation(ctx context.Context) bool {
	next, err := i.next()
	if next == "" && err == nil {
		return false
	}
	if err == nil {
		err = i.rotate(ctx)
	}
	if err != nil {
		i.Log.Printf("the key is not replaced yet: %v", err)
	}
	return err == nil
}

func (i *Identity) rotate(ctx context.Context) error {
	old, err := i.Key.Bearer(ctx)
	if err != nil {
		return err
	}
	id, err := i.ID()
	if err != nil {
		return err
	}
	next, err := i.next()
	if err != nil {
		return err
	}
	if next == "" {
		if next, err = random(base64.RawURLEncoding.EncodeToString, 32); err != nil {
			return err
		}
		if err := write(i.file("next"), []byte(old+"\n"+next+"\n")); err != nil {
			return err
		}
	}
	overlap := i.Period / 2
	if overlap > longestOverlap || overlap == 0 {
		overlap = longestOverlap
	}
	document := map[string]any{"overlap_seconds": overlap.Seconds(), "new_api_key": next}
	path := i.Path(id) + "/rotate-key"
	answer, err := i.ask(ctx, path, old, document)
	var failure *Failure
	if errors.As(err, &failure) && failure.FromManager && failure.Status == http.StatusUnauthorized {
		answer, err = i.ask(ctx, path, next, document) // it is in effect, and the old one has ended
	}
	if err != nil {
		return err
	}
	key := answer["new_api_key"]
	if !isKey(key) {
		return errors.New("the response is not the manager's")
	}
	if err := write(string(i.Key), []byte(key+"\n")); err != nil {
		return err
	}
	_ = os.Remove(i.file("next"))
	i.Log.Print("replaced the key")
	return nil
}

// next returns the key that was generated to replace the current one; empty if there is none. A key
// that was generated for another one is discarded, because that one has been replaced since.
func (i *Identity) next() (string, error) {
	content, err := os.ReadFile(i.file("next"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	key, err := i.Key.Bearer(context.Background())
	if err != nil {
		return "", err
	}
	if keys := strings.Fields(string(content)); len(keys) == 2 && keys[0] == key && isKey(keys[1]) {
		return keys[1], nil
	}
	return "", os.Remove(i.file("next"))
}

// nonce returns the nonce of the enrolment in progress.
func (i *Identity) nonce() (string, error) {
	content, err := os.ReadFile(i.file("nonce"))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return strings.TrimSpace(string(content)), err
	}
	nonce, err := random(hex.EncodeToString, 16)
	if err != nil {
		return "", err
	}
	return nonce, write(i.file("nonce"), []byte(nonce+"\n"))
}

func (i *Identity) ask(ctx context.Context, path, bearer string, document map[string]any) (map[string]string, error) {
	body, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	var answer map[string]any
	if err := post(ctx, i.HTTP, i.Manager+path, bearer, body, &answer); err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for name, value := range answer {
		if text, ok := value.(string); ok {
			texts[name] = text
		}
	}
	return texts, nil
}

func (i *Identity) file(suffix string) string { return string(i.Key) + "." + suffix }

func isKey(text string) bool { return text != "" && strings.IndexFunc(text, notInKeys) < 0 }

func random(encode func([]byte) string, length int) (string, error) {
	bytes := make([]byte, length)
	_, err := rand.Read(bytes)
	return encode(bytes), err
}
