package worker

import (
	"context"

	"shoal/worker/assignment"
)

// noPlane is the data plane of a worker whose engine is not one of this host:
// nothing in the kernel is its business, and whatever is asked is in effect.
type noPlane struct{}

// Set takes note of nothing.
func (noPlane) Set(assignment.Known) uint64 { return 1 }

// Wait does not.
func (noPlane) Wait(context.Context, uint64) error { return nil }

// Audit finds nothing to compare.
func (noPlane) Audit(context.Context) (int, []string, error) { return 0, nil, nil }

// Run waits for the end.
func (noPlane) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
