package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"

	"shoal/overlay"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// attachTime is how long an attachment may take before the caller is told why
// it does not come. 30s: the engine makes a network in well under one.
const attachTime = 30 * time.Second

// Attach makes the networks of a task ready on this node, engine and kernel, and
// returns what its container is to be connected to. What is not possible yet is
// an ErrUnavailable that says what it waits for.
func (n *Network) Attach(ctx context.Context, t assignment.Task) (engine.Attachment, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	began := time.Now()
	k, err := n.await(ctx, func(k assignment.Known) string { return missing(t, k, n.cfg.NodeID) })
	if err != nil {
		return engine.Attachment{}, err
	}
	var specs []engine.NetworkSpec
	var a engine.Attachment
	for _, tn := range t.Networks {
		if tn.Ingress {
			continue
		}
		cn := k.Networks[tn.NetworkID]
		specs = append(specs, n.spec(cn, k))
		a.Endpoints = append(a.Endpoints, endpoint("", tn.Addrs, n.cfg.IPv6))
		if len(a.DNS) == 0 && len(cn.Pools) > 0 {
			a.DNS = []netip.Addr{cn.Pools[0].Gateway}
		}
	}
	if needsGateway(t, k) {
		specs = append(specs, n.gateway(k))
		a.Endpoints = append(a.Endpoints, engine.Endpoint{})
	}
	ids, err := n.ready(ctx, specs)
	if err != nil {
		return engine.Attachment{}, err
	}
	for i := range a.Endpoints {
		a.Endpoints[i].NetworkID = ids[i]
	}
	n.metrics.attach.Observe(time.Since(began).Seconds())
	return a, nil
}

// Ready makes a cluster network ready on this node, for a container that is no
// task, and returns the id of the engine's half.
func (n *Network) Ready(ctx context.Context, networkID string) (engineNetworkID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	k, err := n.await(ctx, func(k assignment.Known) string {
		if _, known := k.Networks[networkID]; !known {
			return "network " + networkID
		}
		return ""
	})
	if err != nil {
		return "", err
	}
	ids, err := n.ready(ctx, []engine.NetworkSpec{n.spec(k.Networks[networkID], k)})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// GatewayReady is Ready for the gateway network of this node.
func (n *Network) GatewayReady(ctx context.Context) (engineNetworkID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	k, err := n.await(ctx, func(k assignment.Known) string {
		if len(k.Peers[n.cfg.NodeID].Mesh) == 0 {
			return "the gateway subnet of this node"
		}
		return ""
	})
	if err != nil {
		return "", err
	}
	ids, err := n.ready(ctx, []engine.NetworkSpec{n.gateway(k)})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// await returns what is known once nothing is lacking any more.
func (n *Network) await(ctx context.Context, lacking func(assignment.Known) string) (assignment.Known, error) {
	for {
		n.mu.Lock()
		k, changed := n.known, n.changed
		n.mu.Unlock()
		what := lacking(k)
		if what == "" {
			return k, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return k, fmt.Errorf("the managers have not told of %s yet: %w: %w", what, errdefs.ErrUnavailable, ctx.Err())
		}
	}
}

// ready makes these networks and waits until the data plane has them.
func (n *Network) ready(ctx context.Context, specs []engine.NetworkSpec) ([]string, error) {
	ids, err := n.ensure(ctx, specs)
	if err != nil {
		return nil, err
	}
	_, generation, _ := n.newest()
	if err := n.inEffect(ctx, generation); err != nil {
		return nil, fmt.Errorf("networks are not in effect on this node: %w: %w", errdefs.ErrUnavailable, err)
	}
	return ids, nil
}

func (n *Network) spec(cn assignment.Network, k assignment.Known) engine.NetworkSpec {
	self := k.Peers[n.cfg.NodeID].Addr
	return networkSpec(cn, n.cfg.ClusterID, fit(n.underlayMTU(self), self, cn.Encrypted), n.cfg.IPv6)
}

func (n *Network) gateway(k assignment.Known) engine.NetworkSpec {
	self := k.Peers[n.cfg.NodeID]
	return gatewaySpec(self, n.cfg.ClusterID, fit(n.underlayMTU(self.Addr), self.Addr, false), n.cfg.IPv6)
}

// underlay is the MTU of the link that has an address of this node.
type underlay struct {
	addr netip.Addr
	mtu  int
}

// underlayMTU looks for the link once: on a host with many containers that
// takes a while.
func (n *Network) underlayMTU(addr netip.Addr) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.underlay.mtu == 0 || n.underlay.addr != addr {
		n.underlay = underlay{addr, mtuOf(addr)}
	}
	return n.underlay.mtu
}

func mtuOf(addr netip.Addr) int {
	const usual = overlay.DefaultMTU + vxlanOverhead
	links, err := net.Interfaces()
	if err != nil {
		return usual
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr {
				return l.MTU
			}
		}
	}
	return usual
}
