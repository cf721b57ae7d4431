package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func (h *harness) why(ref string) (why api.Why) {
	h.Helper()
	status, text := h.call("GET", "/shoal/v1/why/"+ref, nil)
	if status != http.StatusOK {
		h.Fatalf("why %s: %d %s", ref, status, text)
	}
	if err := json.Unmarshal([]byte(text), &why); err != nil { //nolint:musttag // named as in Docker's API
		h.Fatal(err)
	}
	return why
}

// pending is a task that the scheduler could not place.
func pending(err string) func(*state.Task) {
	return func(t *state.Task) {
		t.Status = taskstate.Status{State: taskstate.Pending, Message: "pending task scheduling", Err: err}
	}
}

func TestWhyPending(t *testing.T) {
	gib := int64(1 << 30)
	memory := func(n int64) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{MemoryBytes: n, NanoCPUs: 1e9}}
		}
	}
	place := func(p swarm.Placement) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { s.TaskTemplate.Placement = &p }
	}
	for _, c := range []struct {
		name     string
		spec     func(*swarm.ServiceSpec)
		err      string
		evidence string
		fix      string
	}{
		{
			"memory", memory(20 * gib), "no suitable node (insufficient memory on 2 nodes)",
			"node n1 has 6GiB of 8GiB memory free, the task reserves 20GiB", "lower --reserve-memory to 8GiB, free 12GiB on node n2, or join a node",
		},
		{
			"constraints", place(swarm.Placement{Constraints: []string{"node.labels.disk==ssd", "node.role==worker"}}), "no suitable node (scheduling constraints not satisfied on 2 nodes)",
			"node n1 does not meet node.labels.disk==ssd", "docker node update --label-add disk=ssd n1",
		},
		{
			"impossible constraint", place(swarm.Placement{Constraints: []string{"node.hostname==n9"}}), "no suitable node (scheduling constraints not satisfied on 2 nodes)",
			"node n2 does not meet node.hostname==n9", `docker service update --constraint-rm "node.hostname==n9"`,
		},
		{
			"drained", memory(gib), "no suitable node (not available for new tasks on 1 node)",
			"node n3 is ready, availability drain", "docker node update --availability active n3",
		},
		{
			"replicas per node", place(swarm.Placement{MaxReplicas: 1}), "no suitable node (max replicas per node limit exceed on 2 nodes)",
			"", "docker service update --replicas-max-per-node 2 web, or join a node",
		},
		{"port", func(*swarm.ServiceSpec) {}, "no suitable node (host-mode port already in use on 2 nodes)", "", "run at most one replica per node, or publish port 0 to let each node choose"},
		{
			"platform", place(swarm.Placement{Platforms: []swarm.Platform{{OS: "linux", Architecture: "arm64"}}}), "no suitable node (unsupported platform on 2 nodes)",
			"the image is for linux/arm64", "use an image that is built for the platform of a node",
		},
	} {
		web, webRev := statetest.Service("web", 1, c.spec)
		fat, fatRev := statetest.Service("fat", 1, memory(2*gib))
		h := newHarness(t, web, webRev, fat, fatRev, statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3", statetest.Drained),
			statetest.Task("f1", "fat", 1, "n1"), statetest.Task("t1", "web", 1, "", pending(c.err)))
		for _, ref := range []string{"t1", "web.1.t1", "web.1", "web"} {
			got := h.why(ref)
			if !strings.Contains(got.Cause, "no node can take it: "+c.err) || got.Fix != c.fix || !strings.Contains(strings.Join(got.Evidence, "\n"), c.evidence) {
				t.Errorf("%s: why %s: %+v\nwant evidence %q, fix %q", c.name, ref, got, c.evidence, c.fix)
			}
		}
	}
}

func TestWhyCrashLoop(t *testing.T) {
	web, webRev := statetest.Service("web", 1)
	now := time.Now()
	failed := func(at time.Time, exit int, err string) func(*state.Task) {
		return func(t *state.Task) {
			t.Desired = taskstate.Shutdown
			t.Status = taskstate.Status{State: taskstate.Failed, At: at, ExitCode: exit, Err: err, ContainerID: "0123456789abcdef"}
		}
	}
	h := newHarness(t, web, webRev, statetest.Node("n1", hostname("one")),
		statetest.Task("t1", "web", 1, "n1", failed(now.Add(-time.Minute), 1, "task: non-zero exit (1)")),
		statetest.Task("t2", "web", 1, "n1", failed(now.Add(-time.Second), 137, "task: non-zero exit (137)")),
		statetest.Task("t3", "web", 1, "n1", func(t *state.Task) {
			t.Desired, t.Status.State, t.StartAfter = taskstate.Ready, taskstate.Ready, now.Add(20*time.Second)
			t.Restarts = state.Restarts{Count: 4, Quick: 3}
		}))
	got := h.why("web")
	if !strings.Contains(got.Cause, "task web.1.t3: crash loop: 3 tasks in a row failed soon after their start; the next try is in ") || got.State != "0 of 1 running" ||
		!strings.Contains(strings.Join(got.Evidence, "\n"), "before it, task t2: it failed on node one: task: non-zero exit (137)") || !strings.Contains(got.Fix, "lack of memory") {
		t.Errorf("why web: %+v", got)
	}
	if got := h.why("t1"); got.State != "failed" || got.Fix != "read what it said: shoal logs t1" {
		t.Errorf("why t1: %+v", got)
	}
}

