package executor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/registry"

	"shoal/internal/backoff"
)

const (
	// restMin and restMax bound how long a registry that is busy is left alone
	// by this node. 2s: most limits are counted in seconds or minutes.
	restMin, restMax = 2 * time.Second, time.Minute
	// patience is how long an image is asked for again and again. Then the task
	// ends, and the managers decide: on another node there may be an answer.
	patience = 2 * time.Minute
)

// rest is how long a registry is left alone after it has said that it is busy.
type rest struct {
	until time.Time
	wait  backoff.Backoff
	err   error // what is said of it until then: always the same, so that it is reported once
}

// resting returns an error while a registry is left alone. The task tries again.
func (p *puller) resting(host string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.rests[host]; r != nil && time.Now().Before(r.until) {
		return r.err
	}
	return nil
}

// answer takes in what a registry said to a pull. That it is busy is no end:
// the error says so, and the pull is tried again for as long as patience lasts.
func (p *puller) answer(key flightKey, host string, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		delete(p.rests, host)
		delete(p.failing, key)
		return nil
	case unreachable(err):
		p.deaf[host] = now.Add(deafTime)
		return err
	case !busy(err):
		return err
	}
	r := p.rests[host]
	if r == nil {
		r = &rest{
			wait: backoff.Backoff{Min: restMin, Max: restMax},
			err:  errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("registry %s is too busy and will be asked again: %v", host, err)),
		}
		p.rests[host] = r
	}
	if !now.Before(r.until) { // else others that were under way have heard the same
		r.until = now.Add(r.wait.Next())
	}
	since, ok := p.failing[key]
	if !ok {
		p.failing[key], since = now, now
	}
	if now.Sub(since) > patience {
		delete(p.failing, key)
		return fmt.Errorf("registry %s has been too busy for %s: %w", host, patience, err)
	}
	return r.err
}

// unreachable tells a registry that could not be asked from one that said no.
// The engine passes on only the text of such errors.
func unreachable(err error) bool {
	if errors.Is(err, context.Canceled) || errdefs.IsUnavailable(err) {
		return false // nobody waits any more, or the engine itself is not there
	}
	return says(err, "did not answer", "dial tcp", "no such host", "i/o timeout", "connection refused", "TLS handshake timeout",
		"Client.Timeout", "context deadline exceeded", "network is unreachable", "no route to host")
}

// busy tells a registry that cannot answer now from one that has: it limits
// what this address or account may ask, or is overloaded.
func busy(err error) bool {
	if errors.Is(err, context.Canceled) || errdefs.IsUnavailable(err) {
		return false
	}
	hungUp := strings.HasSuffix(err.Error(), ": EOF")
	return hungUp || says(err, "toomanyrequests", "Too Many Requests", "HTTP 429", "500 Internal Server Error", "502 Bad Gateway",
		"503 Service Unavailable", "504 Gateway Timeout", "unexpected HTTP status: 5", "connection reset by peer", "unexpected EOF")
}

// refusesAuth reports whether a registry has refused who asks.
func refusesAuth(err error) bool {
	return says(err, "unauthorized", "authentication required", "no basic auth credentials", "denied: ", "access denied",
		"incorrect username or password", "403 Forbidden")
}

func says(err error, signs ...string) bool {
	text := err.Error()
	for _, sign := range signs {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// explain says what to do about a registry that refuses who asks. A task ends
// with it: nothing that a node does changes the answer.
func explain(err error, r request, host string) error {
	if !refusesAuth(err) {
		return err
	}
	login := "docker login"
	if host != "docker.io" {
		login += " " + host
	}
	what := "registry " + host + " refuses the credentials that came with the service"
	if !hasCredentials(r.auth) {
		what = "no credentials for registry " + host + " came with the service"
	}
	return fmt.Errorf("%w; %s: %s, then docker service update --with-registry-auth %s", err, what, login, r.service)
}

// hasCredentials reports whether an X-Registry-Auth value names anybody:
// clients send an empty one for a registry that they have no login for.
func hasCredentials(auth string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(auth, "="))
	var c registry.AuthConfig
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return auth != ""
	}
	return c.Username != "" || c.Auth != "" || c.IdentityToken != "" || c.RegistryToken != ""
}
