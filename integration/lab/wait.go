package lab

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is how often a condition outside this process is looked at: a
// tenth of what a test would notice.
const pollEvery = 20 * time.Millisecond

// poll looks until cond is true, fails, or ctx ends; then its error holds
// what cond saw last.
func poll(ctx context.Context, cond func() (saw string, ok bool, err error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		saw, ok, err := cond()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; last seen: %s", ctx.Err(), saw)
		}
	}
}

// WaitFor looks at a condition until it holds, and otherwise returns an error
// that tells what it saw last.
func WaitFor(ctx context.Context, limit time.Duration, what string, cond func() (saw string, ok bool)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := poll(ctx, func() (string, bool, error) {
		saw, ok := cond()
		return saw, ok, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", what, err)
	}
	return nil
}
