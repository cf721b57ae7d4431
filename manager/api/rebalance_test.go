package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// balanced is a spec as shoal's own client posts it.
type balanced struct {
	swarm.ServiceSpec
	Rebalance *string `json:",omitempty"`
}

// rebalance is what clients read of a service's or the cluster's setting.
func (h *harness) rebalance(path string) string {
	h.Helper()
	var got struct{ Spec struct{ Rebalance string } }
	_, text := h.call("GET", path, nil)
	if err := json.Unmarshal([]byte(text), &got); err != nil { //nolint:musttag // named as in Docker's API
		h.Fatalf("%s: %v", text, err)
	}
	return got.Spec.Rebalance
}

func TestRebalanceOutlivesClientsThatDoNotKnowIt(t *testing.T) {
	h := newHarness(t, clusterObject())
	if status, text := h.call("POST", "/services/create", balanced{webSpec("web", 1), new("auto")}); status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, text)
	}
	check := func(when, want string) {
		t.Helper()
		if got := h.rebalance("/services/web"); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	check("created", "auto")
	spec := webSpec("web", 2)
	h.repost(spec)
	check("posted by Docker's client", "auto")
	h.post("web", "", balanced{spec, new("off")})
	check("changed", "off")
	h.post("web", "&rollback=previous", spec)
	check("rolled back", "off")
	h.post("web", "", balanced{webSpec("web", 1), new("")})
	check("taken back", "")
	if got := h.store.View().RebalanceOf(h.service("web")); got != state.RebalanceAdvise {
		t.Errorf("without any setting: %q", got)
	}

	version := func() string { return h.store.View().Cluster().Version.String() }
	for _, c := range []struct{ body, want string }{
		{`{"Name":"default","Rebalance":"auto"}`, "auto"}, {`{"Name":"default"}`, "auto"}, {`{"Name":"default","Rebalance":""}`, ""},
	} {
		if status, text := h.call("POST", "/swarm/update?version="+version(), json.RawMessage(c.body)); status != http.StatusOK {
			t.Fatalf("%s: %d %s", c.body, status, text)
		}
		if got := h.rebalance("/swarm"); got != c.want {
			t.Errorf("%s: %q, want %q", c.body, got, c.want)
		}
	}
	h.refused("service", "POST", "/services/create", balanced{webSpec("api", 1), new("always")}, nil, 400, `invalid Rebalance: "always": allowed are ["auto" "advise" "off"]`)
	h.refused("update", "POST", "/services/web/update?version="+h.service("web").Version.String(), balanced{webSpec("web", 1), new("yes")}, nil, 400, `invalid Rebalance: "yes"`)
	h.refused("cluster", "POST", "/swarm/update?version="+version(), json.RawMessage(`{"Name":"default","Rebalance":"on"}`), nil, 400, `invalid Rebalance: "on"`)
}

// The setting alone is no update: nothing is replaced, a paused update stays
// paused, and a rollback goes where it would have gone.
func TestRebalanceAloneIsNoUpdate(t *testing.T) {
	h := newHarness(t)
	h.call("POST", "/services/create", webSpec("web", 1))
	h.repost(webSpec("web", 2))
	paused := *h.service("web")
	paused.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStatePaused}
	h.store.Put(&paused)
	h.post("web", "", balanced{webSpec("web", 2), new("auto")})
	got := h.service("web")
	if got.Rebalance != state.RebalanceAuto || got.Revision != paused.Revision || got.UpdateStatus == nil || *got.PreviousSpec.Mode.Replicated.Replicas != 1 {
		t.Errorf("%+v", got)
	}
}

// lopsided is a service with all of its tasks on one of two nodes.
func lopsided(setting state.Rebalance) []state.Object {
	s, r := statetest.Service("web", 3)
	s.Rebalance = setting
	objs := objects(s, r, statetest.Node("n1"), statetest.Node("n2"))
	for slot := 1; slot <= 3; slot++ {
		objs = append(objs, statetest.Task(fmt.Sprintf("t%d", slot), "web", slot, "n1"))
	}
	return objs
}

