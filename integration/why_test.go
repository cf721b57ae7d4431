package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/api"
)

// why asks m about a service or task.
func (m *machine) why(ref string) (why api.Why, err error) {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://shoal/shoal/v1/why/"+ref, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	response, err := m.api.HTTPClient().Do(r)
	if err != nil {
		return why, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return why, errors.New(response.Status)
	}
	return why, json.NewDecoder(response.Body).Decode(&why) //nolint:musttag // named as in Docker's API
}

// awaitWhy waits until why says what it should.
func (m *machine) awaitWhy(ref string, ok func(api.Why) bool) (why api.Why) {
	m.t.Helper()
	waitFor(m.t, "why "+ref, func() (string, bool) {
		var err error
		why, err = m.why(ref)
		return fmt.Sprintf("%+v %+v %v", why, why.Container, err), err == nil && ok(why)
	})
	return why
}

// Whatever manager is asked, why brings what the container has said from the
// node that has it, and counts down to the next try.
func TestWhyBringsWhatTheContainerSaid(t *testing.T) {
	c := form(t, 2, 1)
	on := func(m *machine, s swarm.ServiceSpec) swarm.ServiceSpec {
		s.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"node.hostname==" + m.name}}
		return s
	}
	worker := c.machines[2]
	create(t, c.machines[0].api, on(worker, spec("crash", 1, "exit", "139")))
	sick := on(worker, spec("sick", 1, "serve"))
	sick.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "bad"}, Interval: 10 * time.Millisecond}
	create(t, c.machines[0].api, sick)
	for _, via := range c.machines[:2] { // the leader and another manager
		got := via.awaitWhy("crash", func(w api.Why) bool { return strings.Contains(w.Cause, "crash loop") && w.Container != nil })
		evidence := strings.Join(got.Evidence, "\n")
		if !slices.Equal(got.Container.Output, []string{"said by h3"}) || got.RetryAt == nil || !strings.Contains(evidence, "(139): segmentation fault (SIGSEGV)") {
			t.Errorf("via %s: %+v %+v", via.name, got, got.Container)
		}
		got = via.awaitWhy("sick", func(w api.Why) bool { return w.Container != nil && strings.Contains(w.Fix, "health check") })
		if len(got.Container.Health) != 1 || got.Container.Health[0].Output != "sick on h3" || got.Container.Health[0].ExitCode != 1 {
			t.Errorf("via %s: %+v %+v", via.name, got, got.Container)
		}
	}

	heard := func(w api.Why) bool { return w.Container != nil }
	lost := c.machines[0].awaitWhy("crash", heard).Container.Task
	worker.stop()
	began := time.Now()
	got := c.machines[0].awaitWhy(lost, heard)
	if got.Container == nil || len(got.Container.Missing) != 1 || !strings.Contains(got.Container.Missing[0], "node h3 cannot be reached") || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %+v %+v", time.Since(began), got, got.Container)
	}
	worker.start()
}

// What is advised does place the task.
func TestWhyAdvisesWhatHelps(t *testing.T) {
	c := form(t, 1, 1)
	via := c.machines[0]
	s := spec("web", 1, "serve")
	s.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"node.labels.disk==ssd"}}
	create(t, via.api, s)
	got := via.awaitWhy("web.1", func(w api.Why) bool { return len(w.Fixes) > 0 })
	name, ok := strings.CutPrefix(got.Fix, "docker node update --label-add disk=ssd ")
	if !ok {
		t.Fatalf("advice %q", got.Fixes)
	}
	for _, m := range c.machines {
		if m.name == name {
			updateNode(t, via.api, m.id(), func(s *swarm.NodeSpec) { s.Labels = map[string]string{"disk": "ssd"} })
		}
	}
	c.converged(via, "web", 1)
}

// A machine comes back with less than its tasks have reserved: they stay,
// nothing more comes, and who asks is told.
func TestANodeThatComesBackSmallerKeepsItsTasks(t *testing.T) {
	c := form(t, 1, 1)
	via, worker := c.machines[0], c.machines[1]
	setAvailability(t, via.api, via.id(), swarm.NodeAvailabilityDrain)
	s := spec("web", 1, "serve")
	s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{MemoryBytes: 3 << 30, GenericResources: []swarm.GenericResource{
		{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: 2}},
	}}}
	worker.stop()
	gpus := func(n int64) []swarm.GenericResource {
		return []swarm.GenericResource{{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: n}}}
	}
	worker.engine.Description.Resources.GenericResources = gpus(4)
	worker.start()
	create(t, via.api, s)
	before := c.converged(via, "web", 1)

	worker.stop()
	worker.engine.Description.Resources.MemoryBytes, worker.engine.Description.Resources.GenericResources = 2<<30, gpus(1)
	worker.start()
	waitFor(t, "the smaller node", func() (string, bool) {
		n, _, err := via.api.NodeInspectWithRaw(t.Context(), worker.id())
		return fmt.Sprintf("%+v %v", n, err), err == nil && n.Description.Resources.MemoryBytes == 2<<30 && n.Status.State == swarm.NodeStateReady
	})
	scale(t, via.api, "web", 2)
	got := via.awaitWhy("web.2", func(w api.Why) bool { return strings.Contains(w.Cause, "no node can take it") })
	if evidence := strings.Join(got.Evidence, "\n"); !strings.Contains(evidence, "node h2 has 2GiB memory and 3GiB reserved by running tasks, the task reserves 3GiB, has 0 gpu free, the task reserves 2") {
		t.Errorf("evidence:\n%s", evidence)
	}
	tasks, err := tasksOf(t, via.api, "web")
	if err != nil || len(tasks) != 2 || !slices.ContainsFunc(tasks, func(t swarm.Task) bool { return t.ID == before[0].ID && t.Status.State == swarm.TaskStateRunning }) {
		t.Errorf("%v; what ran before does not: %+v", err, tasks)
	}
	n, _, err := via.api.NodeInspectWithRaw(t.Context(), worker.id())
	if want := "its tasks have reserved more than it has: 3GiB of 2GiB memory, 2 of 1 gpu"; err != nil || n.Status.Message != want {
		t.Errorf("node inspect says %q, want %q", n.Status.Message, want)
	}
}

// The log of a job that is complete ends.
func TestTheLogOfAFinishedJobEnds(t *testing.T) {
	c := form(t, 1, 1)
	via := c.machines[0]
	one := uint64(2)
	job := spec("job", 0, "exit", "0")
	job.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &one, TotalCompletions: &one}}
	create(t, via.api, job)
	awaitJob(t, via.api, "job", 0, 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	body, err := via.api.ServiceLogs(ctx, "job", container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if lines := logsOf(t, body, err); len(lines) != 2 || ctx.Err() != nil {
		t.Errorf("%q, %v", lines, ctx.Err())
	}
}
