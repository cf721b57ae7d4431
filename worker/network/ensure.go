package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"shoal/overlay"
	"shoal/worker/engine"
)

const (
	// parts of the semaphore over the engine's networks: so many may list them
	// at a time.
	parts = 64
	// keepPeriod is how often the engine's networks are compared with what is
	// needed, for containers that went and changes made by hand.
	keepPeriod = 30 * time.Second
	keepTime   = time.Minute // and how long that may take
)

// keep makes what is needed and removes what is not, when something has changed
// and from time to time.
func (n *Network) keep(ctx context.Context) error {
	tick := time.NewTicker(keepPeriod)
	defer tick.Stop()
	for {
		select {
		case <-n.tidy:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !n.engineUp() {
			continue
		}
		if err := n.keepOnce(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("networks on the engine are not what they should be, trying again", "error", err)
		}
	}
}

func (n *Network) engineUp() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up
}

func (n *Network) keepOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	k := n.Known()
	if k == nil {
		return nil
	}
	var errs []error
	for _, cn := range k.Networks {
		_, err := n.ensure(ctx, []engine.NetworkSpec{n.spec(cn, *k)})
		errs = append(errs, err)
	}
	if len(k.Peers[n.cfg.NodeID].Mesh) > 0 {
		_, err := n.ensure(ctx, []engine.NetworkSpec{n.gateway(*k)})
		errs = append(errs, err)
	}
	return errors.Join(append(errs, n.sweep(ctx))...)
}

// sweep removes the networks that no task or attachment of this node needs any
// more and no container is on.
func (n *Network) sweep(ctx context.Context) error {
	if err := n.engine.Acquire(ctx, parts); err != nil {
		return err
	}
	defer n.engine.Release(parts)
	list, err := n.cfg.Engine.Networks(ctx, ClusterLabel, n.cfg.ClusterID)
	if err != nil {
		return fmt.Errorf("list networks of the engine: %w", err)
	}
	n.metrics.networks.Set(float64(len(list)))
	var errs []error
	for _, have := range list {
		if !n.needless(have.Labels[NetworkLabel]) {
			continue
		}
		err := n.cfg.Engine.RemoveNetwork(ctx, have.ID)
		switch {
		case errdefs.IsNotFound(err), errdefs.IsFailedPrecondition(err): // gone, or still in use
		case err != nil:
			errs = append(errs, fmt.Errorf("remove network %s of the engine: %w", have.Name, err))
		default:
			n.log.Info("network removed from the engine", "network", have.Name, "id", have.Labels[NetworkLabel])
		}
	}
	return errors.Join(errs...)
}

// needless reports whether a cluster network is none of this node's. As long as
// no manager has told everything in this life, the disk may be behind. The
// gateway network stays as long as the node is in the cluster.
func (n *Network) needless(networkID string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, needed := n.known.Networks[networkID]
	return n.complete && !needed && networkID != ""
}

// ensure makes the engine's networks agree with specs and returns their ids.
func (n *Network) ensure(ctx context.Context, specs []engine.NetworkSpec) ([]string, error) {
	ids, err := n.find(ctx, specs)
	if err != nil || ids != nil {
		return ids, err
	}
	if err := n.engine.Acquire(ctx, parts); err != nil {
		return nil, err
	}
	defer n.engine.Release(parts)
	list, err := n.cfg.Engine.Networks(ctx, ClusterLabel, n.cfg.ClusterID)
	if err != nil {
		return nil, fmt.Errorf("list networks of the engine: %w", err)
	}
	ids = make([]string, len(specs))
	for i, s := range specs {
		if ids[i], err = n.bring(ctx, s, list); err != nil {
			return nil, err
		}
	}
	n.renew() // the plane has been waiting for the bridges
	return ids, nil
}

// find returns the ids of networks that are as specs want them, nil if one is
// not.
func (n *Network) find(ctx context.Context, specs []engine.NetworkSpec) ([]string, error) {
	if err := n.engine.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer n.engine.Release(1)
	list, err := n.cfg.Engine.Networks(ctx, ClusterLabel, n.cfg.ClusterID)
	if err != nil {
		return nil, fmt.Errorf("list networks of the engine: %w", err)
	}
	ids := make([]string, len(specs))
	for i, s := range specs {
		have := among(list, s)
		if have == nil || !agrees(have.NetworkSpec, s, true) {
			return nil, nil
		}
		ids[i] = have.ID
	}
	return ids, nil
}

