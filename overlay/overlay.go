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
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"shoal/internal/backoff"
	"shoal/worker/assignment"
)

// Config is what a Plane needs. Zero values take the default named.
type Config struct {
	NodeID     string                // required
	TunnelKey  []byte                // required: 32 bytes, the private key of this node's end of tunnels
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

const (
	// auditPeriod is for what the kernel has not told, or not reliably.
	auditPeriod = 30 * time.Second
	// auditQuiet gathers the events of one accident; repairs are due within 2 s.
	auditQuiet = 100 * time.Millisecond
)

// Plane is the data plane of this node. It is safe for concurrent use.
type Plane struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	parts   *parts

	wake    chan struct{} // 1: something was set
	damaged chan struct{} // 1: the kernel, or someone in it, has changed something

	working sync.Mutex // whoever uses parts

	mu      sync.Mutex
	known   assignment.Known
	set     uint64 // generation of known
	tried   uint64 // newest generation that was tried
	err     error  // what came of that
	settled chan struct{}
}

// New returns a Plane that does nothing until Run.
func New(cfg Config) (*Plane, error) {
	if cfg.NodeID == "" || len(cfg.TunnelKey) != 32 {
		return nil, fmt.Errorf("overlay needs a node id and a tunnel key of 32 bytes: %w", errdefs.ErrInvalidArgument)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	parts, err := newParts(cfg)
	if err != nil {
		return nil, err
	}
	return &Plane{
		cfg: cfg, log: cfg.Log, metrics: m, parts: parts,
		wake: make(chan struct{}, 1), damaged: make(chan struct{}, 1), settled: make(chan struct{}),
	}, nil
}

// Set gives the plane what is known of the fabric, whole, and returns the
// number to wait for. It does not block.
func (p *Plane) Set(k assignment.Known) (generation uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = k
	p.set++
	nudge(p.wake)
	return p.set
}

// Wait returns when the fabric of this generation, or a later one, is in effect
// on this node as far as it can be: a network whose bridge the engine has not
// made yet is left out, and follows by itself when the bridge appears. The error
// is that of ctx, or why the kernel does not take it.
func (p *Plane) Wait(ctx context.Context, generation uint64) error {
	for {
		p.mu.Lock()
		tried, err, settled := p.tried, p.err, p.settled
		p.mu.Unlock()
		if tried >= generation {
			return err
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run keeps the kernel in agreement until ctx ends, and leaves it as it is then.
func (p *Plane) Run(ctx context.Context) error {
	defer p.parts.close(p.log)
	g, ctx := errgroup.WithContext(ctx)
	notify := func() { nudge(p.damaged) }
	g.Go(func() error { return p.parts.links.Watch(ctx, notify) })
	g.Go(func() error { return p.parts.filter.Watch(ctx, notify) })
	g.Go(func() error { return p.parts.filter.ResetFlows(ctx) })
	g.Go(func() error { return p.parts.names.Run(ctx) })
	g.Go(func() error { return p.loop(ctx) })
	return g.Wait()
}

// loop applies what is set and audits what is there.
func (p *Plane) loop(ctx context.Context) error {
	tick := time.NewTicker(auditPeriod)
	defer tick.Stop()
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	var again <-chan time.Time
	var quiet <-chan time.Time // runs while damage is being gathered
	for {
		select {
		case <-p.wake:
		case <-again:
		case <-p.damaged:
			if quiet == nil {
				quiet = time.After(auditQuiet)
			}
			continue
		case <-quiet:
			quiet = nil
			p.audit()
			continue
		case <-tick.C:
			p.audit()
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		again = nil
		if err := p.apply(); err != nil {
			again = time.After(retry.Next())
		} else {
			retry.Reset()
		}
	}
}

// apply brings what was set last into effect.
func (p *Plane) apply() error {
	p.mu.Lock()
	known, generation := p.known, p.set
	p.mu.Unlock()
	started := time.Now()
	p.working.Lock()
	found, err := p.parts.apply(known)
	p.working.Unlock()
	p.metrics.applied(found, err, time.Since(started))
	found.repaired = nil // made, not repaired
	p.say(found, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried, p.err = generation, err
	close(p.settled)
	p.settled = make(chan struct{})
	return err
}

// audit repairs what differs from what was applied.
func (p *Plane) audit() {
	p.working.Lock()
	found, err := p.parts.audit()
	p.working.Unlock()
	p.metrics.audited(found, err)
	p.say(found, err)
	if err != nil {
		nudge(p.wake) // the whole is tried again
	}
}

// Audit compares the node's kernel with what it should be, now, and repairs it.
// It returns how much was compared and what differed, a line each.
func (p *Plane) Audit(ctx context.Context) (compared int, differences []string, err error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	p.working.Lock()
	found, err := p.parts.audit()
	p.working.Unlock()
	p.metrics.audited(found, err)
	return found.compared, append(found.repaired, found.waiting...), err
}

// say logs what was repaired: once for a state of affairs.
func (p *Plane) say(f finding, err error) {
	if err != nil {
		p.log.Error("networks of this node cannot be set up, trying again", "error", err)
	}
	if len(f.repaired) > 0 {
		p.log.Warn("networks of this node differed from what they should be and were repaired", "count", len(f.repaired), "first", f.repaired[0])
	}
	for _, port := range f.newlyTaken {
		p.log.Warn("a published port is held by another process of this host", "port", port)
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
