package network

import (
	"context"
	"time"

	"shoal/internal/backoff"
)

// acknowledge tells the index of the newest line whenever the plane has caught
// up with it. Lines that come meanwhile are told together.
func (n *Network) acknowledge(ctx context.Context) error {
	wait := backoff.Backoff{Min: 50 * time.Millisecond, Max: 2 * time.Second}
	said := "" // the last error, so that each is logged once
	for {
		index, generation, owed := n.newest()
		if !owed {
			select {
			case <-n.settle:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := n.inEffect(ctx, generation)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			n.metrics.failures.Inc()
			if err.Error() != said {
				said = err.Error()
				n.log.Error("networks are not in effect on this node, trying again", "index", index, "error", err)
			}
			if err := wait.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		if said != "" {
			n.log.Info("networks are in effect on this node", "index", index)
		}
		said = ""
		wait.Reset()
		n.paid(index)
		n.cfg.Applied(index)
	}
}

func (n *Network) newest() (index, generation uint64, owed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.index, n.plane, n.owed
}

// paid notes that index is about to be told.
func (n *Network) paid(index uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.index == index {
		n.owed = false
	}
}

// inEffect waits for a generation of the plane; 0 is that of one which was never
// told anything.
func (n *Network) inEffect(ctx context.Context, generation uint64) error {
	if generation == 0 {
		return nil
	}
	return n.cfg.Plane.Wait(ctx, generation)
}
