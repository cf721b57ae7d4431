package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/worker/engine"
)

// spec is that of a replicated service.
func spec(name string, replicas uint64, command ...string) swarm.ServiceSpec {
	return swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: name},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: image, Command: command}},
		Mode:         swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &replicas}},
	}
}

func create(t testing.TB, api *client.Client, s swarm.ServiceSpec) string {
	t.Helper()
	r, err := api.ServiceCreate(t.Context(), s, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatalf("create service %s: %v", s.Name, err)
	}
	return r.ID
}

// update changes a service.
func update(t testing.TB, api *client.Client, name string, change func(*swarm.ServiceSpec)) {
	t.Helper()
	s, _, err := api.ServiceInspectWithRaw(t.Context(), name, swarm.ServiceInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change(&s.Spec)
	if _, err := api.ServiceUpdate(t.Context(), s.ID, s.Version, s.Spec, swarm.ServiceUpdateOptions{}); err != nil {
		t.Fatalf("update service %s: %v", name, err)
	}
}

func scale(t testing.TB, api *client.Client, name string, replicas uint64) {
	t.Helper()
	update(t, api, name, func(s *swarm.ServiceSpec) { s.Mode.Replicated.Replicas = &replicas })
}

// updateNode changes a node.
func updateNode(t testing.TB, api *client.Client, id string, change func(*swarm.NodeSpec)) {
	t.Helper()
	n, _, err := api.NodeInspectWithRaw(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	change(&n.Spec)
	if err := api.NodeUpdate(t.Context(), id, n.Version, n.Spec); err != nil {
		t.Fatalf("update node %s: %v", id, err)
	}
}

func setAvailability(t testing.TB, api *client.Client, id string, a swarm.NodeAvailability) {
	t.Helper()
	updateNode(t, api, id, func(s *swarm.NodeSpec) { s.Availability = a })
}

// tasksOf lists the tasks of a service that should run.
func tasksOf(t testing.TB, api *client.Client, service string) ([]swarm.Task, error) {
	t.Helper()
	return api.TaskList(t.Context(), swarm.TaskListOptions{
		Filters: filters.NewArgs(filters.Arg("service", service), filters.Arg("desired-state", "running")),
	})
}

// converged waits until n tasks of a service run, and as many containers, the
// same ones, on all engines together; it returns the tasks.
func (c *cluster) converged(via *machine, service string, n int) []swarm.Task {
	c.t.Helper()
	return converged(c.t, via.api, service, n, func() ([]string, error) { return c.containers(service), nil })
}

func converged(t testing.TB, api *client.Client, service string, n int, containers func() ([]string, error)) []swarm.Task {
	t.Helper()
	var tasks []swarm.Task
	waitFor(t, fmt.Sprintf("%d tasks of %s running", n, service), func() (string, bool) {
		var err error
		if tasks, err = tasksOf(t, api, service); err != nil {
			return err.Error(), false
		}
		var saw, want []string
		running := 0
		for _, task := range tasks {
			saw = append(saw, fmt.Sprintf("%s.%d on %s %s %s", task.ID, task.Slot, task.NodeID, task.Status.State, task.Status.Err))
			if task.Status.State == swarm.TaskStateRunning {
				running++
			}
			if s := task.Status.ContainerStatus; s != nil {
				want = append(want, s.ContainerID)
			}
		}
		have, err := containers()
		if err != nil {
			return err.Error(), false
		}
		slices.Sort(want)
		return fmt.Sprintf("tasks %s; containers %v", strings.Join(saw, "; "), have), running == n && len(tasks) == n && slices.Equal(have, want)
	})
	return tasks
}

// containers are the ids of those of a service that run, on all engines.
func (c *cluster) containers(service string) (ids []string) {
	for _, m := range c.machines {
		for _, ctr := range m.running() {
			if ctr.Labels["com.docker.swarm.service.name"] == service {
				ids = append(ids, ctr.ID)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// running are the containers of m's engine that run: those of finished tasks
// stay as long as their history does.
func (m *machine) running() []engine.Container {
	return slices.DeleteFunc(m.engine.Containers(), func(c engine.Container) bool { return c.State != engine.Running })
}

// awaitNoContainers waits until no engine has any.
func (c *cluster) awaitNoContainers() {
	c.t.Helper()
	waitFor(c.t, "no containers", func() (string, bool) {
		var names []string
		for _, m := range c.machines {
			for _, ctr := range m.engine.Containers() {
				names = append(names, m.name+":"+ctr.Name)
			}
		}
		return strings.Join(names, " "), len(names) == 0
	})
}

// perNode counts tasks by node.
func perNode(tasks []swarm.Task) map[string]int {
	count := map[string]int{}
	for _, task := range tasks {
		count[task.NodeID]++
	}
	return count
}

// taskIDs are those of tasks, sorted.
func taskIDs(tasks []swarm.Task) (ids []string) {
	for _, task := range tasks {
		ids = append(ids, task.ID)
	}
	slices.Sort(ids)
	return ids
}
