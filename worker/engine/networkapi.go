package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/versions"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	bridgeDriver = "bridge"
	bridgeName   = "com.docker.network.bridge.name"
	bridgeMTU    = "com.docker.network.driver.mtu"
	// allAtOnce is the API version from which a container can be created on
	// several networks, each with a MAC address of its own.
	allAtOnce = "1.44"
)

func hardware(a netip.Addr) string {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}.String()
}

// Create makes a container, connected to its networks, and returns its id. One
// that is made and cannot be connected stays, for Connect to finish.
func (e *Engine) Create(ctx context.Context, s Spec) (string, error) {
	s = s.labelled()
	all := false
	var config *network.NetworkingConfig
	var later []Endpoint
	if len(s.Endpoints) > 0 {
		version, err := e.APIVersion(ctx)
		if err != nil {
			return "", err
		}
		all = versions.GreaterThanOrEqualTo(version, allAtOnce)
		config = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
		host := *s.HostConfig
		host.NetworkMode = container.NetworkMode(s.Endpoints[0].NetworkID)
		s.HostConfig = &host
	}
	for i, ep := range s.Endpoints {
		if i > 0 && !all {
			later = append(later, ep)
			continue
		}
		config.EndpointsConfig[ep.NetworkID] = ep.settings(all)
	}
	if s.MacAddress != "" && config == nil {
		var err error
		if config, err = e.addressed(ctx, s); err != nil {
			return "", err
		}
	}
	got, err := e.client().ContainerCreate(ctx, s.Config, s.HostConfig, config, platformOf(s.Platform), s.Name)
	if err != nil {
		return "", kind(err)
	}
	for _, ep := range later {
		if err := e.Connect(ctx, got.ID, ep); err != nil {
			return "", err
		}
	}
	return got.ID, nil
}

// addressed gives the container its hardware address: older engines read it
// from the container, newer ones from the network.
func (e *Engine) addressed(ctx context.Context, s Spec) (*network.NetworkingConfig, error) {
	version, err := e.APIVersion(ctx)
	if err != nil || versions.LessThan(version, allAtOnce) {
		s.Config.MacAddress = s.MacAddress //nolint:staticcheck // see above
		return nil, err
	}
	mode := cmp.Or(string(s.HostConfig.NetworkMode), "default")
	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{mode: {MacAddress: s.MacAddress}}}, nil
}

func platformOf(text string) *ocispec.Platform {
	if text == "" {
		return nil
	}
	words := append(strings.SplitN(text, "/", 3), "", "")
	return &ocispec.Platform{OS: words[0], Architecture: words[1], Variant: words[2]}
}

// labelled is s with a note of how many networks it is for, and with none that
// anybody else has made.
func (s Spec) labelled() Spec {
	config := *s.Config
	config.Labels = maps.Clone(config.Labels)
	delete(config.Labels, endpointsLabel)
	if len(s.Endpoints) > 0 {
		if config.Labels == nil {
			config.Labels = map[string]string{}
		}
		config.Labels[endpointsLabel] = strconv.Itoa(len(s.Endpoints))
	}
	s.Config = &config
	return s
}

// partial reports whether a container lacks networks that it was made for.
func partial(labels map[string]string, connected int) bool {
	want, err := strconv.Atoi(labels[endpointsLabel])
	return err == nil && connected < want
}

// Connect connects a container to a network. One that is connected and does not
// run yet is left as it is, or gets the address.
func (e *Engine) Connect(ctx context.Context, containerID string, ep Endpoint) error {
	version, err := e.APIVersion(ctx)
	if err != nil {
		return err
	}
	settings := ep.settings(versions.GreaterThanOrEqualTo(version, allAtOnce))
	return kind(e.client().NetworkConnect(ctx, ep.NetworkID, containerID, settings))
}

// Disconnect takes a container off a network, running or not.
func (e *Engine) Disconnect(ctx context.Context, containerID, networkID string) error {
	return kind(e.client().NetworkDisconnect(ctx, networkID, containerID, true))
}

