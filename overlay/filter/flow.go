package filter

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// doomed matches the connections to remove.
type doomed struct {
	gone    map[netip.Addr]bool // of every protocol
	stopped map[netip.Addr]bool // of UDP
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (d doomed) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	for _, ip := range [][]byte{f.Forward.SrcIP, f.Forward.DstIP, f.Reverse.SrcIP} {
		a, _ := netip.AddrFromSlice(ip)
		if d.gone[a.Unmap()] {
			return true
		}
	}
	backend, _ := netip.AddrFromSlice(f.Reverse.SrcIP)
	return f.Forward.Protocol == unix.IPPROTO_UDP && d.stopped[backend.Unmap()]
}

// removeFlows forgets connections: to and from addresses that are gone, and
// those of UDP to backends that have stopped serving. The next packet of such a
// connection is one that nobody knows: of TCP it is answered with a reset.
func removeFlows(gone, stopped map[netip.Addr]bool) (n uint, err error) {
	d := doomed{gone, stopped}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		m, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, d)
		n += m
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) && !isGone(err) {
			return n, fmt.Errorf("forget connections: %w", err)
		}
	}
	return n, nil
}

func isGone(err error) bool { return errors.Is(err, unix.ENOENT) }
