package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"shoal/raftstore/state"
)

// RequestHeader lets a client repeat a write whose answer it never got: the
// same request under the same id is carried out once.
const RequestHeader = "X-Shoal-Request"

// maxRequestID is enough for any UUID, and bounds what a key may cost.
const maxRequestID = 64

// outcome is what a write is answered with.
type outcome struct {
	status int
	body   []byte
}

// writePlan decides on a write. It is pure: all it needs to know of the
// request, and the time, was found out before.
type writePlan func(*state.View) ([]state.Change, outcome, error)

// write proposes what plan returns. A repeated request gets the outcome of
// the first; refusals changed nothing and are simply decided again.
func (a *API) write(r *http.Request, body []byte, plan writePlan) (outcome, error) {
	key, err := requestKey(r, body)
	if err != nil {
		return outcome{}, err
	}
	var out outcome
	err = a.config.Store.Update(r.Context(), func(v *state.View) ([]state.Change, error) {
		if key != "" {
			if done := v.Request(key); done != nil {
				out = outcome{done.Status, done.Body}
				return nil, nil
			}
		}
		changes, o, err := plan(v)
		if err != nil {
			return nil, err
		}
		out = o
		if key != "" {
			changes = append(changes, state.Put(&state.Request{ID: key, Status: o.status, Body: o.body}))
		}
		return changes, nil
	})
	return out, err
}

// requestKey names a request in the state: its id and what it asks for, so
// that an id which is used again for something else is no repetition.
func requestKey(r *http.Request, body []byte) (string, error) {
	id := r.Header.Get(RequestHeader)
	if id == "" {
		return "", nil
	}
	if len(id) > maxRequestID || !every(id, isRequestIDByte) {
		return "", invalid("invalid %s header: at most %d letters, digits, '-', '_' and '.' are allowed", RequestHeader, maxRequestID)
	}
	sum := sha256.New()
	for _, part := range []string{r.Method, r.URL.Path, r.URL.RawQuery, string(body)} {
		sum.Write([]byte(part))
		sum.Write([]byte{0})
	}
	return id + "." + base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:12]), nil
}

func isRequestIDByte(c byte) bool {
	return isAlphanumeric(c) || c == '-' || c == '_' || c == '.'
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func every(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}
