package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/overlay/link"
)

// errReaddressed ends a run of a member so that the next one begins at the new
// address.
var errReaddressed = errors.New("this node has another address")

// readdress looks where this node should listen and be reached now: as the
// request to init or join said, else as the daemon's flags say, else at the
// machine's only address. What cannot be told leaves everything as it is.
func (m *member) readdress() (changed bool) {
	r := m.record.Load()
	if r.Asked == nil { // by a version that did not note it
		return false
	}
	now, err := m.node.addresses(r.Asked.Listen, r.Asked.Advertise)
	if err != nil || now.listen == r.Listen && now.advertise == r.Advertise {
		return false
	}
	m.log.Warn("this node has another address", "listen", now.listen, "advertise", now.advertise, "was_listen", r.Listen, "was_advertise", r.Advertise)
	m.remember(func(r *record) {
		r.Listen, r.Advertise = now.listen, now.advertise
		r.Managers = slices.Clone(r.Managers) // others read the last one
		for i := range r.Managers {
			if r.Managers[i].NodeID == r.NodeID {
				r.Managers[i].Addr = now.advertise
			}
		}
	})
	return true
}

// addressQuiet gathers the steps of one change, as of an old address that goes
// and a new one that comes.
const addressQuiet = 500 * time.Millisecond

// watchAddress ends the run when the machine's addresses have changed so that
// this node has another one.
func (m *member) watchAddress(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	events := make(chan struct{}, 1)
	g.Go(func() error {
		return link.WatchAddresses(ctx, m.log, func() {
			select {
			case events <- struct{}{}:
			default:
			}
		})
	})
	g.Go(func() error {
		var quiet <-chan time.Time
		for {
			select {
			case <-events:
				quiet = time.After(addressQuiet)
			case <-quiet:
				quiet = nil
				if m.readdress() {
					return errReaddressed
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return g.Wait()
}
