package manager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/manager/orchestrator"
	"shoal/manager/scheduler"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// cluster is the real orchestrator and scheduler on an in-memory store, with
// simple workers. It runs inside a synctest bubble.
type cluster struct {
	store *statetest.Store
	seen  uint64
	tick  time.Duration   // how often workers take a step
	bad   map[string]bool // nodes on which no task starts
	heirs int             // tasks made to take another's place
	err   error           // the first rule that was broken
}

// run starts the loops of a term.
func (c *cluster) run() (stop func() error) {
	quiet := slog.New(slog.DiscardHandler)
	o, err := orchestrator.New(orchestrator.Config{Store: c.store, Log: quiet})
	if err != nil {
		panic(err)
	}
	s, err := scheduler.New(scheduler.Config{Store: c.store, Log: quiet})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	results := make([]error, 3)
	for i, loop := range []func(context.Context) error{o.Run, s.Run, s.Rebalance} {
		running.Go(func() { results[i] = loop(ctx) })
	}
	return func() error {
		cancel()
		running.Wait()
		for i, err := range results {
			if errors.Is(err, context.Canceled) {
				results[i] = nil
			}
		}
		return errors.Join(append(results, c.err)...)
	}
}

// pass lets the cluster live for d, and holds the rules against every step.
func (c *cluster) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(c.tick) // virtual time
		c.check()
		c.work()
		c.check()
	}
}

