package link

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"shoal/internal/backoff"
)

// WatchAddresses calls notify at first and whenever an address of this host has
// come or gone, until ctx ends.
func WatchAddresses(ctx context.Context, log *slog.Logger, notify func()) error {
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second}
	for {
		err := watchAddressesOnce(ctx, func() {
			retry.Reset()
			notify()
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.Debug("watching this host's addresses begins anew", "error", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

func watchAddressesOnce(ctx context.Context, notify func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("subscribe to changes of addresses: %w", err)
	}
	notify() // what came before is not told
	return receive(ctx, socket, func([]syscall.NetlinkMessage) { notify() })
}
