package dispatcher_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/manager/dispatcher"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// onNetwork puts a running task on a network.
func onNetwork(id string) func(*state.Task) {
	return func(t *state.Task) {
		t.Status.State = taskstate.Running
		t.Networks = append(t.Networks, state.TaskNetwork{NetworkID: id})
	}
}

func testNetwork(id string, ingress bool) *state.Network {
	return &state.Network{Network: swarm.Network{ID: id, Spec: swarm.NetworkSpec{Annotations: swarm.Annotations{Name: id}, Ingress: ingress}}}
}

// fabricScenario has sessions of n1 to n4; a and b run on net1, on n1 and n2,
// and p, which publishes a port, on n1.
func fabricScenario(t *testing.T, f func(t *testing.T, l *lab, ws []*worker)) {
	t.Helper()
	scenario(t, func(t *testing.T, l *lab) {
		var ws []*worker
		for i := range 4 {
			ws = append(ws, l.start(fmt.Sprintf("n%d", i+1), "b", nil))
		}
		settle(1300 * time.Millisecond)
		if got := ws[2].serving(); !slices.Equal(got, []string{"p"}) {
			t.Fatalf("n3 sends to %v", got)
		}
		f(t, l, ws)
	}, testNetwork("net1", false), testNetwork("ingress", true),
		task("a", "n1", onNetwork("net1")), task("b", "n2", onNetwork("net1")), task("p", "n1", onNetwork("ingress")))
}

// shutdown tells a task to stop.
func (l *lab) shutdown(id string) {
	next := *l.store.View().Task(id)
	next.Desired = taskstate.Shutdown
	l.store.Put(&next)
}

func (l *lab) checkWithdrawn(when, id string, want bool) {
	l.t.Helper()
	if got := l.store.View().Task(id).Withdrawn; got != want {
		l.t.Errorf("%s: task %s withdrawn %v, want %v", when, id, got, want)
	}
}

// checkSoon waits until a task is withdrawn, and says how long that took.
func (l *lab) checkSoon(when, id string, least, most time.Duration) {
	l.t.Helper()
	began := time.Now()
	for !l.store.View().Task(id).Withdrawn && time.Since(began) < 20*time.Second {
		settle(time.Millisecond)
	}
	took := time.Since(began)
	l.t.Logf("%s: task %s withdrawn after %v", when, id, took)
	if took < least || took > most {
		l.t.Errorf("%s: task %s withdrawn after %v, want %v to %v", when, id, took, least, most)
	}
}

func TestTaskIsWithdrawnWhenItsNetworkHasTakenItOut(t *testing.T) {
	fabricScenario(t, func(t *testing.T, l *lab, ws []*worker) {
		ws[1].stick(true)
		ws[2].stick(true) // it does not know the task
		l.shutdown("a")
		settle(4 * time.Second)
		l.checkWithdrawn("while n2 still sends", "a", false)
		ws[1].stick(false)
		l.checkSoon("n2 has taken it out", "a", 0, 10*time.Millisecond)
		settle(10 * time.Millisecond)
		for _, w := range ws[:2] {
			if got := w.serving(); slices.Contains(got, "a") {
				t.Errorf("%s sends to %v", w.node, got)
			}
		}
		if !ws[0].tasks["a"].Withdrawn {
			t.Error("its worker does not hear that it may stop")
		}
	})
}

func TestPublishedTaskIsWithdrawnWhenAllNodesHaveTakenItOut(t *testing.T) {
	fabricScenario(t, func(t *testing.T, l *lab, ws []*worker) {
		ws[3].stick(true)
		l.shutdown("p")
		settle(4 * time.Second)
		l.checkWithdrawn("while n4 still sends", "p", false)
		ws[3].stick(false)
		l.checkSoon("n4 has taken it out", "p", 0, 10*time.Millisecond)
	})
}

func TestWithdrawalTakesOneRound(t *testing.T) {
	fabricScenario(t, func(t *testing.T, l *lab, _ []*worker) {
		updates := l.store.Updates()
		l.shutdown("a")
		l.checkSoon("nothing hinders", "a", 0, 10*time.Millisecond)
		settle(5 * time.Second)
		if n := l.store.Updates() - updates; n != 2 {
			t.Errorf("%d updates", n)
		}
	})
}

func TestTaskThatWasToStopBeforeItRanWaitsForNobody(t *testing.T) {
	fabricScenario(t, func(t *testing.T, l *lab, _ []*worker) {
		l.store.Put(task("late", "n1", onNetwork("net1"), statetest.Observed(taskstate.Starting), statetest.Desired(taskstate.Shutdown)))
		settle(100 * time.Millisecond)
		ran := *l.store.View().Task("late")
		ran.Status.State = taskstate.Running
		l.store.Put(&ran)
		l.checkSoon("never sent anything", "late", 0, 10*time.Millisecond)
	})
}

func TestWithdrawalGoesOnUnderAnotherLeader(t *testing.T) {
	fabricScenario(t, func(t *testing.T, l *lab, ws []*worker) {
		ws[1].stick(true)
		l.shutdown("a")
		settle(100 * time.Millisecond)
		l.lead("")
		settle(time.Second)
		l.lead("m2")
		settle(400 * time.Millisecond)
		l.checkWithdrawn("before the new leader has heard of n2", "a", false)
		settle(6 * time.Second)
		l.checkWithdrawn("while n2 still sends", "a", false)
		ws[1].stick(false)
		l.checkSoon("n2 has taken it out", "a", 0, 10*time.Millisecond)
		// What was acknowledged while nobody led reaches the next leader too.
		l.lead("")
		l.shutdown("b")
		settle(time.Second)
		l.lead("m3")
		l.checkSoon("a new leader", "b", 0, 2200*time.Millisecond)
	})
}

func TestWithdrawalDoesNotWaitForNodesThatAreGone(t *testing.T) {
	fabricScenario(t, func(t *testing.T, l *lab, _ []*worker) {
		l.net.setCut("n2", true)
		l.shutdown("a")
		l.checkSoon("n2 is cut off, and down then", "a", 6*time.Second, dispatcher.DownAfter+time.Second)
		settle(10 * time.Second)
		l.checkNode("n2", swarm.NodeStateDown)
		l.shutdown("p")
		l.checkSoon("n2 is down", "p", 0, 10*time.Millisecond)
	})
}

func TestWithdrawalWaitsForASessionThatMoves(t *testing.T) {
	fabricScenario(t, func(t *testing.T, l *lab, ws []*worker) {
		ws[1].stop()
		l.shutdown("a")
		settle(500 * time.Millisecond)
		l.checkWithdrawn("while n2 starts anew", "a", false)
		ws[1] = l.start("n2", "again", ws[1])
		l.checkSoon("n2 is back", "a", 0, 300*time.Millisecond)
	})
}

// A daemon that starts anew may start from less than the last one had in
// effect, so what that one said does not count any more.
func TestWithdrawalDoesNotTrustAnEarlierBoot(t *testing.T) {
	fabricScenario(t, func(t *testing.T, l *lab, ws []*worker) {
		ws[0].stick(true)
		l.shutdown("a")
		settle(100 * time.Millisecond) // n2 has taken it out, n1 has not
		ws[1].stop()
		again := l.start("n2", "again", nil)
		again.stick(true)
		settle(time.Second)
		ws[0].stick(false)
		settle(100 * time.Millisecond)
		l.checkWithdrawn("while n2 has the state from before its crash", "a", false)
		again.stick(false)
		l.checkSoon("n2 has caught up", "a", 0, 10*time.Millisecond)
	})
}
