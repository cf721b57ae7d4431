package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// ownProtocol marks the routes that shoal makes.
const ownProtocol = 0x5a

// vxlanOverhead is what VXLAN over IPv4 takes of the MTU below it.
const vxlanOverhead = 50

// route is one of the host.
type route struct {
	dst  netip.Prefix
	link string
}

// addresses looks at what the host is connected to.
func addresses(o Options) (found []Finding) {
	routes, err := hostRoutes()
	if err != nil {
		return []Finding{{"routes", Warn, err.Error(), "run this as root"}}
	}
	found = clashes(routes, o)
	link, err := underlay(o.Advertise, routes)
	if err != nil {
		return append(found, Finding{"address", Bad, err.Error(), "give --advertise-addr an address of this host that the other nodes reach"})
	}
	return append(found, mtu(link.Name, link.MTU))
}

func hostRoutes() (routes []route, err error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RouteList(nil, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range list {
			if r.Protocol == ownProtocol || strings.HasPrefix(names[r.LinkIndex], "shoal") {
				continue
			}
			dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if family == netlink.FAMILY_V6 {
				dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			if r.Dst != nil {
				addr, _ := netip.AddrFromSlice(r.Dst.IP)
				bits, _ := r.Dst.Mask.Size()
				dst = netip.PrefixFrom(addr.Unmap(), bits)
			}
			routes = append(routes, route{dst, names[r.LinkIndex]})
		}
	}
	return routes, nil
}

// clashes says where the host has a route into what is, or will be, a subnet of
// the cluster. The default route is none.
func clashes(routes []route, o Options) (found []Finding) {
	for _, r := range routes {
		if r.dst.Bits() == 0 {
			continue
		}
		detail := func(p netip.Prefix) string {
			return fmt.Sprintf("the host's route %s on %s overlaps with %s", r.dst, r.link, p)
		}
		inUse := false
		for _, s := range o.Subnets {
			if s.Overlaps(r.dst) {
				found = append(found, Finding{"subnets", Bad, detail(s) + ", which the cluster uses", "give that network of the host, or the cluster's, another subnet"})
				inUse = true
			}
		}
		for _, p := range o.Pools {
			if !inUse && p.Overlaps(r.dst) {
				found = append(found, Finding{"subnets", Warn, detail(p) + ", which networks are taken from", "choose another pool for the cluster with `shoal init --default-addr-pool`, or give networks subnets of their own"})
			}
		}
	}
	if len(found) == 0 {
		found = append(found, ok("subnets", "no route of the host is in the way"))
	}
	return found
}

// underlay is the interface that other nodes are reached through.
func underlay(advertise netip.Addr, routes []route) (net.Interface, error) {
	if !advertise.IsValid() {
		for _, r := range routes {
			if r.dst.Bits() != 0 || r.link == "" {
				continue
			}
			if link, err := net.InterfaceByName(r.link); err == nil {
				return *link, nil
			}
		}
		return net.Interface{}, errors.New("there is no default route that would tell how other nodes reach this host")
	}
	links, err := net.Interfaces()
	if err != nil {
		return net.Interface{}, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			continue // it has gone
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == advertise.Unmap() {
				return l, nil
			}
		}
	}
	return net.Interface{}, fmt.Errorf("no interface has %s", advertise)
}

func mtu(link string, size int) Finding {
	switch {
	case size < 1280+vxlanOverhead:
		return Finding{"mtu", Bad, fmt.Sprintf("%s has an MTU of %d: IPv6 does not fit through VXLAN on it", link, size), "raise the MTU of the link between nodes to 1500 or more"}
	case size < 1500:
		return Finding{"mtu", Warn, fmt.Sprintf("%s has an MTU of %d: only %d fit through VXLAN on it, less than the usual 1450", link, size, size-vxlanOverhead), fmt.Sprintf("raise it, or make networks with --opt com.docker.network.driver.mtu=%d", size-vxlanOverhead)}
	}
	return ok("mtu", "%s has an MTU of %d", link, size)
}

// forwarding looks for a policy that would drop what is forwarded.
func forwarding() []Finding {
	c, err := nftables.New()
	if err != nil {
		return []Finding{{"forwarding", Warn, fmt.Sprintf("the rules of the firewall cannot be read: %v", err), "run this as root"}}
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return []Finding{{"forwarding", Warn, fmt.Sprintf("the rules of the firewall cannot be read: %v", err), "run this as root"}}
	}
	return []Finding{forwardPolicy(chains)}
}

func forwardPolicy(chains []*nftables.Chain) Finding {
	drops, docker := false, false
	for _, c := range chains {
		if c.Table.Name != "filter" {
			continue
		}
		drops = drops || c.Name == "FORWARD" && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
		docker = docker || c.Name == "DOCKER-USER"
	}
	switch {
	case drops && !docker:
		return Finding{"forwarding", Bad, "the firewall drops what is forwarded, and there is no chain DOCKER-USER to make an exception in", "start the Docker Engine with its iptables rules, or iptables -P FORWARD ACCEPT"}
	case drops:
		return ok("forwarding", "dropped but for Docker's and shoal's exceptions")
	}
	return ok("forwarding", "nothing drops it")
}
