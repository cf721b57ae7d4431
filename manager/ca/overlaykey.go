package ca

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"shoal/raftstore/state"
)

const (
	overlayKeySize = 32 // what HKDF-SHA256 makes the most of
	// overlayKeyPeriod is how long a key of the tunnels is the newest: as Swarm's.
	overlayKeyPeriod = 12 * time.Hour
	// keepOverlayKeys: the one before the newest is kept to see, on a node, how far
	// it is behind. No tunnel is made with it.
	keepOverlayKeys = 2
)

// RotateOverlayKeys keeps the key that tunnels come from young, until ctx ends.
// Only the leader runs it. Nodes take a new key at different times, which cuts
// nothing: an established session of WireGuard does not use it, and goes on for
// up to three minutes while new handshakes fail.
func (c *CA) RotateOverlayKeys(ctx context.Context) error {
	for {
		changed := c.store.Changed()
		wait, known := overlayKeyDue(c.store.View(), time.Now())
		if known && wait <= 0 {
			if err := c.rotateOverlayKey(ctx); err != nil {
				return err
			}
			continue
		}
		timer := time.NewTimer(wait)
		if !known {
			timer.Stop()
		}
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

func (c *CA) rotateOverlayKey(ctx context.Context) error {
	now, fresh := time.Now(), newOverlayKey()
	err := c.store.Update(ctx, func(v *state.View) ([]state.Change, error) { return planOverlayKey(v, now, fresh), nil })
	if err != nil {
		return fmt.Errorf("rotate the key of tunnels: %w", err)
	}
	c.log.Info("tunnels have a new key")
	return nil
}

func newOverlayKey() []byte {
	key := make([]byte, overlayKeySize)
	rand.Read(key) // never fails: crypto/rand aborts the program instead
	return key
}

// overlayKeyDue is how long the newest key may go on; known is false where there
// is no cluster yet. A key from the future is due: some clock was wrong, and it
// would stay for as long.
func overlayKeyDue(v *state.View, now time.Time) (wait time.Duration, known bool) {
	cluster := v.Cluster()
	if cluster == nil {
		return 0, false
	}
	age := now.Sub(cluster.OverlayKeyAt)
	if len(cluster.OverlayKeys) == 0 || cluster.OverlayKeyAt.IsZero() || age < -overlayKeyPeriod {
		return 0, true
	}
	return overlayKeyPeriod - age, true
}

// planOverlayKey makes fresh the newest key if one is due.
func planOverlayKey(v *state.View, now time.Time, fresh []byte) []state.Change {
	if wait, known := overlayKeyDue(v, now); !known || wait > 0 {
		return nil
	}
	next := *v.Cluster()
	next.OverlayKeys = append([][]byte{fresh}, next.OverlayKeys...)
	next.OverlayKeys = next.OverlayKeys[:min(len(next.OverlayKeys), keepOverlayKeys)]
	next.OverlayKeyAt = now
	return []state.Change{state.Put(&next)}
}

// NodeRemoved returns what becomes of the cluster when a node is removed: the
// key of tunnels, which that node knows, is due. It is pure, for plans.
func NodeRemoved(cluster *state.Cluster) *state.Cluster {
	next := *cluster
	next.OverlayKeyAt = time.Time{}
	return &next
}
