package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
)

func TestABadOrRotatedTokenLetsNobodyIn(t *testing.T) {
	c := newCluster(t, 2)
	manager, other := c.machines[0], c.machines[1]
	manager.init()
	old := manager.token(swarm.NodeRoleWorker)
	head, secret := old[:strings.LastIndex(old, "-")+1], old[strings.LastIndex(old, "-")+1:]
	s, err := manager.api.SwarmInspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.api.SwarmUpdate(t.Context(), s.Version, s.Spec, swarm.UpdateFlags{RotateWorkerToken: true}); err != nil {
		t.Fatal(err)
	}
	for what, token := range map[string]string{
		"none": "", "nonsense": "let-me-in", "rotated": old,
		"another secret":  head + strings.Repeat("0", len(secret)),
		"another cluster": strings.Replace(manager.token(swarm.NodeRoleWorker), head[:len(head)-1], "SHMTKN-1-"+strings.Repeat("1", 50), 1),
	} {
		if err := other.tryJoin(manager, token); err == nil {
			t.Fatalf("joined with a token that is %s: %q", what, token)
		} else {
			t.Logf("%s: %v", what, err)
		}
		info, err := other.api.Info(t.Context())
		if err != nil || info.Swarm.LocalNodeState != swarm.LocalNodeStateInactive {
			t.Errorf("after a refusal the node is %s, err %v", info.Swarm.LocalNodeState, err)
		}
	}
	c.awaitNodes(manager, 1, 0)
	other.join(manager, swarm.NodeRoleWorker)
	c.awaitNodes(manager, 1, 1)
}

