package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func taskIDs(t *testing.T, h *harness, pairs ...filters.KeyValuePair) string {
	t.Helper()
	list, err := h.docker.TaskList(t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(pairs...)})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, task := range list {
		ids = append(ids, task.ID)
	}
	return strings.Join(ids, " ")
}

func TestTaskListFilters(t *testing.T) {
	web, webRev := statetest.Service("web", 2, func(s *swarm.ServiceSpec) { s.Labels["stack"] = "shop" })
	agent, agentRev := statetest.Service("agent", 0, statetest.Global)
	h := newHarness(t, web, webRev, agent, agentRev, statetest.Node("n1", hostname("one")), statetest.Node("n2", hostname("two")),
		statetest.Task("ta", "web", 1, "n1"), statetest.Task("tb", "web", 2, "n2", statetest.Desired(taskstate.Shutdown), statetest.Observed(taskstate.Failed)),
		statetest.Task("u1", "agent", 0, "n1"), statetest.Task("u2", "gone", 1, "n2", statetest.Desired(taskstate.Remove)))
	for _, c := range []struct {
		filters []filters.KeyValuePair
		want    string
	}{
		{nil, "ta tb u1 u2"},
		{[]filters.KeyValuePair{filters.Arg("service", "web")}, "ta tb"},
		{[]filters.KeyValuePair{filters.Arg("service", "web"), filters.Arg("service", "agent")}, "u1 ta tb"},
		{[]filters.KeyValuePair{filters.Arg("node", "one")}, "ta u1"},
		{[]filters.KeyValuePair{filters.Arg("node", "n2"), filters.Arg("service", "web")}, "tb"},
		{[]filters.KeyValuePair{filters.Arg("desired-state", "running")}, "ta u1"},
		{[]filters.KeyValuePair{filters.Arg("desired-state", "SHUTDOWN"), filters.Arg("desired-state", "remove")}, "tb u2"},
		{[]filters.KeyValuePair{filters.Arg("desired-state", "")}, "ta tb u1 u2"},
		{[]filters.KeyValuePair{filters.Arg("label", "stack=shop")}, "ta tb"},
		{[]filters.KeyValuePair{filters.Arg("label", "stack=other")}, ""},
		{[]filters.KeyValuePair{filters.Arg("id", "u")}, "u1 u2"},
		{[]filters.KeyValuePair{filters.Arg("name", "web.2")}, "tb"},
		{[]filters.KeyValuePair{filters.Arg("name", "agent.n1.u1")}, "u1"},
		{[]filters.KeyValuePair{filters.Arg("runtime", "attachment")}, ""},
	} {
		if got := taskIDs(t, h, c.filters...); got != c.want {
			t.Errorf("list with %v: %q, want %q", c.filters, got, c.want)
		}
	}
}

func TestTaskCarriesTheSpecOfItsRevision(t *testing.T) {
	web, webRev := statetest.Service("web", 1)
	h := newHarness(t, web, webRev, statetest.Node("n1"), statetest.Task("t1", "web", 1, "n1", func(t *state.Task) {
		t.Status.ContainerID, t.Status.ExitCode, t.Status.Message = "c0ffee", 3, "started"
		t.Status.Ports = []swarm.PortConfig{{TargetPort: 80, PublishedPort: 32768, PublishMode: swarm.PortConfigPublishModeHost}}
	}), statetest.Task("t2", "nowhere", 1, ""))
	for _, ref := range []string{"t1", "web.1.t1"} {
		got, _, err := h.docker.TaskInspectWithRaw(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if got.Spec.ContainerSpec.Image != "web:1" || got.Spec.Runtime != "" || got.Labels == nil || got.Status.State != swarm.TaskStateRunning || got.DesiredState != swarm.TaskStateRunning ||
			got.Status.ContainerStatus.ContainerID != "c0ffee" || got.Status.PortStatus.Ports[0].PublishedPort != 32768 || got.Status.Timestamp.IsZero() {
			t.Errorf("task %s: %+v", ref, got)
		}
	}
	orphan, _, err := h.docker.TaskInspectWithRaw(t.Context(), "t2")
	if err != nil || orphan.Spec.ContainerSpec == nil {
		t.Errorf("task without a revision: %+v, %v; want an empty container spec, which the CLI reads", orphan, err)
	}
	if status, _ := h.call("GET", "/tasks/web.2.t1", nil); status != http.StatusNotFound {
		t.Errorf("wrong name of a task: %d, want 404", status)
	}
}

func TestUpToDateFilter(t *testing.T) {
	web, rev1 := statetest.Service("web", 1)
	revision := func(n uint64, change func(*swarm.ServiceSpec)) *state.Revision {
		r := *rev1
		r.Number = n
		c := *r.Spec.TaskTemplate.ContainerSpec
		r.Spec.TaskTemplate.ContainerSpec = &c
		change(&r.Spec)
		return &r
	}
	pinned := func(zone string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"node.labels.zone==" + zone}}
		}
	}
	current := revision(5, pinned("x"))
	web.Revision, web.Spec = 5, current.Spec
	at := func(n uint64) func(*state.Task) { return func(t *state.Task) { t.Revision = n } }
	h := newHarness(t, web, rev1, current,
		revision(2, func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "web:0" }),
		revision(3, func(s *swarm.ServiceSpec) { pinned("x")(s); s.Labels = map[string]string{"only": "labels"} }),
		revision(4, func(s *swarm.ServiceSpec) {
			pinned("x")(s)
			s.EndpointSpec = &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR}
		}),
		statetest.Node("n1", statetest.Label("zone", "x")), statetest.Node("n2"),
		statetest.Task("current", "web", 1, "n1", at(5)), statetest.Task("image", "web", 2, "n1", at(2)),
		statetest.Task("labels", "web", 3, "n1", at(3)), statetest.Task("endpoint", "web", 4, "n1", at(4)),
		statetest.Task("fits", "web", 5, "n1", at(1)), statetest.Task("misfit", "web", 6, "n2", at(1)),
		statetest.Task("unplaced", "web", 7, "", at(1)), statetest.Task("lost", "web", 8, "n1", at(9)),
		statetest.Task("orphan", "gone", 1, "n1"))
	if got, want := taskIDs(t, h, filters.Arg("_up-to-date", "true")), "current fits labels"; got != want {
		t.Errorf("up to date: %q, want %q", got, want)
	}
	if got, want := taskIDs(t, h, filters.Arg("_up-to-date", "true"), filters.Arg("service", "web")), "current labels fits"; got != want {
		t.Errorf("up to date of the service: %q, want %q", got, want)
	}
}