func among(list []engine.Network, s engine.NetworkSpec) *engine.Network {
	for i := range list {
		if owner(list[i].Labels) == owner(s.Labels) {
			return &list[i]
		}
	}
	return nil
}

// bring makes one network, or what is there of it usable.
func (n *Network) bring(ctx context.Context, s engine.NetworkSpec, list []engine.Network) (string, error) {
	have := among(list, s)
	if have != nil {
		if agrees(have.NetworkSpec, s, true) {
			return have.ID, nil
		}
		err := n.cfg.Engine.RemoveNetwork(ctx, have.ID)
		switch {
		case errdefs.IsFailedPrecondition(err) && agrees(have.NetworkSpec, s, false):
			return have.ID, nil // replaced when nobody is on it any more
		case errdefs.IsFailedPrecondition(err):
			return "", fmt.Errorf("network %s of this engine is in use and has changed: %w: %w", s.Name, errdefs.ErrUnavailable, err)
		case err != nil && !errdefs.IsNotFound(err):
			return "", fmt.Errorf("replace network %s of the engine: %w", s.Name, err)
		}
		n.log.Info("network on the engine replaced", "network", s.Name)
	}
	id, err := n.make(ctx, s)
	if err != nil {
		return "", fmt.Errorf("make network %s on the engine: %w", s.Name, err)
	}
	return id, nil
}

// make creates a network. If something is in its way, what other clusters have
// left behind goes, and a name that is taken is made unique.
func (n *Network) make(ctx context.Context, s engine.NetworkSpec) (string, error) {
	id, err := n.cfg.Engine.CreateNetwork(ctx, s)
	if errdefs.IsConflict(err) || errdefs.IsPermissionDenied(err) {
		if evictErr := n.evict(ctx, s); evictErr != nil {
			return "", errors.Join(err, evictErr)
		}
		id, err = n.cfg.Engine.CreateNetwork(ctx, s)
	}
	if errdefs.IsConflict(err) && s.Name != overlay.MeshBridge {
		s.Name = unique(s.Name, s.Labels[NetworkLabel])
		id, err = n.cfg.Engine.CreateNetwork(ctx, s)
	}
	if errdefs.IsPermissionDenied(err) {
		return "", fmt.Errorf("%w (a network of this host is in the way: see docker network ls and ip route)", err)
	}
	return id, err
}

// unique is the name of the engine's half of a network when the engine has one
// of that name already.
func unique(name, networkID string) string { return name + "." + networkID[:min(12, len(networkID))] }

// evict removes the unused networks in the way of s that are of a cluster which
// this node was in before: it may have left that while the engine was away.
func (n *Network) evict(ctx context.Context, s engine.NetworkSpec) error {
	list, err := n.cfg.Engine.Networks(ctx, ClusterLabel, "")
	if err != nil {
		return fmt.Errorf("list networks of the engine: %w", err)
	}
	for _, have := range list {
		if have.Labels[ClusterLabel] == n.cfg.ClusterID || !clashes(have.NetworkSpec, s) {
			continue
		}
		err := n.cfg.Engine.RemoveNetwork(ctx, have.ID)
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
			return fmt.Errorf("remove network %s of another cluster: %w", have.Name, err)
		}
	}
	return nil
}

// Purge removes the engine's networks of a cluster, and takes off them whoever
// is still there.
func Purge(ctx context.Context, eng Engine, clusterID string) error {
	if clusterID == "" {
		return fmt.Errorf("purge needs a cluster id: %w", errdefs.ErrInvalidArgument)
	}
	list, err := eng.Networks(ctx, ClusterLabel, clusterID)
	if err != nil {
		return fmt.Errorf("list networks of cluster %s: %w", clusterID, err)
	}
	for _, have := range list {
		if err := purge(ctx, eng, have); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove network %s of the engine: %w", have.Name, err)
		}
	}
	return nil
}

func purge(ctx context.Context, eng Engine, have engine.Network) error {
	got, err := eng.InspectNetwork(ctx, have.ID)
	if err != nil {
		return err
	}
	for _, c := range got.Containers {
		if err := eng.Disconnect(ctx, c, have.ID); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return eng.RemoveNetwork(ctx, have.ID)
}