func TestAWorkerThatLeavesTakesItsContainersAlong(t *testing.T) {
	c := form(t, 1, 2)
	manager, gone := c.machines[0], c.machines[2]
	create(t, manager.api, spec("web", 6))
	c.converged(manager, "web", 6)
	id := gone.id()
	if err := manager.api.NodeRemove(t.Context(), id, swarm.NodeRemoveOptions{}); err == nil {
		t.Error("a node that is up was removed without force")
	}
	if err := gone.api.SwarmLeave(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if left := gone.engine.Containers(); len(left) > 0 {
		t.Errorf("the node left %d containers behind", len(left))
	}
	if n := perNode(c.converged(manager, "web", 6))[id]; n > 0 {
		t.Errorf("%d tasks are on the node that left", n)
	}
	// It said so: nobody waits for its silence.
	if err := manager.api.NodeRemove(t.Context(), id, swarm.NodeRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	c.awaitNodes(manager, 1, 1)
	gone.join(manager, swarm.NodeRoleWorker)
	c.awaitNodes(manager, 1, 2)
	if again := gone.id(); again == id {
		t.Error("the node that joined again has the identity that was removed")
	}
}

func TestDrainEmptiesANodeAndActiveFillsItAgain(t *testing.T) {
	c := form(t, 1, 2)
	manager := c.machines[0]
	create(t, manager.api, spec("web", 6))
	c.converged(manager, "web", 6)
	drained := c.machines[1].id()
	setAvailability(t, manager.api, drained, swarm.NodeAvailabilityDrain)
	waitFor(t, "the drained node to be empty", func() (string, bool) {
		running := c.machines[1].running()
		return fmt.Sprint(running), len(running) == 0
	})
	before := c.converged(manager, "web", 6)
	setAvailability(t, manager.api, drained, swarm.NodeAvailabilityActive)
	scale(t, manager.api, "web", 9)
	after := c.converged(manager, "web", 9)
	if n := perNode(after)[drained]; n != 3 {
		t.Errorf("the node that is active again has %d of 9 tasks", n)
	}
	kept := map[string]bool{}
	for _, id := range taskIDs(after) {
		kept[id] = true
	}
	for _, id := range taskIDs(before) {
		if !kept[id] {
			t.Errorf("task %s moved when the node was activated", id)
		}
	}
	setAvailability(t, manager.api, drained, swarm.NodeAvailabilityPause)
	scale(t, manager.api, "web", 12)
	if n := perNode(c.converged(manager, "web", 12))[drained]; n != 3 {
		t.Errorf("the paused node has %d tasks, had 3", n)
	}
}

func TestANodeIsPromotedAndDemotedInPlace(t *testing.T) {
	c := form(t, 1, 2)
	manager, other := c.machines[0], c.machines[1]
	create(t, manager.api, spec("web", 6))
	tasks, containers := c.converged(manager, "web", 6), c.containers("web")
	id := other.id()
	setRole := func(role swarm.NodeRole) {
		t.Helper()
		updateNode(t, manager.api, id, func(s *swarm.NodeSpec) { s.Role = role })
	}
	if _, err := other.api.NodeList(t.Context(), swarm.NodeListOptions{}); err == nil {
		t.Error("a worker listed the nodes")
	}
	for range 2 {
		setRole(swarm.NodeRoleManager)
		c.awaitNodes(manager, 2, 1)
		c.awaitControl(other, true)
		scale(t, other.api, "web", 6)
		setRole(swarm.NodeRoleWorker)
		c.awaitNodes(manager, 1, 2)
		c.awaitControl(other, false)
	}
	if other.id() != id {
		t.Error("the node has another identity")
	}
	if diff := cmp.Diff(taskIDs(tasks), taskIDs(c.converged(manager, "web", 6))); diff != "" {
		t.Errorf("tasks (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(containers, c.containers("web")); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
}

// awaitControl waits until m answers calls about the cluster, or refuses to.
func (c *cluster) awaitControl(m *machine, want bool) {
	c.t.Helper()
	waitFor(c.t, fmt.Sprintf("control on %s: %v", m.name, want), func() (string, bool) {
		info, err := m.api.Info(c.t.Context())
		if err != nil || info.Swarm.ControlAvailable != want {
			return fmt.Sprint(info.Swarm, err), false
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		_, err = m.api.NodeList(ctx, swarm.NodeListOptions{})
		return fmt.Sprint(err), (err == nil) == want
	})
}

func TestTheLastManagerIsNotDemotedAndLeavesOnlyByForce(t *testing.T) {
	c := form(t, 1, 0)
	manager := c.machines[0]
	create(t, manager.api, spec("web", 2))
	c.converged(manager, "web", 2)
	n, _, err := manager.api.NodeInspectWithRaw(t.Context(), manager.id())
	if err != nil {
		t.Fatal(err)
	}
	n.Spec.Role = swarm.NodeRoleWorker
	if err := manager.api.NodeUpdate(t.Context(), n.ID, n.Version, n.Spec); err == nil {
		t.Error("the last manager was demoted")
	}
	if err := manager.api.SwarmLeave(t.Context(), false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("the last manager left: %v", err)
	}
	if err := manager.api.SwarmLeave(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	c.awaitNoContainers()
	manager.init()
	c.awaitNodes(manager, 1, 0)
	if services, err := manager.api.ServiceList(t.Context(), swarm.ServiceListOptions{}); err != nil || len(services) > 0 {
		t.Errorf("the new cluster has services of the old one: %v, err %v", services, err)
	}
}

func TestAManagerThatLeavesByForceIsMissedByNobody(t *testing.T) {
	c := form(t, 3, 0)
	leader := c.leader(c.machines[0])
	var rest []*machine
	for _, m := range c.machines {
		if m != leader {
			rest = append(rest, m)
		}
	}
	create(t, rest[0].api, spec("web", 6))
	c.converged(rest[0], "web", 6)
	id := leader.id()
	if err := leader.api.SwarmLeave(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	c.converged(rest[0], "web", 6)
	if err := rest[0].api.NodeRemove(t.Context(), id, swarm.NodeRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	c.awaitNodes(rest[1], 2, 0)
	leader.join(rest[1], swarm.NodeRoleManager)
	c.awaitNodes(leader, 3, 0)
}
