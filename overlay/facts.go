package overlay

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"shoal/overlay/link"
)

// ethernetMTU is assumed of a link that cannot be found.
const ethernetMTU = 1500

// UnderlayMTU is the MTU of the link that has an address of this node.
func UnderlayMTU(a netip.Addr) int {
	mtu, err := link.MTU(a)
	if err != nil {
		return ethernetMTU
	}
	return mtu
}

const confV6 = "/proc/sys/net/ipv6/conf"

// HasIPv6 reports whether the kernel has IPv6, and not switched off.
func HasIPv6() bool {
	text, err := os.ReadFile(filepath.Join(confV6, "all/disable_ipv6"))
	return err == nil && strings.TrimSpace(string(text)) == "0"
}

// routerLinks are links that take router advertisements only while they do not
// forward. There may be hundreds of links, of which few are worth a look.
func routerLinks() (names []string) {
	links, err := os.ReadDir(confV6)
	if err != nil {
		return nil // no IPv6
	}
	for _, l := range links {
		name := l.Name()
		if !isUnderlay(name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(confV6, name, "accept_ra"))
		if err == nil && strings.TrimSpace(string(text)) == "1" {
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
