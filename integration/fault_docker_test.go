//go:build docker

package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"

	"shoal/integration/lab"
)

// replicas is how many tasks the service has that faults must not harm: two
// a host.
const replicas = 10

// TestFaults breaks one cluster of three managers, h1 to h3, and two workers
// in one way after the other. Each part leaves it whole.
func TestFaults(t *testing.T) {
	s := formSite(t, 5, 3)
	create(t, s.shoal[s.Host(2)], spec("web", replicas, "/bin/sleep", "1000000"))
	s.converged(t, s.Host(1), "web", replicas)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *site)
	}{
		{"a killed daemon adopts its containers when it is back", killedDaemon},
		{"a cut or a pause of five seconds moves nothing", shortAbsence},
		{"a restarted engine gets its tasks back", restartedEngine},
		{"a killed engine gets its tasks back", killedEngine},
		{"an engine that stays away takes its node out", absentEngine},
		{"a worker that is cut off is replaced and cleaned up", cutWorker},
		{"writes outlive a cut of the leader", cutLeader},
		{"writes outlive a kill of the leader", killedLeader},
		{"a dead node is removed by force and can join again", removedNode},
		{"a power cut of all daemons loses nothing", allDaemons},
		{"a host that loses power comes back", powerCut},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, s) }) {
			return // what follows would only fail as well
		}
	}
}

// undisturbed notes tasks and containers of the service and returns a
// function that says what has changed since.
func undisturbed(t *testing.T, s *site, via *lab.Host) func() {
	t.Helper()
	tasks := s.converged(t, via, "web", replicas)
	containers, err := s.running(t, "web", s.Hosts()...)
	ok(t, err)
	return func() {
		t.Helper()
		if diff := cmp.Diff(taskIDs(tasks), taskIDs(s.converged(t, via, "web", replicas))); diff != "" {
			t.Errorf("tasks (-before +after):\n%s", diff)
		}
		again, err := s.running(t, "web", s.Hosts()...)
		if diff := cmp.Diff(containers, again); diff != "" || err != nil {
			t.Errorf("err %v, containers (-before +after):\n%s", err, diff)
		}
	}
}

func killedDaemon(t *testing.T, s *site) {
	check := undisturbed(t, s, s.Host(1))
	for _, h := range []*lab.Host{s.Host(5), s.Host(3)} {
		id := s.nodeID(t, h)
		ok(t, h.Daemon().Kill9())
		restartDaemon(t, h)
		s.awaitReady(t, s.Host(1), 5)
		if again := s.nodeID(t, h); again != id {
			t.Errorf("%s was %s and is %s", h.Name, id, again)
		}
	}
	check()
}

func shortAbsence(t *testing.T, s *site) {
	via := s.Host(1)
	check := undisturbed(t, s, via)
	paused, cut := s.Host(4), s.Host(5)
	ok(t, paused.Daemon().Pause())
	ok(t, cut.Cut())
	pass(t, 5*time.Second)
	ok(t, paused.Daemon().Resume())
	ok(t, cut.Heal())
	// Both must have been heard of again for this to work.
	for _, h := range []*lab.Host{paused, cut} {
		shoal(t, via, "node", "update", "--label-add", "back=yes", h.Name)
	}
	s.awaitReady(t, via, 5)
	check()
	pass(t, 5*time.Second) // longer than what was left of the patience with them
	s.awaitReady(t, via, 5)
	check()
}

func restartedEngine(t *testing.T, s *site) {
	h := s.Host(5)
	ok(t, h.StopEngine(t.Context()))
	ok(t, h.StartEngine(t.Context()))
	s.converged(t, s.Host(1), "web", replicas)
	s.awaitReady(t, s.Host(1), 5)
}

func killedEngine(t *testing.T, s *site) {
	h := s.Host(4)
	ok(t, h.Engine().Kill9())
	ok(t, h.StartEngine(t.Context()))
	s.converged(t, s.Host(1), "web", replicas)
	s.awaitReady(t, s.Host(1), 5)
}

// absentEngine: a daemon without an engine can run nothing, so its node is down.
func absentEngine(t *testing.T, s *site) {
	via, h := s.Host(1), s.Host(4)
	id := s.nodeID(t, h)
	ensureTasks(t, s, via, id)
	ok(t, h.StopEngine(t.Context()))
	rest := others(s.Hosts(), h)
	tasks := converged(t, s.shoal[via], "web", replicas, func() ([]string, error) { return s.running(t, "web", rest...) })
	if n := perNode(tasks)[id]; n > 0 {
		t.Errorf("%d tasks are still on the node whose engine is away", n)
	}
	ok(t, h.StartEngine(t.Context()))
	s.awaitReady(t, via, 5)
	s.converged(t, via, "web", replicas)
}

