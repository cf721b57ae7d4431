package api_test

import (
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func TestLocateFindsContainers(t *testing.T) {
	web, webRevision := statetest.Service("web", 2)
	all, allRevision := statetest.Service("all", 0, statetest.Global, func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.TTY = true })
	in := func(id string) func(*state.Task) { return func(t *state.Task) { t.Status.ContainerID = id } }
	v := statetest.View(
		web, webRevision, all, allRevision, statetest.Node("n1"), statetest.Node("n2", func(n *state.Node) { n.Spec.Name = "two" }),
		statetest.Task("old", "web", 1, "n1", in("aaaa1111"), statetest.Observed(taskstate.Failed)),
		statetest.Task("new", "web", 1, "n2", in("bbbb2222")),
		statetest.Task("next", "web", 1, "", statetest.Desired(taskstate.Ready)),
		statetest.Task("pending", "web", 2, ""),
		statetest.Task("g1", "all", 0, "n1", in("cccc3333")), statetest.Task("g2", "all", 0, "n2", in("cccc4444")),
		&state.Attachment{ID: "at1", NodeID: "n2", Name: "shell"},
		&state.Attachment{ID: "at2", NodeID: "n1", Name: "twice"}, &state.Attachment{ID: "at3", NodeID: "n2", Name: "twice"},
	)
	for ref, want := range map[string]string{
		"web.1": "two bbbb2222", "/web.1": "two bbbb2222", "web.1.old": "n1 aaaa1111", "new": "two bbbb2222", "aaaa1111": "n1 aaaa1111", "bbbb": "two bbbb2222",
		"all.n1": "n1 cccc3333", "all.two": "two cccc4444", "all.n2.g2": "two cccc4444", "shell": "two shell",
		"twice": "ambiguous", "cccc": "container cccc is ambiguous (2 matches found)", "bbb": "not found", "web.2": "has not been scheduled", "web.9": "not found",
		"web": "container web not found", "nothing": "container nothing not found", "zzzzzzzz": "not found",
	} {
		p, err := api.Locate(v, ref)
		got := p.Node + " " + p.ID
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || p.ID != "" && err == nil && p.TTY != strings.HasPrefix(p.ID, "cccc") {
			t.Errorf("%s: %q %v, want %q", ref, got, p.TTY, want)
		}
	}
}
