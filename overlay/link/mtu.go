package link

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
)

// MTU is that of the link that has an address. It costs one list of addresses,
// however many links there are.
func MTU(a netip.Addr) (int, error) {
	a = a.Unmap()
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := dumped(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	for _, have := range list {
		if ip, ok := netip.AddrFromSlice(have.IP); !ok || ip.Unmap() != a {
			continue
		}
		l, err := netlink.LinkByIndex(have.LinkIndex)
		if err != nil {
			return 0, fmt.Errorf("link of %s: %w", a, err)
		}
		return l.Attrs().MTU, nil
	}
	return 0, fmt.Errorf("no link has %s: %w", a, errdefs.ErrNotFound)
}
