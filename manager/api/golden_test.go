package api_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// TestGoldenJSON fixes the very bytes that clients get: names, order, what is
// left out when empty and what is not.
func TestGoldenJSON(t *testing.T) {
	web, webRev := statetest.Service("web", 2)
	h := newHarness(t, web, webRev, statetest.Node("n1", statetest.Manager, statetest.Label("zone", "x")), statetest.Node("n2", statetest.Down),
		statetest.Task("t1", "web", 1, "n1", func(t *state.Task) {
			t.Status.ContainerID, t.Status.PID, t.Status.Message = "c0ffee", 42, "started"
			t.Status.Ports = []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "host"}}
		}),
		statetest.Task("t2", "web", 2, "", statetest.Observed(taskstate.Pending)), clusterObject())
	h.peers = []api.Peer{{NodeID: "n1", Addr: "10.0.0.1:2377", Leader: true, Reachable: true}}
	if status, text := h.call("POST", "/services/create", fullSpec(), "X-Shoal-Request: golden"); status != 201 {
		t.Fatalf("create: %d %s", status, text)
	}
	for name, path := range map[string]string{
		"service": "/services/full", "service-defaults": "/services/web?insertDefaults=true", "services": `/services?status=true&filters={"name":["web"]}`,
		"node": "/nodes/n1", "nodes": "/nodes", "task": "/tasks/t1", "tasks": "/tasks", "swarm": "/swarm", "unlockkey": "/swarm/unlockkey",
		"missing": "/services/nope", "secrets": "/secrets", "why": "/shoal/v1/why/t2",
	} {
		_, text := h.call("GET", path, nil)
		golden(t, name, text)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(got), "", "  "); err != nil {
		t.Fatalf("%s: %v: %s", name, err, got)
	}
	got = regexp.MustCompile(`"20\d\d-[^"]*Z"`).ReplaceAllString(pretty.String(), `"TIME"`)
	got = regexp.MustCompile(`"(I[Dd])": "[0-9a-z]{25}"`).ReplaceAllString(got, `"$1": "RANDOM"`)
	file := filepath.Join("testdata", name+".golden.json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