func cutWorker(t *testing.T, s *site) {
	via, h := s.Host(1), s.Host(5)
	id := s.nodeID(t, h)
	setAvailability(t, s.shoal[via], id, swarm.NodeAvailabilityActive)
	ensureTasks(t, s, via, id)
	start := time.Now()
	ok(t, h.Cut())
	rest := others(s.Hosts(), h)
	tasks := converged(t, s.shoal[via], "web", replicas, func() ([]string, error) { return s.running(t, "web", rest...) })
	t.Logf("replaced %v after the cut", time.Since(start))
	if n := perNode(tasks)[id]; n > 0 {
		t.Errorf("%d tasks are still on the node that is cut off", n)
	}
	if left, err := s.running(t, "web", h); len(left) == 0 || err != nil {
		t.Errorf("the node that is cut off stopped its containers, err %v", err)
	}
	start = time.Now()
	ok(t, h.Heal())
	s.awaitReady(t, via, 5)
	s.converged(t, via, "web", replicas) // no container too many, also on h
	t.Logf("cleaned up %v after healing", time.Since(start))
}

// ensureTasks sees to it that a node has tasks of the service to lose: tasks
// do not move back by themselves to a node that was away.
func ensureTasks(t *testing.T, s *site, via *lab.Host, id string) {
	t.Helper()
	if perNode(s.converged(t, via, "web", replicas))[id] > 0 {
		return
	}
	scale(t, s.shoal[via], "web", 2*replicas)
	s.converged(t, via, "web", 2*replicas)
	scale(t, s.shoal[via], "web", replicas)
	if perNode(s.converged(t, via, "web", replicas))[id] == 0 {
		t.Fatal("the node has no tasks")
	}
}

func cutLeader(t *testing.T, s *site) {
	leader := s.leader(t, s.Host(1))
	underWrites(t, s, "cut", leader, leader.Cut, leader.Heal)
}

func killedLeader(t *testing.T, s *site) {
	leader := s.leader(t, s.Host(1))
	underWrites(t, s, "kill", leader, leader.Daemon().Kill9, func() error {
		restartDaemon(t, leader)
		return nil
	})
}

// underWrites does something to the leader while clients write through the
// other managers, and looks whether one of them noticed.
func underWrites(t *testing.T, s *site, prefix string, leader *lab.Host, harm, heal func() error) {
	t.Helper()
	survivors := others(s.Hosts()[:3], leader)
	var apis []*client.Client
	for _, h := range survivors {
		apis = append(apis, s.shoal[h], s.shoal[h])
	}
	w := startWriters(t.Context(), prefix, apis...)
	ok(t, w.await(t.Context(), 50))
	ok(t, harm())
	ok(t, w.await(t.Context(), 50))
	t.Logf("longest time without an acknowledgement: %v, %d writes", w.stop(), len(w.acked))
	w.verify(t, s.shoal[survivors[0]])
	ok(t, heal())
	s.awaitReady(t, survivors[0], 5)
	w.verify(t, s.shoal[leader])
	for name := range w.acked {
		ok(t, s.shoal[leader].ServiceRemove(t.Context(), name))
	}
	s.converged(t, survivors[0], "web", replicas)
}

func removedNode(t *testing.T, s *site) {
	via, h := s.Host(1), s.Host(5)
	id := s.nodeID(t, h)
	ensureTasks(t, s, via, id)
	ok(t, h.Daemon().Kill9())
	s.awaitDown(t, via, h)
	shoal(t, via, "node", "rm", "--force", id)
	rest := others(s.Hosts(), h)
	converged(t, s.shoal[via], "web", replicas, func() ([]string, error) { return s.running(t, "web", rest...) })
	restartDaemon(t, h)
	waitFor(t, "h5 to know that it is not wanted", func() (string, bool) {
		info, err := s.shoal[h].Info(t.Context())
		return fmt.Sprint(info.Swarm.LocalNodeState, info.Swarm.Error, err), info.Swarm.Error != ""
	})
	shoal(t, h, "leave")
	if left, err := s.running(t, "web", h); len(left) > 0 || err != nil {
		t.Errorf("leave left %d containers, err %v", len(left), err)
	}
	shoal(t, h, "join", "--token", shoal(t, via, "join-token", "-q", "worker"), "--advertise-addr", h.Addr, via.Addr+":2377")
	s.awaitReady(t, via, 5)
	if s.nodeID(t, h) == id {
		t.Error("the node has the identity that was removed")
	}
	s.converged(t, via, "web", replicas)
}

func allDaemons(t *testing.T, s *site) {
	via := s.Host(2)
	check := undisturbed(t, s, via)
	before, err := s.shoal[via].ServiceList(t.Context(), swarm.ServiceListOptions{})
	ok(t, err)
	for _, h := range s.Hosts() {
		ok(t, h.Daemon().Kill9())
	}
	for _, h := range slices.Backward(s.Hosts()) {
		restartDaemon(t, h)
	}
	s.awaitReady(t, via, 5)
	after, err := s.shoal[via].ServiceList(t.Context(), swarm.ServiceListOptions{})
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("err %v, services (-before +after):\n%s", err, diff)
	}
	check()
}

func powerCut(t *testing.T, s *site) {
	h := s.Host(1)
	ok(t, h.PowerOff())
	ok(t, h.PowerOn(t.Context()))
	ok(t, h.StartEngine(t.Context()))
	restartDaemon(t, h)
	s.awaitReady(t, s.Host(2), 5)
	s.converged(t, h, "web", replicas)
}