func (h *harness) balances(path string) (b []api.Balance) {
	h.Helper()
	status, text := h.call("GET", path, nil)
	if err := json.Unmarshal([]byte(text), &b); err != nil || status != http.StatusOK { //nolint:musttag // named as in Docker's API
		h.Fatalf("%d %s: %v", status, text, err)
	}
	return b
}

func TestRebalanceByHand(t *testing.T) {
	h := newHarness(t, lopsided(state.RebalanceOff)...)
	move := api.BalanceMove{Task: "web.3", TaskID: "t3", From: "n1", To: "n2", Why: "n1 has 3 tasks of the service, n2 has 0"}
	want := []api.Balance{{ServiceID: "web", Name: "web", Rebalance: "off", Moves: []api.BalanceMove{move}}}
	for _, path := range []string{"/shoal/v1/rebalance", "/shoal/v1/rebalance?service=web"} {
		if diff := cmp.Diff(want, h.balances(path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	h.refused("unknown", "GET", "/shoal/v1/rebalance?service=db", nil, nil, 404, "service db not found")
	h.refused("unknown", "POST", "/shoal/v1/services/db/rebalance", nil, nil, 404, "service db not found")
	for range 2 { // the second time, nothing changes
		if status, text := h.call("POST", "/shoal/v1/services/web/rebalance", nil); status != http.StatusOK || !strings.Contains(text, `"Asked":true`) || !strings.Contains(text, `"Task":"web.3"`) {
			t.Errorf("%d %s", status, text)
		}
	}
	if h.service("web").RebalanceAsked.IsZero() {
		t.Error("nothing is asked for")
	}
}

func TestRebalanceByHandSaysWhatStandsAgainstIt(t *testing.T) {
	h := newHarness(t, lopsided("")...)
	updating := *h.service("web")
	updating.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating}
	h.store.Put(&updating)
	h.refused("in an update", "POST", "/shoal/v1/services/web/rebalance", nil, nil, 400, "service web cannot be rebalanced now: its update is updating")
	updating.UpdateStatus = nil
	h.store.Put(&updating, statetest.Task("t3", "web", 3, "n2"))
	status, text := h.call("POST", "/shoal/v1/services/web/rebalance", nil)
	if status != http.StatusOK || !strings.Contains(text, `"Moves":[]`) || !h.service("web").RebalanceAsked.IsZero() {
		t.Errorf("with nothing to move: %d %s", status, text)
	}
}

func TestWhyTellsWhatWouldBeBetter(t *testing.T) {
	for setting, want := range map[state.Rebalance][2]string{
		state.RebalanceOff:  {"all tasks run", ""},
		"":                  {"all tasks run; 1 of them would be placed elsewhere today", "shoal rebalance web"},
		state.RebalanceAuto: {"all tasks run; they are being moved to where they are better placed, one at a time", ""},
	} {
		why := newHarness(t, lopsided(setting)...).why("web")
		evidence := strings.Contains(strings.Join(why.Evidence, "\n"), "web.3 would be better on n2 than on n1: n1 has 3 tasks of the service, n2 has 0")
		if why.Cause != want[0] || why.Fix != want[1] || evidence != (setting != state.RebalanceOff) {
			t.Errorf("%q: %+v", setting, why)
		}
	}
	objs := lopsided(state.RebalanceAuto)
	objs[len(objs)-1].(*state.Task).Unmoved = state.Unmoved{Count: 1, Until: time.Now().Add(time.Minute), Err: "no such image"}
	if why := newHarness(t, objs...).why("web"); !strings.Contains(strings.Join(why.Evidence, "\n"), "no task is moved now: a move was given up lately: no such image") {
		t.Errorf("after a failure: %+v", why)
	}
}