// CreateNetwork makes a bridge network and returns its id.
func (e *Engine) CreateNetwork(ctx context.Context, s NetworkSpec) (string, error) {
	v6 := slices.ContainsFunc(s.Subnets, func(n Subnet) bool { return n.Prefix.Addr().Is6() })
	opts := network.CreateOptions{
		Driver: bridgeDriver, Internal: s.Internal, EnableIPv6: &v6, Labels: s.Labels,
		Options: map[string]string{bridgeName: s.Bridge}, IPAM: &network.IPAM{Driver: "default"},
	}
	if s.MTU > 0 {
		opts.Options[bridgeMTU] = strconv.Itoa(s.MTU)
	}
	for _, n := range s.Subnets {
		c := network.IPAMConfig{Subnet: n.Prefix.String(), Gateway: n.Gateway.String(), AuxAddress: map[string]string{}}
		if n.Range.IsValid() {
			c.IPRange = n.Range.String()
		}
		for i, a := range n.Reserved {
			// An engine knows these by name, over all subnets.
			c.AuxAddress[fmt.Sprintf("reserved-%s-%d", family(n.Prefix), i)] = a.String()
		}
		opts.IPAM.Config = append(opts.IPAM.Config, c)
	}
	got, err := e.client().NetworkCreate(ctx, s.Name, opts)
	if err != nil {
		return "", kind(err)
	}
	return got.ID, nil
}

func family(p netip.Prefix) string {
	if p.Addr().Is6() {
		return "v6"
	}
	return "v4"
}

// Networks returns the networks that carry label with this value, or with any
// if value is empty.
func (e *Engine) Networks(ctx context.Context, label, value string) ([]Network, error) {
	got, err := e.client().NetworkList(ctx, network.ListOptions{Filters: byLabel(label, value)})
	if err != nil {
		return nil, kind(err)
	}
	list := make([]Network, len(got))
	for i, n := range got {
		list[i] = networkOf(n)
	}
	return list, nil
}

// InspectNetwork returns the network with this id or name, and who is on it.
func (e *Engine) InspectNetwork(ctx context.Context, id string) (*Network, error) {
	got, err := e.client().NetworkInspect(ctx, id, network.InspectOptions{})
	if err != nil {
		return nil, kind(err)
	}
	n := networkOf(got)
	n.Containers = slices.Sorted(maps.Keys(got.Containers))
	return &n, nil
}

// RemoveNetwork removes a network. One that running containers are on is
// refused with an ErrFailedPrecondition.
func (e *Engine) RemoveNetwork(ctx context.Context, id string) error {
	err := kind(e.client().NetworkRemove(ctx, id))
	if errdefs.IsPermissionDenied(err) && strings.Contains(err.Error(), "active endpoints") {
		return fmt.Errorf("%w: %w", errdefs.ErrFailedPrecondition, err)
	}
	return err
}

func networkOf(got network.Inspect) Network {
	n := Network{ID: got.ID, NetworkSpec: NetworkSpec{
		Name: got.Name, Bridge: got.Options[bridgeName], Internal: got.Internal, Labels: got.Labels,
	}}
	n.MTU, _ = strconv.Atoi(got.Options[bridgeMTU]) // none: 0
	for _, c := range got.IPAM.Config {
		var s Subnet
		s.Prefix, _ = netip.ParsePrefix(c.Subnet) // what does not parse is none
		s.Gateway = addrOf(c.Gateway)
		s.Range, _ = netip.ParsePrefix(c.IPRange)
		for _, text := range c.AuxAddress {
			if a := addrOf(text); a.IsValid() {
				s.Reserved = append(s.Reserved, a)
			}
		}
		slices.SortFunc(s.Reserved, netip.Addr.Compare)
		n.Subnets = append(n.Subnets, s)
	}
	slices.SortFunc(n.Subnets, func(a, b Subnet) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) }) // IPv4 first
	return n
}

// addrOf reads an address, with or without a length behind it.
func addrOf(text string) netip.Addr {
	text, _, _ = strings.Cut(text, "/")
	a, _ := netip.ParseAddr(text) // what does not parse is none
	return a
}
