package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/network"
)

// networkFlags are what a new network can be.
type networkFlags struct {
	driver, scope, ipamDriver           string
	options, ipamOptions, aux           opts.MapOpts
	labels                              []string
	subnets, ranges                     prefixes
	gateways                            addrs
	attachable, internal, ingress, ipv6 bool
}

func (s *shell) networkCreate() *command {
	n := networkFlags{
		driver: "overlay", ipamDriver: "default",
		options: *opts.NewMapOpts(nil, nil), ipamOptions: *opts.NewMapOpts(nil, nil), aux: *opts.NewMapOpts(nil, validateAux),
	}
	f := &flags{}
	f.add((*name)(&n.driver), "string", "driver,d", "Driver: overlay for the whole cluster, others for this node's engine alone").def(`"overlay"`)
	f.add(&n.subnets, "cidr", "subnet", "Subnet, at most one of each family (format: CIDR)")
	f.add(&n.ranges, "cidr", "ip-range", "Part of a subnet that addresses are given out from (format: CIDR)")
	f.add(&n.gateways, "ip", "gateway", "Gateway of a subnet")
	f.add(&n.aux, "map", "aux-address", "Addresses that are never given out (format: NAME=IP)").wants("NAME=IP")
	f.add(&n.options, "map", "opt,o", "Options of the driver: encrypted, com.docker.network.driver.mtu").wants("KEY or KEY=VALUE")
	f.add(opts.NewListOptsRef(&n.labels, opts.ValidateLabel), "list", "label", "Labels").wants("KEY=VALUE")
	f.toggle(&n.attachable, "attachable", "Let containers connect that no service has")
	f.toggle(&n.internal, "internal", "Let containers reach nothing outside of the network")
	f.toggle(&n.ingress, "ingress", "Make this the network of published ports")
	f.toggle(&n.ipv6, "ipv6", "Give out IPv6 addresses too")
	f.choice(&n.scope, "scope", "Scope of the network", "swarm", "local")
	f.text(&n.ipamDriver, "ipam-driver", "Driver that gives out addresses").def(`"default"`)
	f.add(&n.ipamOptions, "map", "ipam-opt", "Options of that driver")
	return &command{
		name: "create", operands: "[OPTIONS] NETWORK", short: "Create a network", flags: f, min: 1, max: 1,
		run: func(ctx context.Context, args []string) error { return s.runNetworkCreate(ctx, &n, args[0]) },
	}
}

func (s *shell) runNetworkCreate(ctx context.Context, n *networkFlags, name string) error {
	ipam, err := n.ipam()
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	var ipv6 *bool
	if n.ipv6 {
		ipv6 = &n.ipv6
	}
	answer, err := api.NetworkCreate(ctx, name, network.CreateOptions{
		Driver: n.driver, Options: n.options.GetAll(), IPAM: ipam, Internal: n.internal, EnableIPv6: ipv6,
		Attachable: n.attachable, Ingress: n.ingress, Scope: n.scope, Labels: opts.ConvertKVStringsToMap(n.labels),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, answer.ID)
	return nil
}

// ipam gives each range, gateway and auxiliary address to its subnet.
func (n *networkFlags) ipam() (*network.IPAM, error) {
	if len(n.subnets) < len(n.ranges) || len(n.subnets) < len(n.gateways) {
		return nil, errors.New("every ip-range or gateway must have a corresponding subnet")
	}
	configs := make([]network.IPAMConfig, len(n.subnets))
	for i, subnet := range n.subnets {
		if slices.ContainsFunc(n.subnets[:i], subnet.Overlaps) {
			return nil, errors.New("multiple overlapping subnet configuration is not supported")
		}
		configs[i].Subnet = subnet.String()
	}
	for _, r := range n.ranges {
		c := n.of(configs, r.Addr())
		switch {
		case c == nil:
			return nil, fmt.Errorf("no matching subnet for range %s", r)
		case c.IPRange != "":
			return nil, fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", r, c.IPRange, c.Subnet)
		}
		c.IPRange = r.String()
	}
	for _, g := range n.gateways {
		c := n.of(configs, g)
		switch {
		case c == nil:
			return nil, fmt.Errorf("no matching subnet for gateway %s", g)
		case c.Gateway != "":
			return nil, fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)", g, c.Gateway, c.Subnet)
		}
		c.Gateway = g.String()
	}
	for key, text := range n.aux.GetAll() {
		a, _ := netip.ParseAddr(text) // checked by its flag
		c := n.of(configs, a)
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for aux-address %s", text)
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]string{}
		}
		c.AuxAddress[key] = text
	}
	return &network.IPAM{Driver: n.ipamDriver, Config: configs, Options: n.ipamOptions.GetAll()}, nil
}

// of is the configuration of the subnet that an address is in, nil for none.
func (n *networkFlags) of(configs []network.IPAMConfig, a netip.Addr) *network.IPAMConfig {
	for i, subnet := range n.subnets {
		if subnet.Contains(a) {
			return &configs[i]
		}
	}
	return nil
}

func validateAux(s string) (string, error) {
	key, text, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return "", errors.New("must be NAME=IP")
	}
	if _, err := netip.ParseAddr(text); err != nil {
		return "", fmt.Errorf("%q is not an IP address", text)
	}
	return s, nil
}

// name is any word.
type name string

// Set implements value.
func (n *name) Set(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("must not be empty")
	}
	*n = name(s)
	return nil
}

func (n *name) String() string { return string(*n) }

// prefixes is a list of subnets.
type prefixes []netip.Prefix

// Set implements value.
func (p *prefixes) Set(s string) error {
	for text := range strings.SplitSeq(s, ",") {
		subnet, err := netip.ParsePrefix(text)
		if err != nil {
			return errors.New(`must be a CIDR such as "10.10.0.0/24"`)
		}
		if subnet != subnet.Masked() {
			return fmt.Errorf("must be the beginning of a subnet: %s", subnet.Masked())
		}
		*p = append(*p, subnet)
	}
	return nil
}

func (p *prefixes) String() string {
	var out []string
	for _, subnet := range *p {
		out = append(out, subnet.String())
	}
	return strings.Join(out, ", ")
}

// addrs is a list of IP addresses.
type addrs []netip.Addr

// Set implements value.
func (a *addrs) Set(s string) error {
	for text := range strings.SplitSeq(s, ",") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return errors.New("must be an IP address")
		}
		*a = append(*a, addr)
	}
	return nil
}

func (a *addrs) String() string {
	var out []string
	for _, addr := range *a {
		out = append(out, addr.String())
	}
	return strings.Join(out, ", ")
}

// ipv4 is one IPv4 address.
type ipv4 struct{ p *string }

// Set implements value.
func (v *ipv4) Set(s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() || a.IsUnspecified() {
		return errors.New("must be an IPv4 address")
	}
	*v.p = a.String()
	return nil
}

func (v *ipv4) String() string {
	if v.p == nil {
		return ""
	}
	return *v.p
}
