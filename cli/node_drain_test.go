package cli

import (
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
)

func TestDrainWaitsUntilNothingRuns(t *testing.T) {
	f := cluster(t)
	f.tasks = []swarm.Task{{ID: "t1", Status: swarm.TaskStatus{State: swarm.TaskStateShutdown}}}
	out, stderr, code := f.run(t, "node", "drain", "--wait", "host2")
	if code != 0 || out != "host2\n" {
		t.Fatalf("exit %d: %s%s", code, out, stderr)
	}
	if n := f.nodes["node2xxxxxxxxxxxxxxxxxxxxx"]; n.Spec.Availability != "drain" || n.Spec.Role != "worker" {
		t.Errorf("spec: %+v", n.Spec)
	}
	if got := strings.Join(f.writes(), " "); got != "POST /nodes/node2xxxxxxxxxxxxxxxxxxxxx/update" {
		t.Errorf("sent %s", got)
	}

	f.tasks = append(f.tasks, swarm.Task{ID: "t2", Status: swarm.TaskStatus{State: swarm.TaskStateRunning}})
	_, stderr, code = f.run(t, "node", "drain", "--wait", "--wait-timeout", "300ms", "host2")
	if code != codeTimeout || !strings.Contains(stderr, "host2: 1 tasks left") || !strings.Contains(stderr, "1 tasks are left on node host2 after --wait-timeout 300ms") {
		t.Errorf("with a task that stays: exit %d: %s", code, stderr)
	}
}
