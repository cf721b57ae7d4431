package executor

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"shoal/internal/runspec"
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
	// turnTime is how long a node waits for its turn to pull. 5m: longer than a
	// large image takes, so that it is only for managers that say nothing.
	turnTime = 5 * time.Minute
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
	deaf    map[string]time.Time    // registry host: not before
	rests   map[string]*rest        // by registry host
	failing map[flightKey]time.Time // since when the registry is too busy for it
}

// request is the image that a task needs, and what it says of the pull.
type request struct {
	image, auth, platform, policy string
	service                       string          // its name
	turn                          <-chan struct{} // closed once this node may pull; nil: it may
}

func requestOf(o order) request {
	t := o.task
	r := request{image: t.Spec.Task.ContainerSpec.Image, auth: t.Spec.RegistryAuth, service: t.ServiceName, turn: o.turn}
	if run := t.Spec.Run; run != nil {
		r.platform, r.policy = run.Platform, run.Pull
	}
	return r
}

// flightKey has the credentials in it: what one may pull another may not. A
// pull that must succeed is not one that may be given up.
type flightKey struct {
	image, auth, platform string
	must                  bool
}

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
		flights: map[flightKey]*flight{}, deaf: map[string]time.Time{}, rests: map[string]*rest{}, failing: map[flightKey]time.Time{},
	}
}

// ensure makes an image present. Unless the task says otherwise, the registry
// is always asked, so that a moved tag is followed, except that the image is
// named by its id, by a digest that is here, or its registry is out of reach;
// and a pull that fails is an error only if the image is not here.
func (p *puller) ensure(ctx context.Context, r request) error {
	if _, err := digest.Parse(r.image); err == nil || p.offline {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(r.image)
	if err != nil {
		return fmt.Errorf("image %q: %w: %w", r.image, errdefs.ErrInvalidArgument, err)
	}
	named = reference.TagNameOnly(named)
	local, err := p.engine.Image(ctx, reference.FamiliarString(named))
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("look for image %s: %w", r.image, err)
	}
	here := err == nil && fitsPlatform(local.Platform, r.platform)
	switch {
	case r.policy == runspec.PullNever && !here:
		return notHere(r, local)
	case here && (r.policy == runspec.PullNever || r.policy == runspec.PullMissing):
		return nil
	case here && r.policy == "" && p.settled(named, local):
		return nil
	}
	may := here && r.policy == "" // it may fail
	host := reference.Domain(named)
	if !here {
		if err := awaitTurn(ctx, r.turn); err != nil {
			return err
		}
		if err := p.resting(host); err != nil {
			return fmt.Errorf("pull image %s: %w", r.image, err)
		}
	}
	err = p.join(ctx, flightKey{reference.FamiliarString(named), r.auth, r.platform, !may}, host, may)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case may:
		p.log.Warn("pull failed, the image on this node is used", "image", r.image, "error", err)
		return nil
	}
	return fmt.Errorf("pull image %s: %w", r.image, explain(err, r, host))
}

// awaitTurn waits until the managers let this node pull: they keep many nodes
// from asking a registry for an image at once. Without their word it pulls in
// the end, at a moment of its own.
func awaitTurn(ctx context.Context, turn <-chan struct{}) error {
	if turn == nil {
		return nil
	}
	timer := time.NewTimer(turnTime + rand.N(turnTime/5))
	defer timer.Stop()
	select {
	case <-turn:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// notHere says what is wrong for a task that must not pull.
func notHere(r request, local engine.Image) error {
	if local.ID != "" {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but does not match the specified platform: wanted %s, actual: %s; and Pull is never", r.image, r.platform, local.Platform))
	}
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("No such image: %s, and Pull is never", r.image))
}

// fitsPlatform reports whether an image of platform have serves for what was
// asked, which may leave out the end.
func fitsPlatform(have, asked string) bool {
	return asked == "" || have == asked || strings.HasPrefix(have, asked+"/")
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

// forgetLocked drops pulls that are no longer fresh, and failures.
func (p *puller) forgetLocked() {
	for key, f := range p.flights {
		if !f.at.IsZero() && time.Since(f.at) > freshTime {
			delete(p.flights, key)
		}
	}
	for key, since := range p.failing {
		if time.Since(since) > 2*patience { // nobody asks for it any more
			delete(p.failing, key)
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
	err := p.engine.Pull(ctx, key.image, key.auth, key.platform, answered)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return p.answer(key, host, err)
}
