package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vishvananda/netlink/nl"
)

// Watch calls notify whenever something of ours, or a bridge that is waited
// for, has changed in the kernel, until ctx ends. Changes made by Links itself
// may be told too.
func (l *Links) Watch(ctx context.Context, notify func()) error {
	for {
		err := l.watchOnce(ctx, notify)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// The kernel drops what nobody reads in time: look at everything.
		l.log.Debug("watching the kernel's links begins anew", "error", err)
		notify()
		select {
		case <-time.After(time.Second): // a kernel that refuses must not be asked all the time
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Links) watchOnce(ctx context.Context, notify func()) error {
	socket, err := l.subscribe()
	if err != nil {
		return fmt.Errorf("subscribe to the kernel's events: %w", err)
	}
	return l.listen(ctx, socket, notify)
}

func (l *Links) subscribe() (*nl.NetlinkSocket, error) {
	return nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_IPV4_NETCONF)
}

func (l *Links) listen(ctx context.Context, socket *nl.NetlinkSocket, notify func()) error {
	return receive(ctx, socket, func(messages []syscall.NetlinkMessage) {
		for _, m := range messages {
			l.reflect(m.Header.Type, m.Data)
			if l.concerns(m.Header.Type, m.Data) {
				notify()
				break
			}
		}
	})
}

// receive hands on what the kernel tells until ctx ends, or the kernel has
// dropped what nobody read in time. It closes the socket.
func receive(ctx context.Context, socket *nl.NetlinkSocket, each func([]syscall.NetlinkMessage)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		socket.Close()
		return nil
	})
	g.Go(func() error {
		for {
			messages, _, err := socket.Receive()
			if err != nil {
				return fmt.Errorf("read the kernel's events: %w", err)
			}
			each(messages)
		}
	})
	return g.Wait()
}

// concerns reports whether a message may be about something of ours. Neighbours
// that containers learn come and go all the time: only permanent ones count, and
// those that should be, which the kernel calls failed when it removes them.
func (l *Links) concerns(kind uint16, data []byte) bool {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		link, err := netlink.LinkDeserialize(nil, data)
		return err != nil || owned(link.Attrs().Name)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		n, err := netlink.NeighDeserialize(data)
		return err != nil || n.Family == unix.AF_BRIDGE && n.State&netlink.NUD_REACHABLE == 0 || n.State&netlink.NUD_PERMANENT != 0 || l.knows(n.IP)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE, unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return ofProtocol(data)
	}
	return true
}

// knows reports whether a neighbour of this address is wanted.
func (l *Links) knows(ip net.IP) bool {
	wanted := l.neighbours.Load()
	a, ok := netip.AddrFromSlice(ip)
	return ok && wanted != nil && slices.ContainsFunc(*wanted, func(n Neighbour) bool { return n.IP == a.Unmap() })
}

// ofProtocol reports whether a route or rule is ours. Rules tell it in an
// attribute, so they are all looked at.
func ofProtocol(data []byte) bool {
	m := nl.DeserializeRtMsg(data)
	return m.Protocol == Protocol || m.Protocol == unix.RTPROT_UNSPEC
}

// reflect lets a container that has just been put on a bridge of ours reach
// itself by its service's address: the bridge sends such packets back through
// the port that they came by.
func (l *Links) reflect(kind uint16, data []byte) {
	if kind != unix.RTM_NEWLINK {
		return
	}
	link, err := netlink.LinkDeserialize(nil, data)
	if err != nil || link.Attrs().MasterIndex == 0 || owned(link.Attrs().Name) {
		return
	}
	if bridge, err := netlink.LinkByIndex(link.Attrs().MasterIndex); err == nil && owned(bridge.Attrs().Name) {
		setHairpin(link.Attrs().Name)
	}
}
