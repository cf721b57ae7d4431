// Package link makes the devices, addresses, forwarding entries, neighbours,
// routes and rules of a node agree with what it should have.
package link

import (
	"context"
	"log/slog"
)

// Links changes the kernel through netlink. Its methods must not be called at
// the same time as each other, but for Watch.
type Links struct{ log *slog.Logger }

// New returns a Links of the network namespace of this process.
func New(log *slog.Logger) (*Links, error) { return &Links{log: log}, nil }

// Apply brings w into effect. The first call, and one after an error, compares
// with the kernel; others change what differs from the last one.
func (l *Links) Apply(w Want) (Result, error) { return Result{}, nil }

// Audit compares the kernel with what was last applied, and repairs it.
func (l *Links) Audit() (Result, error) { return Result{}, nil }

// Watch calls notify whenever something of ours, or a bridge that is waited
// for, has changed in the kernel, until ctx ends. Changes made by Links itself
// may be told too.
func (l *Links) Watch(ctx context.Context, notify func()) error { <-ctx.Done(); return ctx.Err() }

// Purge removes everything that is owned.
func Purge() error { return nil }
