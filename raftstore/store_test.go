package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"shoal/raftstore/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUpdateReachesAllManagers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		changed := c.stores["n3"].Changed()
		must(t, c.leader().Update(t.Context(), create("a")))
		<-changed
		if v := c.settled(); v.Node("a") == nil || v.Index() != 1 {
			t.Errorf("index %d, node %v", v.Index(), v.Node("a"))
		}
	})
}

// Followers see an update when the leader does, not when raft next writes to
// them.
func TestFollowersSeeUpdatesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		for range 50 {
			must(t, s.Update(t.Context(), count))
			began := time.Now()
			synctest.Wait() // no time passes
			for id, other := range c.stores {
				if got, want := other.View().Index(), s.View().Index(); got != want {
					t.Fatalf("%s is at %d, the leader at %d, after %s", id, got, want, time.Since(began))
				}
			}
		}
	})
}

func TestUpdateOnFollowerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		lead := c.leader()
		for id, s := range c.stores {
			if s == lead {
				continue
			}
			if err := s.Update(t.Context(), put("a")); !errors.Is(err, ErrNotLeader) || !errdefs.IsUnavailable(err) {
				t.Errorf("%s: Update = %v", id, err)
			}
			if _, err := s.Linearizable(t.Context()); !errors.Is(err, ErrNotLeader) {
				t.Errorf("%s: Linearizable = %v", id, err)
			}
		}
	})
}

func TestUpdatesSeeThoseBeforeThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		const n = 500
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { must(t, c.leader().Update(t.Context(), count)) })
		}
		wg.Wait()
		v := c.settled()
		if counted(v) != n || v.Index() != n {
			t.Errorf("counted %d at index %d, want %d", counted(v), v.Index(), n)
		}
		if last := c.leader().Stats().LastIndex; last > n/2 {
			t.Errorf("%d entries for %d updates: they were not gathered", last, n)
		}
	})
}

func TestPlanErrorChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		s := c.leader()
		must(t, s.Update(t.Context(), create("a")))
		if err := s.Update(t.Context(), create("a")); !errors.Is(err, errTaken) {
			t.Errorf("Update = %v", err)
		}
		must(t, s.Update(t.Context(), func(*state.View) ([]state.Change, error) { return nil, nil }))
		if got := s.View().Index(); got != 1 {
			t.Errorf("index %d, want 1", got)
		}
	})
}

// An update that was planned on a state that did not come to be is planned
// again on the one that did.
func TestStaleUpdateIsPlannedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		must(t, s.Update(t.Context(), count))
		plans := 0
		err := s.Update(t.Context(), func(v *state.View) ([]state.Change, error) {
			if plans++; plans == 1 {
				changes, err := count(v)
				must(t, err)
				e := state.Entry{Version: state.EntryVersion, First: v.Index() + 1, Updates: [][]state.Change{changes}}
				data, err := e.Encode()
				must(t, err)
				must(t, s.await(t.Context(), s.raft.Load().Apply(data, 0)))
			}
			return count(v)
		})
		must(t, err)
		if v := c.settled(); plans != 2 || counted(v) != 3 || v.Index() != 3 {
			t.Errorf("planned %d times, counted %d, index %d", plans, counted(v), v.Index())
		}
	})
}

// What the followers could not read never reaches the log, and the updates
// around it are not harmed.
func TestUnreadableUpdateIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		err := s.Update(t.Context(), func(*state.View) ([]state.Change, error) {
			return []state.Change{state.Put(&state.Service{})}, nil // no id
		})
		if err == nil || errdefs.IsUnavailable(err) {
			t.Errorf("Update = %v", err)
		}
		must(t, s.Update(t.Context(), count))
		if v := c.settled(); v.Index() != 1 {
			t.Errorf("index %d", v.Index())
		}
	})
}

func TestLargeUpdatesBecomeSeveralEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		s := c.leader()
		before := s.Stats().LastIndex
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				must(t, s.Update(t.Context(), func(*state.View) (changes []state.Change, _ error) {
					for j := range maxEntryChanges {
						changes = append(changes, state.Delete(state.KindTask, fmt.Sprint(i, "-", j)))
					}
					return changes, nil
				}))
			})
		}
		wg.Wait()
		if got := s.Stats().LastIndex - before; got != 5 {
			t.Errorf("%d entries, want 5", got)
		}
	})
}

func TestEndedContextIsAnUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		c.cut(s.cfg.NodeID)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := s.Update(ctx, count); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update = %v", err)
		}
		if err := s.Update(ctx, count); errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update after the end of its context = %v", err)
		}
	})
}

func TestBootstrapTwiceIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		if err := c.leader().Bootstrap(t.Context()); !errdefs.IsAlreadyExists(err) {
			t.Errorf("Bootstrap = %v", err)
		}
	})
}

// A leader that has lost the majority must not confirm, nor deny, what it
// proposed; and nothing that was confirmed may be lost.
func TestCutLeaderDoesNotConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		old := c.leader()
		must(t, old.Update(t.Context(), create("before")))
		c.cut(old.cfg.NodeID)
		err := old.Update(t.Context(), create("lost"))
		if !errors.Is(err, ErrOutcomeUnknown) || !errdefs.IsUnavailable(err) {
			t.Errorf("Update on a cut leader = %v, want an unknown outcome", err)
		}
		if _, err := old.Linearizable(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Linearizable on a cut leader = %v", err)
		}
		next := c.leader(old.cfg.NodeID)
		must(t, next.Update(t.Context(), create("after")))
		c.heal(old.cfg.NodeID)
		v := c.settled()
		if v.Node("before") == nil || v.Node("after") == nil || v.Node("lost") != nil {
			t.Errorf("before %v, after %v, lost %v", v.Node("before") != nil, v.Node("after") != nil, v.Node("lost") != nil)
		}
	})
}

// An answer that rests on an update which is still on its way is given only
// once that has been confirmed.
func TestAnswerWaitsForWhatItSaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		c.cut(s.cfg.NodeID)
		first := make(chan error, 1)
		go func() { first <- s.Update(t.Context(), create("a")) }()
		synctest.Wait()
		if err := s.Update(t.Context(), create("a")); !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("second create = %v, but the first is not confirmed", err)
		}
		<-first
	})
}

// A leader that was cut off believes in itself for a moment. It must not answer
// reads on that belief.
func TestCutLeaderDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		c.cut(s.cfg.NodeID)
		if leads, _ := s.term.get(); leads == nil {
			t.Fatal("it has given up already; this test proves nothing")
		}
		if _, err := s.Linearizable(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Linearizable = %v", err)
		}
	})
}

func TestFailoverIsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		for range 20 {
			old := c.leader()
			c.settled()
			began := time.Now()
			c.cut(old.cfg.NodeID)
			c.leader(old.cfg.NodeID)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("no new leader for %s", took)
			}
			c.heal(old.cfg.NodeID)
			c.until("old leader gives up")(func() bool { t, _ := old.term.get(); return t == nil })
		}
	})
}

// Clients count and create while leaders are cut off again and again. What was
// confirmed is there once, what failed is not there, what is unknown is there
// at most once.
func TestNothingConfirmedIsLost(t *testing.T) {
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprint(n, " managers"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { hammer(t, n) })
		})
	}
}

func hammer(t *testing.T, managers int) {
	c := newCluster(t, managers)
	defer c.close()
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	confirmed, unknown := map[string]bool{}, map[string]bool{}
	counts, maybe := 0, 0
	var wg sync.WaitGroup
	for client := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("c%d-%d", client, i)
				plan := func(v *state.View) ([]state.Change, error) {
					changes, err := create(id)(v)
					if err != nil {
						return nil, err
					}
					more, err := count(v)
					return append(changes, more...), err
				}
				err := c.updateAnywhere(t.Context(), plan)
				mu.Lock()
				switch {
				case err == nil:
					confirmed[id] = true
					counts++
				case errors.Is(err, ErrOutcomeUnknown):
					unknown[id] = true
					maybe++
				default:
					t.Errorf("Update = %v", err)
				}
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	for range 12 {
		time.Sleep(300 * time.Millisecond)
		old := c.leader()
		c.cut(old.cfg.NodeID)
		c.leader(old.cfg.NodeID)
		time.Sleep(200 * time.Millisecond)
		c.heal(old.cfg.NodeID)
	}
	stop()
	wg.Wait()
	must(t, c.updateAnywhere(t.Context(), put("end")))
	v := c.settled()
	for id := range confirmed {
		if v.Node(id) == nil {
			t.Errorf("%s was confirmed and is lost", id)
		}
	}
	there := 0
	for id := range unknown {
		if v.Node(id) != nil {
			there++
		}
	}
	if want := counts + there; counted(v) != want {
		t.Errorf("counted %d, want %d: %d confirmed and %d of %d unknown", counted(v), want, counts, there, maybe)
	}
	if counts < 200 || maybe == 0 {
		t.Errorf("%d confirmed, %d unknown: the test did not stress anything", counts, maybe)
	}
}
