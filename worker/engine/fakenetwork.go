package engine

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/versions"
)

// place is where a container is on a network.
type place struct {
	network string // its name: an engine keeps that, not the id
	Endpoint
}

// Connect is Engine.Connect.
func (f *Fake) Connect(ctx context.Context, containerID string, ep Endpoint) error {
	if err := f.begin(ctx, "Connect"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.find(containerID)
	if c == nil {
		return noContainer(containerID)
	}
	n := f.network(ep.NetworkID)
	switch {
	case n == nil && c.State == Running:
		return noNetwork(ep.NetworkID)
	case n == nil: // an engine misses it when the container starts
		n = &Network{NetworkSpec: NetworkSpec{Name: ep.NetworkID}}
	}
	i := slices.IndexFunc(c.places, func(p place) bool { return p.network == n.Name })
	switch {
	case i < 0:
		c.places = append(c.places, place{n.Name, ep})
	case c.State == Running:
		return fmt.Errorf("endpoint with name %s already exists in network %s: %w", c.Name, n.Name, errdefs.ErrPermissionDenied)
	default:
		c.places[i].Endpoint = ep
	}
	if c.State == Running {
		if err := f.address(c, c.places[len(c.places)-1]); err != nil {
			c.places = c.places[:len(c.places)-1]
			return err
		}
	}
	return f.answerLocked("Connect")
}

// Disconnect is Engine.Disconnect.
func (f *Fake) Disconnect(ctx context.Context, containerID, networkID string) error {
	if err := f.begin(ctx, "Disconnect"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, n := f.find(containerID), f.network(networkID)
	if n == nil {
		return noNetwork(networkID)
	}
	if c == nil {
		return noContainer(containerID)
	}
	c.places = slices.DeleteFunc(c.places, func(p place) bool { return p.network == n.Name })
	delete(c.Addrs, n.Name)
	return nil
}

// CreateNetwork is Engine.CreateNetwork.
func (f *Fake) CreateNetwork(ctx context.Context, s NetworkSpec) (string, error) {
	if err := f.begin(ctx, "CreateNetwork"); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.networks {
		switch {
		case n.Name == s.Name:
			return "", fmt.Errorf("network with name %s already exists: %w", s.Name, errdefs.ErrConflict)
		case n.Bridge == s.Bridge:
			return "", fmt.Errorf("networks have same bridge name: %w", errdefs.ErrPermissionDenied)
		case overlapping(n.Subnets, s.Subnets):
			return "", fmt.Errorf("Pool overlaps with other one on this address space: %w", errdefs.ErrPermissionDenied) //nolint:staticcheck // an engine's words
		}
	}
	n := Network{ID: randomHex(), NetworkSpec: s}
	f.networks[n.ID] = n
	if err := f.answerLocked("CreateNetwork"); err != nil {
		return "", err
	}
	return n.ID, nil
}

func overlapping(a, b []Subnet) bool {
	return slices.ContainsFunc(a, func(x Subnet) bool {
		return slices.ContainsFunc(b, func(y Subnet) bool { return x.Prefix.Overlaps(y.Prefix) })
	})
}

// Networks is Engine.Networks.
func (f *Fake) Networks(ctx context.Context, label, value string) ([]Network, error) {
	if err := f.begin(ctx, "Networks"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Network
	for _, n := range f.networks {
		if got, labelled := n.Labels[label]; labelled && (value == "" || got == value) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b Network) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// InspectNetwork is Engine.InspectNetwork.
func (f *Fake) InspectNetwork(ctx context.Context, id string) (*Network, error) {
	if err := f.begin(ctx, "InspectNetwork"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.network(id)
	if n == nil {
		return nil, noNetwork(id)
	}
	n.Containers = f.on(n.Name)
	return n, nil
}

// RemoveNetwork is Engine.RemoveNetwork.
func (f *Fake) RemoveNetwork(ctx context.Context, id string) error {
	if err := f.begin(ctx, "RemoveNetwork"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.network(id)
	if n == nil {
		return noNetwork(id)
	}
	if len(f.on(n.Name)) > 0 {
		return fmt.Errorf("network %s has active endpoints: %w", n.Name, errdefs.ErrFailedPrecondition)
	}
	delete(f.networks, n.ID)
	return f.answerLocked("RemoveNetwork")
}

// network returns a copy of the network with this id or name, or nil.
func (f *Fake) network(id string) *Network {
	for _, n := range f.networks {
		if n.ID == id || n.Name == id {
			return &n
		}
	}
	return nil
}

// on returns the running containers on a network.
func (f *Fake) on(name string) []string {
	var ids []string
	for _, c := range f.containers {
		if _, there := c.Addrs[name]; there {
			ids = append(ids, c.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// join puts a new container on its networks, one call for each but the first
// for engines that cannot do it at once.
func (f *Fake) join(ctx context.Context, c *fakeContainer, all []Endpoint) error {
	for i, ep := range all {
		if i > 0 && versions.LessThan(f.Version, allAtOnce) {
			if err := f.Connect(ctx, c.ID, ep); err != nil {
				return err
			}
			continue
		}
		f.mu.Lock()
		name := ep.NetworkID // what is not there is missed when it starts
		if n := f.network(ep.NetworkID); n != nil {
			name = n.Name
		}
		c.places = append(c.places, place{name, ep})
		f.mu.Unlock()
	}
	return nil
}

// addresses gives a container that starts its addresses.
func (f *Fake) addresses(c *fakeContainer) error {
	for _, p := range c.places {
		if err := f.address(c, p); err != nil {
			c.Addrs, c.Err = nil, err.Error()
			return err
		}
	}
	return nil
}

func (f *Fake) address(c *fakeContainer, p place) error {
	n := f.network(p.network)
	if n == nil {
		return noNetwork(p.network)
	}
	taken := f.taken(n)
	addrs := slices.Clone(p.Addrs)
	for _, a := range addrs {
		switch {
		case !slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Prefix.Contains(a) }):
			return fmt.Errorf("Invalid address %s: It does not belong to any of this network's subnets: %w", a, errdefs.ErrPermissionDenied) //nolint:staticcheck // an engine's words
		case taken[a]:
			return fmt.Errorf("Address already in use: %w", errdefs.ErrPermissionDenied) //nolint:staticcheck // an engine's words
		}
	}
	for _, s := range n.Subnets {
		if slices.ContainsFunc(addrs, s.Prefix.Contains) {
			continue
		}
		a, ok := free(s, taken)
		if !ok {
			return fmt.Errorf("no available addresses on this network's address pools: %s: %w", n.Name, errdefs.ErrPermissionDenied)
		}
		addrs = append(addrs, a)
	}
	if c.Addrs == nil {
		c.Addrs = map[string][]netip.Addr{}
	}
	c.Addrs[n.Name] = addrs
	return nil
}

func (f *Fake) taken(n *Network) map[netip.Addr]bool {
	taken := map[netip.Addr]bool{}
	for _, s := range n.Subnets {
		taken[s.Prefix.Masked().Addr()], taken[s.Gateway] = true, true
		for _, a := range s.Reserved {
			taken[a] = true
		}
	}
	for _, c := range f.containers {
		for _, a := range c.Addrs[n.Name] {
			taken[a] = true
		}
	}
	return taken
}

func free(s Subnet, taken map[netip.Addr]bool) (netip.Addr, bool) {
	in := s.Prefix
	if s.Range.IsValid() {
		in = s.Range
	}
	for a := in.Masked().Addr(); in.Contains(a); a = a.Next() {
		if !taken[a] {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// seen is a copy of what is known of a container.
func (c *fakeContainer) seen() *Container {
	seen := c.Container
	seen.Ports = slices.Clone(c.Ports)
	seen.Addrs = maps.Clone(c.Addrs)
	seen.Partial = partial(c.Labels, len(c.places))
	return &seen
}

func noNetwork(id string) error {
	return fmt.Errorf("network %s not found: %w", id, errdefs.ErrNotFound)
}
