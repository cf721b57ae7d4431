package raftstore

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

func TestPromoteRefusesWhoIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		s := c.leader()
		if err := s.Promote(t.Context(), "n9"); !errdefs.IsNotFound(err) {
			t.Errorf("unknown manager: %v", err)
		}
		must(t, s.AddNonvoter(t.Context(), "n2", "nowhere:1"))
		time.Sleep(5 * time.Second)
		if err := s.Promote(t.Context(), "n2"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("manager out of reach: %v", err)
		}
		must(t, s.Update(t.Context(), put("a"))) // it has no vote, so it is not missed
	})
}

func TestPromoteRefusesWhoIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		s := c.leader()
		c.open("n2")
		must(t, s.AddNonvoter(t.Context(), "n2", "n2:2377"))
		c.until("n2 follows")(func() bool { p, err := s.peer("n2"); return err == nil && p.Reachable && p.Behind == 0 })
		c.cut("n2")
		for i := range promoteLag + 1 {
			must(t, s.Update(t.Context(), put("x"+strconv.Itoa(i))))
		}
		if err := s.Promote(t.Context(), "n2"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("Promote = %v", err)
		}
		c.heal("n2")
		c.until("n2 is promoted")(func() bool { return s.Promote(t.Context(), "n2") == nil })
		must(t, s.Promote(t.Context(), "n2")) // already is
		if p, err := s.peer("n2"); err != nil || !p.Voter {
			t.Errorf("peer = %+v, %v", p, err)
		}
	})
}

func TestRemovePeerKeepsTheMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader() // n1
		if err := s.RemovePeer(t.Context(), "n1"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("the leader itself: %v", err)
		}
		must(t, s.RemovePeer(t.Context(), "n9"))
		c.cut("n3")
		time.Sleep(2 * time.Second)
		if err := s.RemovePeer(t.Context(), "n2"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("a living one while another is dead: %v", err)
		}
		must(t, s.RemovePeer(t.Context(), "n3"))
		if got := len(s.Peers()); got != 2 {
			t.Errorf("%d managers, want 2", got)
		}
		must(t, s.Update(t.Context(), put("a")))
		must(t, s.RemovePeer(t.Context(), "n2"))
		must(t, s.Update(t.Context(), put("b")))
	})
}

// Who was removed does not disturb the others when it comes back.
func TestRemovedManagerDoesNotDisturb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		c.cut("n3")
		must(t, s.RemovePeer(t.Context(), "n3"))
		c.heal("n3")
		before := s.Stats().Term
		time.Sleep(30 * time.Second)
		if st := s.Stats(); st.Term != before || !st.Leading {
			t.Errorf("term went from %d to %d, leading %v", before, st.Term, st.Leading)
		}
	})
}

func TestAddNonvoterRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		if err := s.AddNonvoter(t.Context(), "", "x:1"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("no id: %v", err)
		}
		if err := s.AddNonvoter(t.Context(), "n9", "n2:2377"); !errdefs.IsAlreadyExists(err) {
			t.Errorf("address in use: %v", err)
		}
		if err := c.stores["n2"].AddNonvoter(t.Context(), "n9", "n9:2377"); !errors.Is(err, ErrNotLeader) {
			t.Errorf("on a follower: %v", err)
		}
		if err := c.stores["n2"].TransferLeadership(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("transfer by a follower: %v", err)
		}
		must(t, s.AddNonvoter(t.Context(), "n2", "n2:9999")) // it moved
		if p, err := s.peer("n2"); err != nil || p.Addr != "n2:9999" || !p.Voter {
			t.Errorf("peer = %+v, %v", p, err)
		}
	})
}

// A voter that has not heard of a new one would not vote for it. So a
// promotion that returns has reached everybody.
func TestPromotionIsKnownToAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		s := c.leader()
		c.open("n3")
		must(t, s.AddNonvoter(t.Context(), "n3", "n3:2377"))
		c.until("n3 is promoted")(func() bool { return s.Promote(t.Context(), "n3") == nil })
		for id, other := range c.stores {
			if p, err := other.peer("n3"); err != nil || !p.Voter {
				t.Errorf("%s does not know of the new voter: %+v, %v", id, p, err)
			}
		}
		c.cut("n1")
		c.leader("n1")
	})
}

func TestTransferSkipsWhoIsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		s := c.leader()
		c.cut("n2")
		time.Sleep(2 * time.Second)
		must(t, s.TransferLeadership(t.Context()))
		if next := c.leader("n1"); next.cfg.NodeID != "n3" {
			t.Errorf("%s leads, want n3", next.cfg.NodeID)
		}
	})
}

func TestLoneLeaderCannotHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		if err := c.leader().TransferLeadership(t.Context()); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("TransferLeadership = %v", err)
		}
	})
}
