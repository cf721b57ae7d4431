package link

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
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

// watchAddressesOnce ends when the kernel has dropped what nobody read in time.
func watchAddressesOnce(ctx context.Context, notify func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("subscribe to changes of addresses: %w", err)
	}
	notify() // what came before is not told
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		socket.Close()
		return nil
	})
	g.Go(func() error {
		for {
			if _, _, err := socket.Receive(); err != nil {
				return fmt.Errorf("read changes of addresses: %w", err)
			}
			notify()
		}
	})
	return g.Wait()
}
