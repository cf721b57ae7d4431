// Package backoff says how long to wait between tries.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff grows from Min to Max, doubling at each try. Each wait is drawn
// between half of the step and the step, so that clients which failed
// together do not return together. The zero value waits nothing.
type Backoff struct {
	Min, Max time.Duration
	tries    int
}

// Next returns how long to wait before the next try and counts it.
func (b *Backoff) Next() time.Duration {
	step := Step(b.Min, b.Max, b.tries)
	b.tries++
	if step <= 1 {
		return step
	}
	return step/2 + rand.N(step/2)
}

// Reset starts again from Min. Call it after a success.
func (b *Backoff) Reset() { b.tries = 0 }

// Wait waits for Next, or until ctx ends.
func (b *Backoff) Wait(ctx context.Context) error { return Pause(ctx, b.Next()) }

// Pause waits for d, or until ctx ends, which is the error.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Until waits until changed is closed, for a time if it is not zero, or until
// ctx ends, which is the error.
func Until(ctx context.Context, changed <-chan struct{}, at time.Time) error {
	var alarm <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-changed:
	case <-alarm:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Step is the wait before try n (from 0) without the random part: lowest
// doubled n times, at most highest.
func Step(lowest, highest time.Duration, n int) time.Duration {
	step := lowest
	for range n {
		if step >= highest/2 {
			return highest
		}
		step *= 2
	}
	return min(step, highest)
}
