package integration

import (
	"fmt"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
)

func TestAServiceLivesOnClustersOfAnySize(t *testing.T) {
	for _, size := range []struct{ managers, workers int }{{1, 0}, {3, 1}, {5, 0}} {
		t.Run(fmt.Sprintf("%d managers %d workers", size.managers, size.workers), func(t *testing.T) {
			c := form(t, size.managers, size.workers)
			all := len(c.machines)
			first, last := c.machines[0], c.machines[size.managers-1]
			create(t, last.api, spec("web", uint64(2*all)))
			for id, n := range perNode(c.converged(first, "web", 2*all)) {
				if n != 2 {
					t.Errorf("node %s has %d of %d tasks", id, n, 2*all)
				}
			}
			create(t, first.api, swarm.ServiceSpec{
				Annotations:  swarm.Annotations{Name: "agent"},
				TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: image}},
				Mode:         swarm.ServiceMode{Global: &swarm.GlobalService{}},
			})
			if got := len(perNode(c.converged(last, "agent", all))); got != all {
				t.Errorf("the global service is on %d of %d nodes", got, all)
			}
			scale(t, last.api, "web", 1)
			before := c.converged(first, "web", 1)
			update(t, first.api, "web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Env = []string{"VERSION=2"} })
			waitFor(t, "the task to be replaced", func() (string, bool) {
				tasks, err := tasksOf(t, last.api, "web")
				return fmt.Sprint(err, taskIDs(tasks)), err == nil && len(tasks) == 1 && tasks[0].ID != before[0].ID
			})
			after := c.converged(first, "web", 1)
			if env := after[0].Spec.ContainerSpec.Env; !cmp.Equal(env, []string{"VERSION=2"}) {
				t.Errorf("the new task's environment is %q", env)
			}
			for _, name := range []string{"web", "agent"} {
				if err := last.api.ServiceRemove(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			c.awaitNoContainers()
		})
	}
}

func TestARestartedNodeKeepsItsIdentityAndItsContainers(t *testing.T) {
	c := form(t, 3, 1)
	via := c.machines[0]
	create(t, via.api, spec("web", 8))
	tasks, containers := c.converged(via, "web", 8), c.containers("web")
	for _, m := range []*machine{c.machines[3], c.machines[2], c.machines[0]} {
		id, created := m.id(), m.engine.Calls("Create")
		m.stop()
		m.start()
		c.awaitNodes(c.machines[1], 3, 1)
		if again := m.id(); again != id {
			t.Errorf("%s was %s and is %s after a restart", m.name, id, again)
		}
		if n := m.engine.Calls("Create"); n != created {
			t.Errorf("%s created %d containers when it came back", m.name, n-created)
		}
	}
	if diff := cmp.Diff(taskIDs(tasks), taskIDs(c.converged(via, "web", 8))); diff != "" {
		t.Errorf("tasks after restarts (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(containers, c.containers("web")); diff != "" {
		t.Errorf("containers after restarts (-before +after):\n%s", diff)
	}
}

func TestAWholeClusterComesBackFromItsDisks(t *testing.T) {
	c := form(t, 3, 0)
	via := c.machines[1]
	id := create(t, via.api, spec("web", 5))
	tasks, containers := c.converged(via, "web", 5), c.containers("web")
	for _, m := range c.machines {
		m.stop()
	}
	for _, m := range c.machines {
		m.start()
	}
	c.awaitNodes(via, 3, 0)
	if s, _, err := via.api.ServiceInspectWithRaw(t.Context(), "web", swarm.ServiceInspectOptions{}); err != nil || s.ID != id {
		t.Errorf("the service was %s and is %s, err %v", id, s.ID, err)
	}
	if diff := cmp.Diff(taskIDs(tasks), taskIDs(c.converged(via, "web", 5))); diff != "" {
		t.Errorf("tasks (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(containers, c.containers("web")); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
	scale(t, via.api, "web", 6)
	c.converged(via, "web", 6)
}
