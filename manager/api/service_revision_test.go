package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// repost updates a service to spec and fails the test if it is refused.
func (h *harness) repost(spec swarm.ServiceSpec, headers ...string) {
	h.Helper()
	s := h.service(spec.Name)
	path := fmt.Sprintf("/v1.47/services/%s/update?version=%d", s.ID, s.Version.Index)
	if code, body := h.call("POST", path, spec, headers...); code != http.StatusOK {
		h.Fatalf("update: %d %s", code, body)
	}
}

func (h *harness) history(name string) (numbers []uint64, revisions api.Revisions) {
	h.Helper()
	code, body := h.call("GET", "/shoal/v1/services/"+name+"/revisions", nil)
	if code != http.StatusOK {
		h.Fatalf("revisions: %d %s", code, body)
	}
	if strings.Contains(body, "Auth") {
		h.Errorf("credentials are told: %s", body)
	}
	if err := json.Unmarshal([]byte(body), &revisions); err != nil { //nolint:musttag // keys are the names of the fields
		h.Fatal(err)
	}
	for _, r := range revisions.Revisions {
		numbers = append(numbers, r.Number)
	}
	return numbers, revisions
}

func withImage(image string) swarm.ServiceSpec {
	spec := webSpec("web", 2)
	spec.TaskTemplate.ContainerSpec.Image = image
	return spec
}

func TestHistoryAndRollbackToARevision(t *testing.T) {
	h := newHarness(t)
	if code, body := h.call("POST", "/services/create", withImage("web:1"), "X-Registry-Auth: e30="); code != http.StatusCreated {
		t.Fatalf("create: %d %s", code, body)
	}
	h.repost(withImage("web:2"))
	h.repost(withImage("web:3"))
	h.repost(withImage("web:3")) // changes nothing
	numbers, all := h.history("web")
	if fmt.Sprint(numbers) != "[3 2 1]" || !all.Revisions[0].Current || !all.Revisions[0].Previous || all.Revisions[2].Spec.TaskTemplate.ContainerSpec.Image != "web:1" {
		t.Errorf("history %+v", all)
	}
	if code, body := h.call("POST", "/shoal/v1/services/web/rollback?to=1", nil); code != http.StatusOK || !strings.Contains(body, "manually requested rollback to revision 1") {
		t.Errorf("rollback: %d %s", code, body)
	}
	s := h.service("web")
	if s.Spec.TaskTemplate.ContainerSpec.Image != "web:1" || s.Revision != 4 || s.PreviousSpec.TaskTemplate.ContainerSpec.Image != "web:3" ||
		s.UpdateStatus.State != swarm.UpdateStateRollbackStarted || s.RegistryAuth != "e30=" {
		t.Errorf("after the rollback: %+v", s)
	}
	if _, all = h.history("web"); all.Revisions[0].RollbackTo != 1 {
		t.Errorf("revision 4 does not tell that it is revision 1: %+v", all.Revisions[0])
	}
	// Docker's own rollback goes to the previous spec, back and forth.
	if code, body := h.call("POST", "/shoal/v1/services/web/rollback", nil); code != http.StatusOK {
		t.Errorf("rollback: %d %s", code, body)
	}
	if s = h.service("web"); s.Spec.TaskTemplate.ContainerSpec.Image != "web:3" || s.Revision != 5 {
		t.Errorf("after the second rollback: %+v", s)
	}
}

func TestRollbackRefusals(t *testing.T) {
	h := newHarness(t, objects(statetest.Service("web", 1))...)
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"web/rollback":      {400, "service web does not have a previous spec"},
		"web/rollback?to=1": {400, "is at revision 1 already"},
		"web/rollback?to=7": {404, "revision 7 of service web not found"},
		"web/rollback?to=x": {400, "invalid revision 'x'"},
		"web/rollback?to=0": {400, "invalid revision '0'"},
		"nosuch/rollback":   {404, "service nosuch not found"},
		"web/pause":         {400, "service web is not being updated"},
		"web/resume":        {400, "service web is not being updated"},
		"web/abort":         {400, "service web is not being updated"},
		"nosuch/pause":      {404, "service nosuch not found"},
	} {
		before := h.hash()
		if code, body := h.call("POST", "/shoal/v1/services/"+path, nil); code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d %s, want %d %q", path, code, body, want.code, want.text)
		}
		if h.hash() != before {
			t.Errorf("%s changed the state", path)
		}
	}
	if code, _ := h.call("GET", "/shoal/v1/services/nosuch/revisions", nil); code != http.StatusNotFound {
		t.Errorf("revisions of no service: %d", code)
	}
}

