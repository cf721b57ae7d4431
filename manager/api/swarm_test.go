package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/raftstore/state"
)

func clusterObject() *state.Cluster {
	return &state.Cluster{
		ClusterInfo: swarm.ClusterInfo{ID: "c1", Spec: defaultSwarmSpec(), DefaultAddrPool: []string{"10.0.0.0/8"}, SubnetSize: 24, DataPathPort: 4789},
		RootKey:     []byte("canary-root-key"), GossipKeys: [][]byte{[]byte("canary-gossip-key")}, OverlayKeys: [][]byte{[]byte("canary-overlay-key")},
		Tokens: state.Tokens{Worker: state.Token{Hash: []byte("canary-hash")}}, RootCert: []byte("root certificate"),
	}
}

func TestSwarmInspect(t *testing.T) {
	h := newHarness(t, clusterObject())
	got, err := h.docker.SwarmInspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.JoinTokens != (swarm.JoinTokens{Worker: "SHMTKN-1-worker", Manager: "SHMTKN-1-manager"}) || got.ID != "c1" ||
		got.TLSInfo.TrustRoot != "root certificate" || got.DataPathPort != 4789 {
		t.Errorf("swarm inspect: %+v", got)
	}
	if diff := cmp.Diff(defaultSwarmSpec(), got.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	key, err := h.docker.SwarmGetUnlockKey(t.Context())
	if err != nil || key.UnlockKey != "" {
		t.Errorf("unlock key %q, %v; want none", key.UnlockKey, err)
	}
}

func TestSwarmInspectWithoutCluster(t *testing.T) {
	h := newHarness(t)
	if status, text := h.call("GET", "/swarm", nil); status != http.StatusServiceUnavailable || !strings.Contains(text, "This node is not a swarm manager") {
		t.Errorf("%d %s", status, text)
	}
}

func TestSwarmUpdate(t *testing.T) {
	h := newHarness(t, clusterObject())
	spec := defaultSwarmSpec()
	spec.Orchestration.TaskHistoryRetentionLimit = new(int64(-1))
	spec.CAConfig.NodeCertExpiry = 2 * time.Hour
	spec.Labels = map[string]string{"a": "b"}
	if err := h.docker.SwarmUpdate(t.Context(), h.store.View().Cluster().Version, spec, swarm.UpdateFlags{}); err != nil {
		t.Fatal(err)
	}
	got := h.store.View().Cluster()
	if diff := cmp.Diff(spec, got.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if string(got.RootKey) != "canary-root-key" {
		t.Error("the update touched the keys")
	}
	if err := h.docker.SwarmUpdate(t.Context(), got.Version, swarm.Spec{Annotations: swarm.Annotations{Labels: spec.Labels}}, swarm.UpdateFlags{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spec, h.store.View().Cluster().Spec); diff != "" {
		t.Errorf("zero fields, the name among them, did not keep their value (-want +got):\n%s", diff)
	}
}

func TestTokenRotation(t *testing.T) {
	h := newHarness(t, clusterObject())
	version := h.store.View().Cluster().Version
	flags := swarm.UpdateFlags{RotateWorkerToken: true, RotateManagerToken: true}
	if err := h.docker.SwarmUpdate(t.Context(), version, defaultSwarmSpec(), flags); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]swarm.NodeRole{swarm.NodeRoleWorker, swarm.NodeRoleManager}, h.rotated); diff != "" {
		t.Errorf("rotated (-want +got):\n%s", diff)
	}
	version = h.store.View().Cluster().Version
	path := "/swarm/update?rotateWorkerToken=true&version=" + version.String()
	for range 2 {
		if status, text := h.call("POST", path, defaultSwarmSpec(), "X-Shoal-Request: once"); status != http.StatusOK || text != "" {
			t.Errorf("rotation under a request id: %d %s", status, text)
		}
	}
	if g := h.store.View().Cluster().Tokens.Worker.Generation; len(h.rotated) != 3 || g != 3 {
		t.Errorf("%d rotations to generation %d, want 3: the repetition must not rotate again", len(h.rotated), g)
	}
}
