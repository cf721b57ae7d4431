package dispatcher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

func TestShortCutMovesNothing(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		ws := []*worker{l.start("n1", "b1", nil), l.start("n2", "b2", nil)}
		settle(1300 * time.Millisecond)
		l.net.setCut("n1", true)
		l.dead.Store("n1", true) // gossip is quick to give up
		for range 50 {
			settle(100 * time.Millisecond)
			l.checkNode("n1", swarm.NodeStateReady)
		}
		l.net.setCut("n1", false)
		l.store.Put(task("a", "n1"))
		settle(time.Second)
		l.checkSet(ws[0]) // back within a second
		settle(10 * time.Second)
		l.checkNode("n1", swarm.NodeStateReady)
		if n := ws[0].opens.Load(); n != 2 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestLossIsFoundInTime(t *testing.T) {
	for _, gossip := range []bool{true, false} {
		t.Run(fmt.Sprintf("dead by gossip %v", gossip), func(t *testing.T) {
			scenario(t, func(t *testing.T, l *lab) {
				l.start("n1", "b1", nil)
				l.start("n2", "b2", nil)
				settle(1300 * time.Millisecond)
				l.net.setCut("n1", true)
				if gossip {
					l.dead.Store("n1", true)
				}
				began := time.Now()
				for l.store.View().Node("n1").Status.State == swarm.NodeStateReady && time.Since(began) < time.Minute {
					settle(10 * time.Millisecond)
				}
				took := time.Since(began)
				t.Logf("down after %v", took)
				if lowest := 6 * time.Second; took < lowest || took > 8300*time.Millisecond || gossip && took > 7300*time.Millisecond {
					t.Errorf("down after %v", took)
				}
				l.checkNode("n2", swarm.NodeStateReady)
				l.net.setCut("n1", false)
				settle(3 * time.Second)
				l.checkNode("n1", swarm.NodeStateReady)
				if n := l.store.View().Node("n1"); !n.DownSince.IsZero() || n.Status.Message != "" {
					t.Errorf("after return: %+v", n)
				}
			})
		})
	}
}

func TestManagerWithoutLeaderShedsItsWorkers(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		var ws []*worker
		for i := range 5 {
			ws = append(ws, l.start(fmt.Sprintf("n%d", i+1), "b", nil))
		}
		settle(time.Second)
		// m2 and m3 lose the leader, their workers do not lose them.
		l.net.mu.Lock()
		l.net.cut["m2"], l.net.cut["m3"] = true, true
		l.net.mu.Unlock()
		for range 200 {
			settle(100 * time.Millisecond)
			for _, w := range ws {
				l.checkNode(w.node, swarm.NodeStateReady)
			}
		}
	})
}

func TestCloneIsRefused(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(5 * time.Second)
		clone := l.start("n1", "b2", nil)
		settle(20 * time.Second)
		if clone.opens.Load() != 0 || !errdefs.IsConflict(clone.refused) {
			t.Errorf("clone had %d sessions, refused with %v", clone.opens.Load(), clone.refused)
		}
		if w.opens.Load() != 1 || l.store.View().Node("n1").Boot != "b1" {
			t.Errorf("the first had %d sessions", w.opens.Load())
		}
		w.stop() // now the other one is the node
		settle(3 * time.Second)
		if clone.opens.Load() != 1 || l.store.View().Node("n1").Boot != "b2" {
			t.Errorf("successor had %d sessions", clone.opens.Load())
		}
	}, task("a", "n1"))
}

func TestCrashedHostReturnsSoon(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(2 * time.Second)
		l.net.setCut("n1", true) // nobody is told of the end
		w.stop()
		l.net.setCut("n1", false)
		again := l.start("n1", "b2", w)
		settle(4 * time.Second)
		if again.opens.Load() != 1 {
			t.Errorf("%d sessions", again.opens.Load())
		}
		settle(30 * time.Second)
		l.checkNode("n1", swarm.NodeStateReady)
	})
}

func TestRemovedNodeIsCutOff(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(time.Second)
		l.store.Apply(state.Delete(state.KindNode, "n1"))
		settle(10 * time.Second)
		if w.opens.Load() != 1 || !errdefs.IsPermissionDenied(w.refused) {
			t.Errorf("%d sessions, refused with %v", w.opens.Load(), w.refused)
		}
		if got := l.store.View().Task("a").Status.State; got != taskstate.Orphaned {
			t.Errorf("its task is %v", got)
		}
		if got := w.has(); len(got) != 1 {
			t.Errorf("a removed node has lost its tasks: %v", got)
		}
	}, task("a", "n1"))
}

func TestStormBrake(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		for i := range 5 {
			l.start(fmt.Sprintf("n%d", i+1), "b", nil)
		}
		settle(time.Second)
		for _, n := range []string{"n1", "n2", "n3"} {
			l.net.setCut(n, true)
			settle(300 * time.Millisecond)
		}
		settle(time.Minute)
		for _, n := range []string{"n1", "n2", "n3"} {
			l.checkNode(n, swarm.NodeStateReady)
			if l.store.View().Node(n).Status.Message == "" {
				t.Error("the brake says nothing")
			}
		}
		l.net.setCut("n2", false)
		settle(5 * time.Second)
		l.checkNode("n1", swarm.NodeStateDown)
		l.checkNode("n2", swarm.NodeStateReady)
		if msg := l.store.View().Node("n2").Status.Message; msg != "" {
			t.Errorf("n2 says %q after its return", msg)
		}
	})
}

func TestTasksOfNodeDownForADayAreOrphaned(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(time.Second)
		w.stop()
		settle(time.Hour)
		l.lead("m2")
		settle(22 * time.Hour)
		if got := l.store.View().Task("a").Status.State; got != taskstate.Assigned {
			t.Errorf("after 23 h: %v", got)
		}
		settle(62 * time.Minute)
		if got := l.store.View().Task("a").Status.State; got != taskstate.Orphaned {
			t.Errorf("after 24 h: %v", got)
		}
		back := l.start("n1", "b2", w)
		settle(time.Second)
		l.checkSet(back)
		if len(back.has()) != 0 {
			t.Errorf("the node that returned still has %v", back.has())
		}
	}, task("a", "n1"))
}
