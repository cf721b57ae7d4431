package dispatcher_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// move is one step of a random history.
type move struct {
	Kind    string
	Node    int // 1 to 3: worker or manager
	Task    int
	Desired int
	Wait    int // milliseconds afterwards
}

func drawMoves(rt *rapid.T) []move {
	kinds := []string{"assign", "assign", "assign", "delete", "restart", "crash", "cut", "heal", "kill", "elect", "report", "fail"}
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) move {
		return move{
			Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), Node: rapid.IntRange(1, 3).Draw(rt, "node"),
			Task: rapid.IntRange(1, 8).Draw(rt, "task"), Desired: rapid.IntRange(0, 3).Draw(rt, "desired"),
			Wait: rapid.SampledFrom([]int{0, 0, 1, 10, 300, 2000, 9000}).Draw(rt, "wait"),
		}
	}), 1, 30).Draw(rt, "moves")
}

func (m move) play(l *lab, ws []*worker) {
	worker, manager, taskID := fmt.Sprintf("n%d", m.Node), fmt.Sprintf("m%d", m.Node), fmt.Sprintf("t%d", m.Task)
	switch m.Kind {
	case "assign":
		desired := []taskstate.State{taskstate.Ready, taskstate.Running, taskstate.Shutdown, taskstate.Remove}[m.Desired]
		l.store.Put(task(taskID, worker, statetest.Desired(desired), func(t *state.Task) { t.Revision = uint64(1 + m.Task%3) }))
	case "delete":
		l.store.Apply(state.Delete(state.KindTask, taskID))
	case "restart":
		ws[m.Node-1].stop()
		ws[m.Node-1] = l.start(worker, fmt.Sprintf("boot%d", len(l.workers)), ws[m.Node-1])
	case "crash":
		l.net.setCut(worker, true)
		ws[m.Node-1].stop()
		l.net.setCut(worker, false)
		ws[m.Node-1] = l.start(worker, fmt.Sprintf("boot%d", len(l.workers)), nil)
	case "cut":
		l.net.setCut(worker, true)
	case "heal":
		l.net.setCut(worker, false)
	case "kill":
		leader := l.leading() == l.managers[manager]
		l.kill(manager)
		l.startManager(manager)
		if leader {
			l.lead(fmt.Sprintf("m%d", m.Node%3+1))
		}
	case "elect":
		l.lead("")
		settle(300 * time.Millisecond)
		l.lead(manager)
	case "report":
		ws[m.Node-1].Report(taskID, taskstate.Status{State: taskstate.Accepted})
	case "fail":
		ws[m.Node-1].Report(taskID, taskstate.Status{State: taskstate.Failed})
	}
	settle(time.Duration(m.Wait) * time.Millisecond)
}

func TestWorkersEndUpWithWhatTheStateSays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		moves := drawMoves(rt)
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			secret, config := statetest.Secret("sec", "db", 0), statetest.Config("con", "conf", 0)
			service, first := statetest.Service("web", 1)
			_, second := statetest.Service("web", 1, statetest.Uses(secret))
			_, third := statetest.Service("web", 1, statetest.Uses(secret, config))
			second.Number, third.Number = 2, 3
			l := newLab(t, 3, secret, config, service, first, second, third, statetest.Node("n1", unheard), statetest.Node("n2", unheard), statetest.Node("n3", unheard))
			var ws []*worker
			for i := range 3 {
				ws = append(ws, l.start(fmt.Sprintf("n%d", i+1), "first", nil))
			}
			for _, m := range moves {
				m.play(l, ws)
			}
			for _, w := range ws {
				l.net.setCut(w.node, false)
			}
			settle(7 * time.Second) // a clone's window and the slowest retry
			for _, w := range ws {
				if got, want := w.has(), l.wants(w.node); !slices.Equal(got, want) {
					faults = append(faults, fmt.Sprintf("worker %s has %v, want %v", w.node, got, want))
				}
				if got, want := w.valueIDs(), l.wantsValues(w.node); !slices.Equal(got, want) {
					faults = append(faults, fmt.Sprintf("worker %s has values %v, want %v", w.node, got, want))
				}
				faults = append(faults, w.faults...)
				if w.Unsent() > 0 {
					faults = append(faults, fmt.Sprintf("worker %s has %d unsent statuses", w.node, w.Unsent()))
				}
				if got := l.store.View().Node(w.node).Status.State; got != swarm.NodeStateReady {
					faults = append(faults, fmt.Sprintf("node %s is %s", w.node, got))
				}
			}
			l.close()
			settle(time.Minute)
		})
		if len(faults) > 0 {
			rt.Fatalf("%v", faults)
		}
	})
}
