package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

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
	published := func(s *swarm.ServiceSpec) {
		s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "host"}}}
	}
	cpus := func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{NanoCPUs: 55e8}}
	}
	const another = "join a node: docker swarm join-token worker"
	for _, c := range []struct {
		name     string
		spec     func(*swarm.ServiceSpec)
		evidence string
		fixes    []string
	}{
		{
			"memory", memory(20 * gib), "node n1 has 6GiB of 8GiB memory free, the task reserves 20GiB\nnode n2 has 5GiB of 8GiB memory free",
			[]string{"docker service update --reserve-memory 6GiB web (it is 20GiB, node n1 has 6GiB free)", another},
		},
		{
			"memory of which a drained node has enough", memory(7 * gib), "node n3 has availability drain\n",
			[]string{"docker node update --availability active n3", "docker service update --reserve-memory 6GiB web (it is 7GiB, node n1 has 6GiB free)", another},
		},
		{
			"CPUs", cpus, "node n1 has 3 of 4 CPUs free, the task reserves 5.5",
			[]string{"docker service update --reserve-cpu 3 web (it is 5.5, node n1 has 3 free)", another},
		},
		{
			"generic", func(s *swarm.ServiceSpec) {
				s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{GenericResources: []swarm.GenericResource{
					{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: 3}},
				}}}
			}, "node n1 has 2 gpu free, the task reserves 3\nnode n2 has 0 gpu free",
			[]string{"docker service update --generic-resource-add gpu=2 web (it is 3, node n1 has 2 free)", another},
		},
		{
			"constraints", place(swarm.Placement{Constraints: []string{"node.labels.disk==ssd", "node.role==worker"}}), "node n1 does not meet node.labels.disk==ssd",
			[]string{"docker node update --label-add disk=ssd n1", "docker service update --constraint-rm node.labels.disk==ssd web (2 nodes can take it then)"},
		},
		{
			"impossible constraint", place(swarm.Placement{Constraints: []string{"node.hostname == n9"}}), "node n2 does not meet node.hostname == n9",
			[]string{"docker service update --constraint-rm 'node.hostname == n9' web (2 nodes can take it then)"},
		},
		{
			"constraint and memory", func(s *swarm.ServiceSpec) {
				memory(9 * gib)(s)
				place(swarm.Placement{Constraints: []string{"node.labels.disk==ssd"}})(s)
			}, "node n1 has 6GiB of 8GiB memory free, the task reserves 9GiB, does not meet node.labels.disk==ssd",
			[]string{
				"docker node update --label-add disk=ssd n1, and docker service update --reserve-memory 6GiB web (it is 9GiB, node n1 has 6GiB free)",
				"docker service update --reserve-memory 6GiB --constraint-rm node.labels.disk==ssd web (it is 9GiB, node n1 has 6GiB free)",
				another,
			},
		},
		{
			"replicas per node", place(swarm.Placement{MaxReplicas: 1}), "node n1 has 1 tasks of the service, at most 1 are allowed",
			[]string{"docker node update --availability active n3", "docker service update --replicas-max-per-node 2 web (2 nodes can take it then)", another},
		},
		{
			"port", published, "node n2 has port 8080/tcp taken by fat, web",
			[]string{"docker node update --availability active n3", "publish another host port than 8080/tcp, which fat, web has (2 nodes can take it then)", another},
		},
		{
			"platform", place(swarm.Placement{Platforms: []swarm.Platform{{OS: "linux", Architecture: "arm64"}}}), "the image is for linux/arm64\nnode n1 is linux/amd64",
			[]string{"use an image that is built for linux/amd64, as node n1 is (2 nodes can take it then)"},
		},
	} {
		web, webRev := statetest.Service("web", 1, c.spec)
		fat, fatRev := statetest.Service("fat", 1, memory(2*gib), published)
		thin, thinRev := statetest.Service("thin", 1, memory(gib))
		h := newHarness(t, web, webRev, fat, fatRev, thin, thinRev, statetest.Node("n1", func(n *state.Node) {
			n.Description.Resources.GenericResources = []swarm.GenericResource{{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: 2}}}
		}), statetest.Node("n2"), statetest.Node("n3", statetest.Drained),
			statetest.Task("f1", "fat", 1, "n1"), statetest.Task("f2", "fat", 2, "n2"), statetest.Task("s1", "thin", 1, "n2"),
			statetest.Task("t1", "web", 1, "", pending(noNode)))
		if c.name == "replicas per node" || c.name == "port" {
			h.store.Put(statetest.Task("w1", "web", 2, "n1"), statetest.Task("w2", "web", 3, "n2"))
		}
		for _, ref := range []string{"t1", "web.1.t1", "web.1", "web"} {
			got := h.why(ref)
			if diff := cmp.Diff(c.fixes, got.Fixes); diff != "" || got.Fix != c.fixes[0] || !strings.Contains(got.Cause, "no node can take it: "+noNode) {
				t.Errorf("%s: why %s: %s, fixes (-want +got):\n%s", c.name, ref, got.Cause, diff)
			}
			if all := strings.Join(got.Evidence, "\n") + "\n"; !strings.Contains(all, c.evidence) {
				t.Errorf("%s: why %s: want evidence %q, got:\n%s", c.name, ref, c.evidence, all)
			}
		}
	}
}

const noNode = "no suitable node (for some reason on 3 nodes)"

func TestWhyPendingWithoutNodes(t *testing.T) {
	web, webRev := statetest.Service("web", 1)
	h := newHarness(t, web, webRev, statetest.Task("t1", "web", 1, "", pending("no suitable node (the cluster has no nodes)")))
	if got := h.why("web"); got.Fix != "join a node: docker swarm join-token worker" || got.Container != nil {
		t.Errorf("%+v", got)
	}
}

// What runs on a node that has come back smaller stays, and new tasks are told.
func TestWhyPendingOnANodeThatShrank(t *testing.T) {
	gib := int64(1 << 30)
	reserve := func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{MemoryBytes: 6 * gib}}
	}
	web, webRev := statetest.Service("web", 1, reserve)
	h := newHarness(t, web, webRev, statetest.Node("n1", func(n *state.Node) { n.Description.Resources.MemoryBytes = 4 * gib }),
		statetest.Task("w1", "web", 1, "n1"), statetest.Task("w2", "web", 2, "", pending(noNode)))
	if got := strings.Join(h.why("w2").Evidence, "\n"); !strings.Contains(got, "node n1 has 4GiB memory and 6GiB reserved by running tasks, the task reserves 6GiB") {
		t.Errorf("evidence:\n%s", got)
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
	if !strings.Contains(got.Cause, "task web.1.t3: crash loop: 3 tasks in a row failed soon after their start; restarting in 20s (restart 4; the delay doubles with each quick failure, up to 5m)") || got.State != "0 of 1 running" ||
		!strings.Contains(strings.Join(got.Evidence, "\n"), "before it, task t2: it failed on node one: task: non-zero exit (137)") || !strings.Contains(got.Fix, "lack of memory") || got.RetryAt == nil {
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
		"task: non-zero exit (1): dockerexec: unhealthy container":                   "see what its health check said",
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