// updating puts a service at revision 2 whose update stands as given.
func updating(status *swarm.UpdateStatus) []state.Object {
	s, first := statetest.Service("web", 1)
	previous := s.Spec
	s.PreviousSpec, s.PreviousRevision, s.Revision, s.UpdateStatus = &previous, 1, 2, status
	container := *s.Spec.TaskTemplate.ContainerSpec
	container.Image = "web:2"
	s.Spec.TaskTemplate.ContainerSpec = &container
	second := &state.Revision{ServiceID: "web", Number: 2, Spec: s.Spec}
	return []state.Object{statetest.Node("n1"), first, second, s, statetest.Task("t1", "web", 1, "n1")}
}

func TestPauseResumeAbort(t *testing.T) {
	began := time.Now().Add(-time.Minute).UTC()
	at := func(s swarm.UpdateState) *swarm.UpdateStatus { return &swarm.UpdateStatus{State: s, StartedAt: &began} }
	over := at(swarm.UpdateStateCompleted)
	over.CompletedAt = &began
	for _, c := range []struct {
		before  *swarm.UpdateStatus
		do      string
		want    swarm.UpdateState // empty: refused
		message string
	}{
		{at(swarm.UpdateStateUpdating), "pause", swarm.UpdateStatePaused, "update paused by the user"},
		{nil, "pause", swarm.UpdateStatePaused, "update paused by the user"}, // not begun yet
		{at(swarm.UpdateStateRollbackStarted), "pause", swarm.UpdateStateRollbackPaused, "rollback paused by the user"},
		{at(swarm.UpdateStatePaused), "pause", swarm.UpdateStatePaused, ""},
		{over, "pause", "", "is not being updated"},
		{at(swarm.UpdateStatePaused), "resume", swarm.UpdateStateUpdating, "update in progress"},
		{at(swarm.UpdateStateRollbackPaused), "resume", swarm.UpdateStateRollbackStarted, "rollback in progress"},
		{at(swarm.UpdateStateUpdating), "resume", swarm.UpdateStateUpdating, ""},
		{over, "resume", "", "is not being updated"},
		{at(swarm.UpdateStateUpdating), "abort", swarm.UpdateStateRollbackStarted, "update aborted by the user"},
		{at(swarm.UpdateStatePaused), "abort", swarm.UpdateStateRollbackStarted, "update aborted by the user"},
		{nil, "abort", swarm.UpdateStateRollbackStarted, "update aborted by the user"},
		{at(swarm.UpdateStateRollbackStarted), "abort", "", "is being rolled back already"},
		{over, "abort", "", "is not being updated"},
	} {
		h := newHarness(t, updating(c.before)...)
		code, body := h.call("POST", "/shoal/v1/services/web/"+c.do, nil)
		if c.want == "" {
			if code != http.StatusBadRequest || !strings.Contains(body, c.message) {
				t.Errorf("%s of %+v: %d %s, want %q", c.do, c.before, code, body, c.message)
			}
			continue
		}
		s := h.service("web")
		if code != http.StatusOK || s.UpdateStatus.State != c.want || s.UpdateStatus.Message != c.message || s.UpdateStatus.StartedAt == nil {
			t.Errorf("%s of %+v: %d %s: %+v", c.do, c.before, code, body, s.UpdateStatus)
		}
		if resumed := c.do == "resume" && c.message != ""; s.UpdateResumed.IsZero() == resumed {
			t.Errorf("%s of %+v: resumed at %v", c.do, c.before, s.UpdateResumed)
		}
		wantImage := "web:2"
		if c.do == "abort" {
			wantImage = "web:1"
		}
		if got := s.Spec.TaskTemplate.ContainerSpec.Image; got != wantImage {
			t.Errorf("%s of %+v: image %s, want %s", c.do, c.before, got, wantImage)
		}
	}
}

// Labels, credentials and placement that a task's node still meets restart
// nothing; nor does the same spec again, with empty values or without.
func TestWhatRestartsNothing(t *testing.T) {
	for name, change := range map[string]func(*swarm.ServiceSpec){
		"the same": func(*swarm.ServiceSpec) {},
		"labels":   func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"a": "b"} },
		"placement": func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"node.id==n1"}}
		},
		"empty": func(s *swarm.ServiceSpec) { s.TaskTemplate.Resources = &swarm.ResourceRequirements{} },
	} {
		h := newHarness(t, statetest.Node("n1"), statetest.Node("n2"))
		if code, body := h.call("POST", "/services/create", webSpec("web", 1)); code != http.StatusCreated {
			t.Fatalf("create: %d %s", code, body)
		}
		h.store.Put(statetest.Task("t1", h.service("web").ID, 1, "n1"))
		spec := webSpec("web", 1)
		change(&spec)
		h.repost(spec, "X-Registry-Auth: e30=")
		code, body := h.call("GET", `/tasks?filters={"service":["web"],"_up-to-date":["true"]}`, nil)
		if code != http.StatusOK || !strings.Contains(body, `"t1"`) {
			t.Errorf("%s: the task is outdated: %d %s", name, code, body)
		}
		if h.service("web").UpdateStatus != nil {
			t.Errorf("%s: update status %+v", name, h.service("web").UpdateStatus)
		}
	}
}
