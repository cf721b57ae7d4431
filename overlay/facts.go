package overlay

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// ethernetMTU is assumed of a link that cannot be found.
const ethernetMTU = 1500

// UnderlayMTU is the MTU of the link that has an address of this node.
func UnderlayMTU(a netip.Addr) int {
	links, err := net.Interfaces()
	if err != nil {
		return ethernetMTU
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			continue
		}
		for _, have := range addrs {
			if p, err := netip.ParsePrefix(have.String()); err == nil && p.Addr().Unmap() == a.Unmap() {
				return l.MTU
			}
		}
	}
	return ethernetMTU
}

const confV6 = "/proc/sys/net/ipv6/conf"

// HasIPv6 reports whether the kernel has IPv6, and not switched off.
func HasIPv6() bool {
	text, err := os.ReadFile(filepath.Join(confV6, "all/disable_ipv6"))
	return err == nil && strings.TrimSpace(string(text)) == "0"
}

// routerLinks are links that take router advertisements only while they do not
// forward.
func routerLinks() (names []string) {
	paths, _ := filepath.Glob(filepath.Join(confV6, "*/accept_ra")) // the pattern is good
	for _, path := range paths {
		name := filepath.Base(filepath.Dir(path))
		text, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(text)) == "1" && isUnderlay(name) {
			names = append(names, name)
		}
	}
	return names
}

// isUnderlay leaves out what containers and networks are made of.
func isUnderlay(name string) bool {
	for _, prefix := range []string{"all", "default", "lo", "shoal", "veth", "docker", "br-"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}
