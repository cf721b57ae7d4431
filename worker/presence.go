package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// engineGrace is how long the engine may be away before the node is given up.
// A restart of the engine takes less.
const engineGrace = 10 * time.Second

var errEngineLost = errors.New("the Docker Engine does not answer")

// presence is whether the engine answers, and since when.
type presence struct {
	mu      sync.Mutex
	up      bool
	since   time.Time
	changed chan struct{} // closed by the next change
}

func newPresence() *presence {
	return &presence{since: time.Now(), changed: make(chan struct{})}
}

// set notes whether the engine answers.
func (p *presence) set(up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up == up {
		return
	}
	p.up, p.since = up, time.Now()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *presence) get() (up bool, since time.Time, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.since, p.changed
}

// lost returns nil once the engine has been away for engineGrace.
func (p *presence) lost(ctx context.Context) error {
	for {
		up, since, changed := p.get()
		var late <-chan time.Time
		if !up {
			late = time.After(time.Until(since.Add(engineGrace)))
		}
		select {
		case <-late:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// back returns nil once the engine answers.
func (p *presence) back(ctx context.Context) error {
	for {
		up, _, changed := p.get()
		if up {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// while runs session as long as the engine answers. A node without an engine
// can run nothing and cannot say what runs on it: without a session it counts
// as down, and its tasks move to others. It is a node again when the engine is
// back.
func (p *presence) while(ctx context.Context, log *slog.Logger, session func(context.Context) error) error {
	for {
		g, gctx := errgroup.WithContext(ctx)
		g.Go(func() error { return session(gctx) })
		g.Go(func() error {
			if err := p.lost(gctx); err != nil {
				return err
			}
			return errEngineLost
		})
		if err := g.Wait(); ctx.Err() != nil || !errors.Is(err, errEngineLost) {
			return err
		}
		log.Error("the Docker Engine does not answer: this node leaves its tasks to others until it does", "for", engineGrace)
		if err := p.back(ctx); err != nil {
			return err
		}
		log.Info("the Docker Engine answers again")
	}
}
