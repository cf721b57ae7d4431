// Package network keeps the networks of a node: what the managers say of them
// (assignment.Known), the bridge networks on the engine, and the data plane.
//
// It makes a network on the engine when a task or an attachment of this node is
// the first to need it, and removes it after the last. The data plane follows
// what is known by itself: Apply feeds it, and says when it has caught up.
package network

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// The labels of the engine's networks that belong to a cluster. The gateway
// network has no NetworkLabel: it is nobody's half.
const (
	ClusterLabel = "shoal.cluster.id"
	NetworkLabel = "shoal.network.id"
	// What the bridge itself cannot tell of its network, "true" or "false": who
	// shows the half as the whole goes by these.
	AttachableLabel = "shoal.network.attachable"
	InternalLabel   = "shoal.network.internal"
)

// Engine is what a Network needs of a Docker Engine: engine.Engine and
// engine.Fake are some.
type Engine interface {
	CreateNetwork(ctx context.Context, s engine.NetworkSpec) (string, error)
	Networks(ctx context.Context, label, value string) ([]engine.Network, error)
	InspectNetwork(ctx context.Context, id string) (*engine.Network, error)
	RemoveNetwork(ctx context.Context, id string) error
	Disconnect(ctx context.Context, containerID, networkID string) error
}

// Plane is the data plane: overlay.Plane is one.
type Plane interface {
	Set(k assignment.Known) (generation uint64)
	Wait(ctx context.Context, generation uint64) error
	Audit(ctx context.Context) (compared int, differences []string, err error)
	Run(ctx context.Context) error
}

// Config is what a Network needs. Zero values take the default named.
type Config struct {
	Engine    Engine // required
	Plane     Plane  // required
	NodeID    string // required
	ClusterID string // required
	// Known is what was known in an earlier life; nil: nothing.
	Known *assignment.Known
	// Applied is told the index of the newest line that is in effect, from one
	// goroutine. It must not block. Required.
	Applied    func(index uint64)
	IPv6       bool                  // the kernel has it
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// Network is the networks of a node. It is safe for concurrent use.
type Network struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	// engine guards the engine's networks: one part to rely on what a list says,
	// all parts to change something.
	engine *semaphore.Weighted
	settle chan struct{} // 1: there may be something to acknowledge
	tidy   chan struct{} // 1: the engine's networks may not be what is needed

	mu       sync.Mutex
	known    assignment.Known
	told     bool          // something is known: nothing was, before the first line
	complete bool          // a manager has told everything in this life
	changed  chan struct{} // closed when known changes
	plane    uint64        // generation of known
	index    uint64        // of the newest line
	owed     bool          // and it is not acknowledged
	up       bool          // the engine answers
	underlay underlay
}

// New returns a Network that works once Run is called.
func New(cfg Config) (*Network, error) {
	if cfg.Engine == nil || cfg.Plane == nil || cfg.NodeID == "" || cfg.ClusterID == "" || cfg.Applied == nil {
		return nil, fmt.Errorf("network needs an engine, a plane, a node id, a cluster id and Applied: %w", errdefs.ErrInvalidArgument)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	n := &Network{
		cfg: cfg, log: cfg.Log, metrics: m, engine: semaphore.NewWeighted(parts),
		settle: make(chan struct{}, 1), tidy: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	if cfg.Known != nil {
		n.known, n.told = *cfg.Known, true
		n.renewLocked() // so that whoever attaches waits for it
	}
	return n, nil
}

// Run keeps plane and engine in step with what is known, until ctx ends. What
// is there stays then.
func (n *Network) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.cfg.Plane.Run(ctx) })
	group.Go(func() error { return n.acknowledge(ctx) })
	group.Go(func() error { return n.keep(ctx) })
	return group.Wait()
}

// Apply takes in what a line says of the fabric, nil if it says nothing, and
// the index of the line. It does not block: Applied is called once the line is
// in effect.
func (n *Network) Apply(f *assignment.Fabric, index uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f != nil {
		n.known = n.known.With(*f)
		n.told, n.complete = true, n.complete || f.Full
		close(n.changed)
		n.changed = make(chan struct{})
		n.renewLocked()
		wake(n.tidy)
	}
	if index > 0 {
		n.index, n.owed = index, true
		wake(n.settle)
	}
}

// Known returns what is known now, nil if nothing is.
func (n *Network) Known() *assignment.Known {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.told {
		return nil
	}
	k := n.known
	return &k
}

// SetEngine says whether the engine answers. When it has come back, its
// networks are looked at again.
func (n *Network) SetEngine(up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if up && !n.up {
		n.underlay = underlay{}
		wake(n.tidy)
	}
	n.up = up
}

// Audit compares the kernel with what is known.
func (n *Network) Audit(ctx context.Context) (compared int, differences []string, err error) {
	return n.cfg.Plane.Audit(ctx)
}

// renew has the plane look at everything again: a bridge is there that was not.
func (n *Network) renew() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.renewLocked()
}

// renewLocked does nothing as long as nothing is known: the plane would take
// down what an earlier life has left in use.
func (n *Network) renewLocked() {
	if n.told {
		n.plane = n.cfg.Plane.Set(n.known)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
