package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"shoal/worker/engine"
)

const (
	// answerTime is how long a registry has to answer when the image is here
	// already: a healthy one across an ocean takes about a second.
	answerTime = 2 * time.Second
	// deafTime is how long a registry that did not answer is left alone.
	deafTime = time.Minute
	// freshTime is how long one pull serves for all tasks of the same image,
	// so that a hundred tasks that start together ask the registry once.
	freshTime = 5 * time.Second
)

// puller brings images onto the engine, at most a few at a time.
type puller struct {
	engine  Engine
	log     *slog.Logger
	offline bool // never pull
	slots   *semaphore.Weighted
	flying  sync.WaitGroup

	mu      sync.Mutex
	flights map[flightKey]*flight
	deaf    map[string]time.Time // registry host: not before
}

// flightKey has the credentials in it: what one may pull another may not.
type flightKey struct{ image, auth string }

type flight struct {
	done    chan struct{} // closed when err is set
	err     error
	at      time.Time
	waiters int
	cancel  context.CancelFunc
}

func newPuller(e Engine, log *slog.Logger, offline bool, slots int64) *puller {
	return &puller{
		engine: e, log: log, offline: offline, slots: semaphore.NewWeighted(slots),
		flights: map[flightKey]*flight{}, deaf: map[string]time.Time{},
	}
}

// ensure makes image present. The registry is always asked, so that a moved
// tag is followed, unless the image is named by its id, by a digest that is
// here, or its registry is out of reach. A pull that fails is an error only if
// the image is not here.
func (p *puller) ensure(ctx context.Context, image, auth string) error {
	if _, err := digest.Parse(image); err == nil || p.offline {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return fmt.Errorf("image %q: %w: %w", image, errdefs.ErrInvalidArgument, err)
	}
	named = reference.TagNameOnly(named)
	local, err := p.engine.Image(ctx, reference.FamiliarString(named))
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("look for image %s: %w", image, err)
	}
	here := err == nil
	if here && p.settled(named, local) {
		return nil
	}
	err = p.join(ctx, flightKey{reference.FamiliarString(named), auth}, reference.Domain(named), here)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case here:
		p.log.Warn("pull failed, the image on this node is used", "image", image, "error", err)
		return nil
	}
	return fmt.Errorf("pull image %s: %w", image, err)
}

// settled reports whether the local image needs no pull.
func (p *puller) settled(named reference.Named, local engine.Image) bool {
	if _, ok := named.(reference.Canonical); ok {
		return true // a digest is the same everywhere
	}
	if len(local.Digests) == 0 && reference.Domain(named) == "docker.io" {
		// Built or loaded here under a name that states no registry: whatever
		// Docker Hub has under that name is another image.
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.deaf[reference.Domain(named)])
}

// join waits for the pull of this image, starting it if none is under way.
// The pull ends when nobody waits for it any more.
func (p *puller) join(ctx context.Context, key flightKey, host string, here bool) error {
	p.mu.Lock()
	p.forgetLocked()
	f := p.flights[key]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		p.flights[key] = f
		pullCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f.cancel = cancel
		p.flying.Go(func() { p.fly(pullCtx, f, key, host, here) })
	}
	f.waiters++
	p.mu.Unlock()
	var err error
	select {
	case <-f.done:
		err = f.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && f.at.IsZero() {
		f.cancel()
		if p.flights[key] == f {
			delete(p.flights, key)
		}
	}
	return err
}

// forgetLocked drops pulls that are no longer fresh.
func (p *puller) forgetLocked() {
	for key, f := range p.flights {
		if !f.at.IsZero() && time.Since(f.at) > freshTime {
			delete(p.flights, key)
		}
	}
}

func (p *puller) fly(ctx context.Context, f *flight, key flightKey, host string, here bool) {
	err := p.pull(ctx, key, host, here)
	f.cancel()
	p.mu.Lock()
	f.err, f.at = err, time.Now()
	if err != nil && !here && p.flights[key] == f {
		delete(p.flights, key) // each task that cannot run without it asks again
	}
	p.mu.Unlock()
	close(f.done)
}

func (p *puller) pull(ctx context.Context, key flightKey, host string, here bool) error {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer p.slots.Release(1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answered := func() {}
	if here {
		deaf := fmt.Errorf("registry %s did not answer within %s", host, answerTime)
		timer := time.AfterFunc(answerTime, func() { cancel(deaf) })
		defer timer.Stop()
		answered = func() { timer.Stop() }
	}
	err := p.engine.Pull(ctx, key.image, key.auth, answered)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil && unreachable(err) {
		p.mu.Lock()
		p.deaf[host] = time.Now().Add(deafTime)
		p.mu.Unlock()
	}
	return err
}

// unreachable tells a registry that could not be asked from one that said no.
// The engine passes on only the text of such errors.
func unreachable(err error) bool {
	if errors.Is(err, context.Canceled) || errdefs.IsUnavailable(err) {
		return false // nobody waits any more, or the engine itself is not there
	}
	text := err.Error()
	for _, sign := range []string{
		"did not answer", "dial tcp", "no such host", "i/o timeout", "connection refused", "TLS handshake timeout",
		"Client.Timeout", "context deadline exceeded", "network is unreachable", "no route to host",
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}
