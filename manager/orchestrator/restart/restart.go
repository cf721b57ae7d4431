// Package restart decides when a task that has ended gets a successor.
//
// It is pure. What it needs to know of the past is in the task itself
// (state.Restarts), so that any leader decides alike.
package restart

import (
	"fmt"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// What the policy leaves open.
const (
	DefaultDelay = 5 * time.Second // Docker Swarm's
	// QuickRun: a task that failed sooner than this after it could start is
	// taken for one of a crash loop.
	QuickRun = 10 * time.Second
	// MaxDelay bounds the delay in a crash loop. Docker Swarm's does not grow.
	MaxDelay = 5 * time.Minute
	// minCrashDelay is what the delay of a crash loop grows from when the
	// policy's is zero.
	minCrashDelay = 500 * time.Millisecond
)

// Decision is what becomes of a slot whose task has ended.
type Decision struct {
	Restart bool
	// The rest is for the successor.
	StartAfter time.Time
	Restarts   state.Restarts
	Reason     string // "restart 4 in 40s: task: non-zero exit (1)"
}

// Ended reports whether the task came to an end by itself, rather than by
// being stopped or by losing its node. Only such ends count as attempts.
func Ended(t *state.Task) bool {
	switch t.Status.State {
	case taskstate.Complete, taskstate.Failed, taskstate.Rejected:
		return true
	default:
		return false
	}
}

// Wanted reports whether policy p, nil being the default, wants a successor
// for t, the newest task of its slot. The answer does not depend on when it
// is asked: a window that passes later changes nothing.
func Wanted(p *swarm.RestartPolicy, t *state.Task) bool {
	switch condition(p) {
	case swarm.RestartPolicyConditionNone:
		return false
	case swarm.RestartPolicyConditionOnFailure:
		if t.Status.State == taskstate.Complete {
			return false
		}
	case swarm.RestartPolicyConditionAny:
	}
	if p == nil || p.MaxAttempts == nil || *p.MaxAttempts == 0 || !Ended(t) {
		return true
	}
	attempts := t.Restarts.Count
	if window(p) > 0 {
		attempts = uint64(len(within(t.Restarts.Recent, t.UpdatedAt, window(p))))
	}
	return attempts < *p.MaxAttempts
}

// Next decides what follows on t, which has ended by itself. revision is that
// of the successor: attempts count within one revision.
func Next(p *swarm.RestartPolicy, t *state.Task, revision uint64, now time.Time) Decision {
	if !Wanted(p, t) {
		return Decision{}
	}
	past := t.Restarts
	if revision != t.Revision {
		past = state.Restarts{}
	}
	next := state.Restarts{Count: past.Count + 1}
	if window(p) > 0 {
		next.Recent = append(within(past.Recent, now, window(p)), now)
	}
	if quick(t, now) {
		next.Quick = past.Quick + 1
	}
	wait := delay(p, next.Quick)
	after := now.Add(wait)
	if Early(t) {
		after = now // the delay that t was made with has been served: see Early
	}
	return Decision{Restart: true, StartAfter: after, Restarts: next, Reason: reason(next.Count, after.Sub(now), t)}
}

// Early reports whether t ended before the delay was over after which it could
// have started: its image could not be pulled, say. Its successor is made when
// that delay is over, not before, and waits no more. Else a task that cannot be
// prepared would be replaced as fast as it fails.
func Early(t *state.Task) bool {
	return t.Desired == taskstate.Ready && t.Status.State.Terminal() && t.UpdatedAt.Before(t.StartAfter)
}

func reason(n uint64, wait time.Duration, t *state.Task) string {
	cause := t.Status.Err
	if cause == "" {
		cause = t.Status.Message
	}
	if cause == "" {
		cause = t.Status.State.String()
	}
	return fmt.Sprintf("restart %d in %s: %s", n, wait.Round(time.Millisecond), cause)
}

// delay is how long the successor waits after the given number of quick
// failures in a row. It doubles with each beyond the first.
func delay(p *swarm.RestartPolicy, quick int) time.Duration {
	d := DefaultDelay
	if p != nil && p.Delay != nil {
		d = *p.Delay
	}
	if quick <= 1 {
		return d
	}
	return max(d, backoff.Step(max(d, minCrashDelay), MaxDelay, quick-1))
}

// quick reports whether t failed soon after it could start. How long it ran is
// measured by the managers' clocks alone; preparing counts in its favour.
func quick(t *state.Task, now time.Time) bool {
	switch t.Status.State {
	case taskstate.Rejected:
		return true
	case taskstate.Failed:
		started := t.CreatedAt
		if t.StartAfter.After(started) {
			started = t.StartAfter
		}
		return ended(t, now).Sub(started) < QuickRun
	default:
		return false
	}
}

// ended is when the managers learnt that t has ended.
func ended(t *state.Task, now time.Time) time.Time {
	if t.UpdatedAt.IsZero() || now.Before(t.UpdatedAt) {
		return now
	}
	return t.UpdatedAt
}

func condition(p *swarm.RestartPolicy) swarm.RestartPolicyCondition {
	if p == nil || p.Condition == "" {
		return swarm.RestartPolicyConditionAny
	}
	return p.Condition
}

func window(p *swarm.RestartPolicy) time.Duration {
	if p == nil || p.Window == nil {
		return 0
	}
	return *p.Window
}

// within returns those of the times that lie in the window before end.
func within(times []time.Time, end time.Time, window time.Duration) []time.Time {
	var kept []time.Time
	for _, t := range times {
		if !t.Before(end.Add(-window)) {
			kept = append(kept, t)
		}
	}
	return kept
}
