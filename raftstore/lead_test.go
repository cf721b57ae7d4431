package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// The loops of one manager never run twice at a time. Those of two managers
// may overlap a little: the old leader's updates fail meanwhile.
func TestLeadRunsOncePerTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		ctx, stop := context.WithCancel(t.Context())
		var terms atomic.Int64
		var wg sync.WaitGroup
		for id, s := range c.stores {
			var running atomic.Int64
			wg.Go(func() {
				err := s.Lead(ctx, func(ctx context.Context) error {
					if running.Add(1) > 1 {
						t.Errorf("%s leads twice at a time", id)
					}
					defer running.Add(-1)
					terms.Add(1)
					<-ctx.Done()
					return ctx.Err()
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Lead = %v", err)
				}
			})
		}
		for range 5 {
			var old *Store
			c.until("a transfer")(func() bool { // by one that has not just lost the lead
				old = c.leader()
				return old.TransferLeadership(t.Context()) == nil
			})
			c.leader(old.cfg.NodeID)
		}
		stop()
		wg.Wait()
		c.close()
		if terms.Load() < 5 {
			t.Errorf("%d terms", terms.Load())
		}
	})
}

// Who leads begins with everything that was confirmed before.
func TestLeadBeginsWithEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var confirmed, terms atomic.Uint64
		for id, s := range c.stores {
			wg.Go(func() {
				s.Lead(ctx, func(ctx context.Context) error {
					terms.Add(1)
					if got, want := s.View().Index(), confirmed.Load(); got < want {
						t.Errorf("%s leads at index %d, %d was confirmed", id, got, want)
					}
					<-ctx.Done()
					return nil
				})
			})
		}
		for range 20 {
			old := c.leader()
			must(t, old.Update(t.Context(), count))
			confirmed.Store(old.View().Index())
			c.cut(old.cfg.NodeID) // at once: the others do not know that it is committed
			c.leader(old.cfg.NodeID)
			c.heal(old.cfg.NodeID)
			c.settled()
		}
		stop()
		wg.Wait()
		c.close()
		if terms.Load() < 20 {
			t.Errorf("%d terms", terms.Load())
		}
	})
}

func TestLeadHandsOverWhenTheWorkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		ctx, stop := context.WithCancel(t.Context())
		broken := c.leader()
		var wg sync.WaitGroup
		healthy := make(chan string, 10)
		for id, s := range c.stores {
			wg.Go(func() {
				s.Lead(ctx, func(ctx context.Context) error {
					if s == broken {
						return errors.New("cannot")
					}
					healthy <- id
					<-ctx.Done()
					return nil
				})
			})
		}
		if id := <-healthy; id == broken.cfg.NodeID {
			t.Errorf("%s still leads", id)
		}
		stop()
		wg.Wait()
		c.close()
	})
}

func TestLeaderIsKnownEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		old := c.leader()
		c.settled()
		var other *Store
		for _, s := range c.stores {
			if s != old {
				other = s
			}
		}
		c.until("the leader is known")(func() bool { id, addr, _ := other.Leader(); return id == old.cfg.NodeID && addr == old.cfg.Addr })
		_, _, changed := other.Leader()
		c.cut(old.cfg.NodeID)
		<-changed
		c.leader(old.cfg.NodeID)
		c.until("the new leader is known")(func() bool { id, _, _ := other.Leader(); return id != "" && id != old.cfg.NodeID })
	})
}

func TestLinearizableReadersShareRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		var wg sync.WaitGroup
		for i := range 100 {
			id := fmt.Sprint("x", i)
			must(t, s.Update(t.Context(), put(id)))
			for range 20 {
				wg.Go(func() {
					v, err := s.Linearizable(t.Context())
					if err != nil || v.Node(id) == nil {
						t.Errorf("Linearizable misses %s: %v", id, err)
					}
				})
			}
		}
		wg.Wait()
	})
}