func (c *cluster) broken(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// work is one step of each worker.
func (c *cluster) work() {
	v := c.store.View()
	for t := range v.Tasks() {
		n, next := v.Node(t.NodeID), *t
		if n == nil || n.Status.State != swarm.NodeStateReady || t.Status.State < taskstate.Assigned || t.Status.State.Terminal() {
			continue
		}
		switch {
		case t.Desired > taskstate.Complete:
			next.Status.State = taskstate.Shutdown
		case t.Status.State == taskstate.Running || t.Status.State == taskstate.Ready && t.Desired <= taskstate.Ready:
			continue
		case c.bad[n.ID]:
			next.Status.State, next.Status.Err = taskstate.Rejected, "no such image"
		case t.Status.State < taskstate.Ready:
			next.Status.State = taskstate.Ready
		default:
			next.Status.State = taskstate.Running
		}
		next.Status.At = time.Now()
		c.store.Put(&next)
	}
}

// check holds the rules of moves against what has changed.
func (c *cluster) check() {
	v := c.store.View()
	events, _ := v.Since(c.seen)
	c.seen = v.Index()
	for _, e := range events {
		before, _ := e.Old.(*state.Task)
		after, _ := e.New.(*state.Task)
		if before == nil && after != nil && after.Moves != "" {
			c.heirs++
		}
		if before == nil || after == nil || before.MoveTo == "" || before.Desired > taskstate.Running || after.Desired <= taskstate.Running {
			continue
		}
		if n := v.Node(after.NodeID); n != nil && n.Status.State == swarm.NodeStateReady && n.Spec.Availability == swarm.NodeAvailabilityActive &&
			after.Status.State == taskstate.Running && !c.served(v, after) {
			c.broken("task %s was stopped to be moved while nothing runs in its place", after.ID)
		}
	}
	for s := range v.Services() {
		moving := 0
		for t := range v.TasksOfService(s.ID) {
			if old := v.Task(t.Moves); t.Moves != "" && t.Desired <= taskstate.Running && old != nil && old.Desired <= taskstate.Running {
				moving++
			}
		}
		if moving > 1 {
			c.broken("%d tasks of %s on the move at once", moving, s.ID)
		}
	}
}

func (c *cluster) served(v *state.View, old *state.Task) bool {
	for t := range v.TasksOfSlot(old.ServiceID, old.Slot) {
		if t.ID != old.ID && t.Desired == taskstate.Running && t.Status.State == taskstate.Running {
			return true
		}
	}
	return false
}

// running counts the tasks of a service that run, and those on each node.
func (c *cluster) running(service string) (n int, on map[string]int) {
	on = map[string]int{}
	for t := range c.store.View().TasksOfService(service) {
		if t.Status.State == taskstate.Running && t.Desired == taskstate.Running {
			n++
			on[t.NodeID]++
		}
	}
	return n, on
}

func (c *cluster) node(id string, change func(*state.Node)) {
	n := *c.store.View().Node(id)
	change(&n)
	c.store.Put(&n)
}

// down is a node that is lost, up one that is heard of again.
func (c *cluster) down(id string) { c.node(id, statetest.Down) }

func (c *cluster) up(id string) {
	c.node(id, func(n *state.Node) {
		if n.Status.State == swarm.NodeStateDown {
			n.Status.State, n.ReturnedAt = swarm.NodeStateReady, time.Now()
		}
	})
}

func automatic(id string, replicas uint64) []state.Object {
	s, r := statetest.Service(id, replicas)
	s.Rebalance = state.RebalanceAuto
	return []state.Object{s, r}
}

func newRebalanced(objs ...state.Object) *cluster {
	return &cluster{store: statetest.New(objs...), tick: 200 * time.Millisecond, bad: map[string]bool{}}
}

func (c *cluster) place(t *testing.T, service string, want map[string]int) {
	t.Helper()
	_, on := c.running(service)
	for id, n := range want {
		if on[id] != n {
			t.Errorf("%s: %v, want %v", service, on, want)
			return
		}
	}
}

func TestNodeThatJoinsGetsItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRebalanced(append(automatic("web", 6), statetest.Node("n1"), statetest.Node("n2"))...)
		stop := c.run()
		c.pass(20 * time.Second)
		c.place(t, "web", map[string]int{"n1": 3, "n2": 3})
		c.store.Put(statetest.Node("n3"))
		for range 60 {
			c.pass(time.Second)
			if n, on := c.running("web"); n < 6 {
				t.Fatalf("%d of 6 run: %v", n, on)
			}
		}
		c.place(t, "web", map[string]int{"n1": 2, "n2": 2, "n3": 2})
		if c.heirs != 2 {
			t.Errorf("%d tasks were made, want 2", c.heirs)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A node that comes back gets tasks once it has been there for a while; one that
// is made active again, at once.
func TestNodeThatReturnsHasToSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRebalanced(append(automatic("web", 4), statetest.Node("n1"), statetest.Node("n2"))...)
		stop := c.run()
		c.pass(20 * time.Second)
		for range 3 { // it comes and goes
			c.down("n2")
			c.pass(2 * time.Minute)
			c.up("n2")
			c.pass(2 * time.Minute)
			c.place(t, "web", map[string]int{"n1": 4, "n2": 0})
		}
		c.pass(4 * time.Minute)
		c.place(t, "web", map[string]int{"n1": 2, "n2": 2})
		c.node("n2", statetest.Drained)
		c.pass(time.Minute)
		c.node("n2", func(n *state.Node) { n.Spec.Availability = swarm.NodeAvailabilityActive })
		c.pass(time.Minute)
		c.place(t, "web", map[string]int{"n1": 2, "n2": 2})
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestMoveOntoABadNodeIsTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRebalanced(append(automatic("web", 2), statetest.Node("n1"))...)
		stop := c.run()
		c.pass(20 * time.Second)
		c.bad["n2"] = true
		c.store.Put(statetest.Node("n2"))
		c.tick = time.Second
		c.pass(time.Hour)
		if c.heirs < 3 || c.heirs > 7 {
			t.Errorf("%d tries in an hour", c.heirs)
		}
		c.place(t, "web", map[string]int{"n1": 2})
		c.bad["n2"] = false
		c.pass(time.Hour)
		c.place(t, "web", map[string]int{"n1": 1, "n2": 1})
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A service of which the user asked it by hand is evened out once, and is left
// alone after that.
func TestRebalanceByHandEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := statetest.Service("web", 6)
		c := newRebalanced(s, r, statetest.Node("n1"))
		stop := c.run()
		c.pass(20 * time.Second)
		c.store.Put(statetest.Node("n2"))
		c.pass(time.Minute)
		c.place(t, "web", map[string]int{"n1": 6})
		asked := *c.store.View().Service("web")
		asked.RebalanceAsked = time.Now()
		c.store.Put(&asked)
		c.pass(2 * time.Minute)
		c.place(t, "web", map[string]int{"n1": 3, "n2": 3})
		if at := c.store.View().Service("web").RebalanceAsked; !at.IsZero() {
			t.Errorf("it is still asked for, since %v", at)
		}
		c.store.Put(statetest.Node("n3"))
		c.pass(2 * time.Minute)
		c.place(t, "web", map[string]int{"n1": 3, "n2": 3})
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// Whatever happens to the nodes and the leader: no task is stopped for a move before another
// runs in its place, one of a service moves at a time, and when nothing happens
// any more, the services are even and nothing moves.
func TestRebalancingComesToRest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			what  string
			node  string
			after int
		}
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				rapid.SampledFrom([]string{"down", "up", "up", "drain", "pause", "active", "bad", "good", "term"}).Draw(rt, "what"),
				rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(rt, "node"), rapid.IntRange(0, 60).Draw(rt, "after"),
			}
		}), 1, 10).Draw(rt, "steps")
		replicas := rapid.Uint64Range(1, 7).Draw(rt, "replicas")
		var err error
		synctest.Test(t, func(*testing.T) {
			c := newRebalanced(append(append(automatic("web", replicas), automatic("db", 3)...),
				statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3", statetest.Drained))...)
			stop := c.run()
			for _, s := range steps {
				c.pass(time.Duration(s.after) * time.Second)
				switch s.what {
				case "down":
					c.down(s.node)
				case "term": // another manager leads
					if err = stop(); err != nil {
						return
					}
					stop = c.run()
				case "up":
					c.up(s.node)
				case "drain":
					c.node(s.node, statetest.Drained)
				case "pause":
					c.node(s.node, statetest.Paused)
				case "active":
					c.node(s.node, func(n *state.Node) { n.Spec.Availability = swarm.NodeAvailabilityActive })
				default:
					c.bad[s.node] = s.what == "bad"
				}
			}
			for _, id := range []string{"n1", "n2", "n3"} {
				c.up(id)
				c.node(id, func(n *state.Node) { n.Spec.Availability = swarm.NodeAvailabilityActive })
				c.bad[id] = false
			}
			c.tick = 3 * time.Second
			c.pass(30 * time.Minute)
			updates := c.store.Updates()
			c.pass(10 * time.Minute)
			if n := c.store.Updates() - updates; n > 0 {
				c.broken("%d updates at rest", n)
			}
			for service, want := range map[string]int{"web": int(replicas), "db": 3} { //nolint:gosec // small
				n, on := c.running(service)
				for _, a := range []string{"n1", "n2", "n3"} {
					for _, b := range []string{"n1", "n2", "n3"} {
						if n != want || on[a] > on[b]+1 {
							c.broken("%s: %d of %d run, %v", service, n, want, on)
						}
					}
				}
			}
			err = stop()
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}