func TestWhyEnded(t *testing.T) {
	for err, fix := range map[string]string{
		"pull access denied for web, repository does not exist or may require 'docker login'": "--with-registry-auth web",
		"No such image: web:1": "check the name and tag of image web:1",
		`invalid mount config for type "bind": bind source path does not exist: /x`:  "create the directory on node n1",
		"driver failed: Bind for 0.0.0.0:80 failed: port is already allocated":       "free the port on node n1",
		`OCI runtime create failed: exec: "foo": executable file not found in $PATH`: "image web:1 has no such program",
		"task: non-zero exit (1): dockerexec: unhealthy container":                   "docker inspect",
		"something nobody has seen": "shoal logs t1",
	} {
		web, webRev := statetest.Service("web", 1)
		h := newHarness(t, web, webRev, statetest.Node("n1"), statetest.Task("t1", "web", 1, "n1", func(t *state.Task) {
			t.Status = taskstate.Status{State: taskstate.Rejected, Err: err, ExitCode: 1}
		}))
		got := h.why("web")
		if !strings.Contains(got.Cause, "node n1 could not start it: "+err) || !strings.Contains(got.Fix, fix) {
			t.Errorf("rejected with %q: %+v, want fix %q", err, got, fix)
		}
	}
}

func TestWhyEachState(t *testing.T) {
	web, webRev := statetest.Service("web", 3)
	agent, agentRev := statetest.Service("agent", 0, statetest.Global, func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"node.labels.x==y"}}
	})
	idle, idleRev := statetest.Service("idle", 0)
	h := newHarness(t, web, webRev, agent, agentRev, idle, idleRev, statetest.Node("n1"), statetest.Node("n2", statetest.Down),
		statetest.Task("new", "web", 1, "", statetest.Observed(taskstate.New)),
		statetest.Task("fresh", "web", 1, "", statetest.Observed(taskstate.Pending)),
		statetest.Task("assigned", "web", 1, "n2", statetest.Observed(taskstate.Assigned)),
		statetest.Task("preparing", "web", 1, "n1", statetest.Observed(taskstate.Preparing)),
		statetest.Task("staged", "web", 1, "n1", statetest.Observed(taskstate.Ready), statetest.Desired(taskstate.Ready)),
		statetest.Task("starting", "web", 1, "n1", statetest.Observed(taskstate.Starting)),
		statetest.Task("running", "web", 2, "n1"),
		statetest.Task("stopping", "web", 3, "n2", statetest.Desired(taskstate.Shutdown)),
		statetest.Task("complete", "web", 4, "n1", statetest.Observed(taskstate.Complete)),
		statetest.Task("lost", "web", 5, "n9", statetest.Observed(taskstate.Orphaned), statetest.Desired(taskstate.Shutdown)))
	for ref, want := range map[string]string{
		"new":       "has just been created",
		"fresh":     "the scheduler is about to give it a node",
		"assigned":  "node n2 has not taken it up yet",
		"preparing": "node n1 is pulling the image",
		"staged":    "starts as soon as its predecessor has stopped",
		"starting":  "its health check has not passed yet",
		"running":   "it runs on node n1",
		"stopping":  "it is being stopped",
		"complete":  "ended by itself with exit code 0",
		"lost":      "its node n9 is gone for good",
		"agent":     "no node is ready, active and meets the constraints",
		"idle":      "it is scaled to 0",
	} {
		if got := h.why(ref); !strings.Contains(got.Cause, want) || got.Evidence == nil {
			t.Errorf("why %s: %+v, want %q", ref, got, want)
		}
	}
	if got := h.why("assigned"); !strings.Contains(got.Fix, "bring node n2 back") {
		t.Errorf("why assigned: fix %q", got.Fix)
	}
	if got := h.why("agent"); got.Fix != "docker node update --label-add x=y n1" {
		t.Errorf("why agent: fix %q", got.Fix)
	}
}
