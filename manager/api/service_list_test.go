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

func TestServiceListFilters(t *testing.T) {
	label := func(k, v string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { s.Labels[k] = v }
	}
	var objs []state.Object
	for _, pair := range [][]state.Object{
		objects(statetest.Service("aaweb", 2, label("tier", "front"), label("x", "1"))),
		objects(statetest.Service("abapi", 1, label("tier", "back"))),
		objects(statetest.Service("bagent", 1, statetest.Global)),
	} {
		objs = append(objs, pair...)
	}
	h := newHarness(t, objs...)
	for _, c := range []struct {
		filters []filters.KeyValuePair
		want    string
	}{
		{nil, "aaweb abapi bagent"},
		{[]filters.KeyValuePair{filters.Arg("name", "a")}, "aaweb abapi"},
		{[]filters.KeyValuePair{filters.Arg("name", "web")}, ""},
		{[]filters.KeyValuePair{filters.Arg("name", "aaw"), filters.Arg("name", "b")}, "aaweb bagent"},
		{[]filters.KeyValuePair{filters.Arg("id", "a"), filters.Arg("id", "aa")}, "aaweb abapi"},
		{[]filters.KeyValuePair{filters.Arg("id", "a"), filters.Arg("name", "ab")}, "abapi"},
		{[]filters.KeyValuePair{filters.Arg("label", "tier")}, "aaweb abapi"},
		{[]filters.KeyValuePair{filters.Arg("label", "tier=front"), filters.Arg("label", "x")}, "aaweb"},
		{[]filters.KeyValuePair{filters.Arg("label", "tier=side")}, ""},
		{[]filters.KeyValuePair{filters.Arg("mode", "global")}, "bagent"},
		{[]filters.KeyValuePair{filters.Arg("mode", "replicated")}, "aaweb abapi"},
		{[]filters.KeyValuePair{filters.Arg("runtime", "plugin")}, ""},
	} {
		list, err := h.docker.ServiceList(t.Context(), swarm.ServiceListOptions{Filters: filters.NewArgs(c.filters...)})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, s := range list {
			ids = append(ids, s.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("list with %v: %q, want %q", c.filters, got, c.want)
		}
	}
	if status, text := h.call("GET", `/services?filters={"name":["x"]}`, nil); status != http.StatusOK || text != "[]\n" {
		t.Errorf("empty list: %d %q, want []", status, text)
	}
}

func TestServiceStatusOnlyWhenAsked(t *testing.T) {
	web, webRev := statetest.Service("web", 5)
	agent, agentRev := statetest.Service("agent", 0, statetest.Global)
	h := newHarness(t, web, webRev, agent, agentRev,
		statetest.Task("t1", "web", 1, "n1"), statetest.Task("t2", "web", 2, ""),
		statetest.Task("t0", "web", 1, "n1", statetest.Desired(taskstate.Shutdown), statetest.Observed(taskstate.Failed)),
		statetest.Task("g1", "agent", 0, "n1"), statetest.Task("g2", "agent", 0, "n2", statetest.Observed(taskstate.Preparing)),
		statetest.Task("g3", "agent", 0, "n3", statetest.Desired(taskstate.Shutdown)),
		statetest.Node("dead", statetest.Down), statetest.Task("t3", "web", 1, "dead", statetest.Desired(taskstate.Shutdown)))
	list, err := h.docker.ServiceList(t.Context(), swarm.ServiceListOptions{Status: true})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]swarm.ServiceStatus{"web": {RunningTasks: 1, DesiredTasks: 5}, "agent": {RunningTasks: 2, DesiredTasks: 2}}
	for _, s := range list {
		if s.ServiceStatus == nil || *s.ServiceStatus != want[s.ID] {
			t.Errorf("status of %s: %+v, want %+v", s.ID, s.ServiceStatus, want[s.ID])
		}
	}
	list, err = h.docker.ServiceList(t.Context(), swarm.ServiceListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.ServiceStatus != nil {
			t.Errorf("service %s has a status unasked: %+v", s.ID, s.ServiceStatus)
		}
	}
}

func TestServiceThatPublishesNothingHasNoEndpoint(t *testing.T) {
	h := newHarness(t)
	spec := webSpec("web", 1)
	spec.EndpointSpec = &swarm.EndpointSpec{Mode: swarm.ResolutionModeVIP}
	resp, err := h.docker.ServiceCreate(t.Context(), spec, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := h.docker.ServiceInspectWithRaw(t.Context(), resp.ID, swarm.ServiceInspectOptions{})
	if err != nil || got.Endpoint.Spec.Mode != "" || got.Spec.EndpointSpec.Mode != swarm.ResolutionModeVIP {
		t.Errorf("endpoint %+v, spec %+v, err %v", got.Endpoint, got.Spec.EndpointSpec, err)
	}
}

func TestLookup(t *testing.T) {
	a := "a" + strings.Repeat("1", 24)
	ab := "ab" + strings.Repeat("1", 23)
	named := func(id, name string) []state.Object {
		return objects(statetest.Service(id, 1, func(s *swarm.ServiceSpec) { s.Name = name }))
	}
	h := newHarness(t, append(append(named(a, "first"), named(ab, "second")...), named("c"+strings.Repeat("1", 24), a[:3])...)...)
	for ref, want := range map[string]string{
		a: "first", "first": "first", "FIRST": "first", "ab": "second", "c": a[:3],
		a[:3]: a[:3], // a name goes before the prefix of an id
	} {
		s, _, err := h.docker.ServiceInspectWithRaw(t.Context(), ref, swarm.ServiceInspectOptions{})
		if err != nil || s.Spec.Name != want {
			t.Errorf("service %s is %q, %v; want %q", ref, s.Spec.Name, err, want)
		}
	}
	if _, text := h.call("GET", "/services/a", nil); !strings.Contains(text, "service a is ambiguous (2 matches found)") {
		t.Errorf("ambiguous prefix: %s", text)
	}
	if status, text := h.call("GET", "/services/fir", nil); status != http.StatusNotFound || !strings.Contains(text, "service fir not found") {
		t.Errorf("prefix of a name: %d %s, want not found", status, text)
	}
}

func TestServiceListFollowsTheState(t *testing.T) {
	web, webRev := statetest.Service("web", 1)
	h := newHarness(t, web, webRev)
	list := func() string {
		t.Helper()
		_, text := h.call("GET", "/services?status=true", nil)
		return text
	}
	first := list()
	if first != list() || !strings.Contains(first, `"ServiceStatus":{"RunningTasks":0,"DesiredTasks":1,"CompletedTasks":0}}]`) {
		t.Errorf("list: %s, then %s", first, list())
	}
	changed := *web
	changed.Spec.Labels = map[string]string{"new": "label"}
	h.store.Put(&changed)
	if text := list(); !strings.Contains(text, `"new":"label"`) {
		t.Errorf("list after an update: %s", text)
	}
	for i := range 150 {
		id := "s" + strings.Repeat("x", i)
		s, _ := statetest.Service(id, 1)
		h.store.Put(s)
		list()
		h.store.Apply(state.Delete(state.KindService, id))
	}
	if text := list(); strings.Count(text, `"ID"`) != 1 {
		t.Errorf("list after removals: %s", text)
	}
}
