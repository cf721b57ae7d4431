package api_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// badCluster is what bad input meets: two managers of three reachable, so that
// none can be demoted, and a worker.
func badCluster(t *testing.T) *harness {
	cluster := &state.Cluster{ClusterInfo: swarm.ClusterInfo{ID: "c1", Spec: defaultSwarmSpec()}}
	web, webRev := statetest.Service("web", 1)
	agent, agentRev := statetest.Service("agent", 0, statetest.Global)
	web2, web2Rev := statetest.Service("wec", 1)
	owner, ownerRev := statetest.Service("owner", 1)
	owner.Endpoint.Ports = []swarm.PortConfig{
		{Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "ingress"}, {Protocol: "tcp", TargetPort: 81, PublishedPort: 8081, PublishMode: "host"},
	}
	h := newHarness(t, cluster, web, webRev, agent, agentRev, web2, web2Rev, owner, ownerRev,
		overlayOf("ingressid", "ingress", "10.0.0.0/24"), overlayOf("frontid", "front", "10.0.1.0/24"), overlayOf("fullid", "full", "10.0.2.0/30"),
		&state.Attachment{ID: "guest", NetworkID: "fullid", NodeID: "w1", Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.2.2/30")}},
		statetest.Node("m1", statetest.Manager), statetest.Node("m2", statetest.Manager), statetest.Node("m3", statetest.Manager, statetest.Down),
		statetest.Node("w1"), statetest.Node("w2"), statetest.Task("t1", "web", 1, "w1"), statetest.Task("t2", "web", 1, ""))
	h.peers = []api.Peer{{NodeID: "m1", Leader: true, Reachable: true}, {NodeID: "m2", Reachable: true}, {NodeID: "m3"}}
	return h
}

// overlayOf is a network with one subnet.
func overlayOf(id, name, subnet string) *state.Network {
	p := netip.MustParsePrefix(subnet)
	n := &state.Network{Pools: []state.Pool{{Subnet: p, Gateway: p.Addr().Next()}}}
	n.ID, n.Spec.Name, n.Spec.Ingress = id, name, name == "ingress"
	return n
}

func defaultSwarmSpec() swarm.Spec {
	return swarm.Spec{
		Annotations:   swarm.Annotations{Name: "default", Labels: map[string]string{}},
		Orchestration: swarm.OrchestrationConfig{TaskHistoryRetentionLimit: new(int64(5))},
		Raft:          swarm.RaftConfig{SnapshotInterval: 10000, KeepOldSnapshots: new(uint64(0)), LogEntriesForSlowFollowers: 500, ElectionTick: 10, HeartbeatTick: 1},
		Dispatcher:    swarm.DispatcherConfig{HeartbeatPeriod: 5 * time.Second},
		CAConfig:      swarm.CAConfig{NodeCertExpiry: 90 * 24 * time.Hour},
	}
}

// refused sends a request and expects a refusal in Docker's form.
func (h *harness) refused(name, method, path string, body any, headers []string, status int, message string) {
	h.Helper()
	gotStatus, text := h.call(method, path, body, headers...)
	if gotStatus != status || !strings.Contains(text, strings.ReplaceAll(strings.ReplaceAll(message, `\`, `\\`), `"`, `\"`)) || !strings.HasPrefix(text, `{"message":"`) {
		h.Errorf("%s: %s %s: %d %s; want %d and %q", name, method, path, gotStatus, strings.TrimSpace(text), status, message)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	h := badCluster(t)
	before := h.hash()
	version := func(name string) string { return "version=" + h.service(name).Version.String() }
	node := func(id string) string {
		return "/nodes/" + id + "/update?version=" + h.store.View().Node(id).Version.String()
	}
	cluster := "/swarm/update?version=" + h.store.View().Cluster().Version.String()
	web, webUpdate := webSpec("web", 1), "/services/web/update?"+version("web")
	worker := swarm.NodeSpec{Role: swarm.NodeRoleWorker, Availability: swarm.NodeAvailabilityActive}
	swarmSpec := func(change func(*swarm.Spec)) swarm.Spec {
		s := defaultSwarmSpec()
		change(&s)
		return s
	}
	type headers = []string
	for _, c := range []struct {
		name, method, path string
		body               any
		headers            []string
		status             int
		message            string
	}{
		{"too new", "GET", "/v1.99/services", nil, nil, 400, "client version 1.99 is too new. Maximum supported API version is 1.51"},
		{"too old", "GET", "/v1.12/services", nil, nil, 400, "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"plain text body", "POST", "/services/create", "x", headers{"Content-Type: text/plain"}, 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"no content type", "POST", "/services/create", "{}", headers{"Content-Type: "}, 400, "must be 'application/json'"},
		{"not JSON", "POST", "/services/create", "{nope", nil, 400, "invalid JSON: invalid character"},
		{"blank body", "POST", "/services/create", " ", nil, 400, "invalid JSON: got EOF while reading request body"},
		{"cut body", "POST", "/services/create", `{"Name":"x"`, nil, 400, "invalid JSON: unexpected EOF"},
		{"more than JSON", "POST", "/services/create", `{"Name":"x"}{}`, nil, 400, "unexpected content after JSON"},
		{"array body", "POST", "/services/create", "[]", nil, 400, "invalid JSON: json: cannot unmarshal array"},
		{"wrong type", "POST", "/services/create", `{"Name":1}`, nil, 400, "invalid JSON: json: cannot unmarshal number"},
		{"negative MaxConcurrent", "POST", "/services/create", `{"Mode":{"ReplicatedJob":{"MaxConcurrent":-1}}}`, nil, 400, "invalid JSON: json: cannot unmarshal number -1"},
		{"negative TotalCompletions", "POST", "/services/create", `{"Mode":{"ReplicatedJob":{"TotalCompletions":-1}}}`, nil, 400, "invalid JSON: json: cannot unmarshal number -1"},
		{"MaxConcurrent beyond all numbers", "POST", "/services/create", `{"Mode":{"ReplicatedJob":{"MaxConcurrent":99999999999999999999}}}`, nil, 400, "invalid JSON: json: cannot unmarshal number 99999999999999999999"},
		{"fractional MaxConcurrent", "POST", "/services/create", `{"Mode":{"ReplicatedJob":{"MaxConcurrent":1.5}}}`, nil, 400, "invalid JSON: json: cannot unmarshal number 1.5"},
		{"negative replicas", "POST", "/services/create", `{"Mode":{"Replicated":{"Replicas":-1}}}`, nil, 400, "invalid JSON: json: cannot unmarshal number -1"},
		{"unknown field", "POST", "/services/create", `{"Name":"x","Replicas":3}`, nil, 400, `unknown field "Replicas"`},
		{"unknown inner field", "POST", "/services/create", `{"TaskTemplate":{"Resources":{"SwapBytes":3}}}`, nil, 400, `unknown field "SwapBytes"`},
		{"huge body", "POST", "/services/create", `{"Name":"` + strings.Repeat("x", 5<<20) + `"}`, nil, 400, "the body is larger than 4194304 bytes"},
		{"empty object", "POST", "/services/create", "{}", nil, 400, "mismatched Runtime and *Spec fields"},
		{"no body", "POST", "/services/create", nil, nil, 400, "mismatched Runtime and *Spec fields"},
		{"auth not base64", "POST", "/services/create", web, headers{"X-Registry-Auth: %%%"}, 400, "invalid X-Registry-Auth header"},
		{"auth not JSON", "POST", "/services/create", web, headers{"X-Registry-Auth: aGVsbG8="}, 400, "invalid X-Registry-Auth header"},
		{"request id", "POST", "/services/create", webSpec("new", 1), headers{"X-Shoal-Request: a b"}, 400, "invalid X-Shoal-Request header"},
		{"long request id", "POST", "/services/create", webSpec("new", 1), headers{"X-Shoal-Request: " + strings.Repeat("a", 65)}, 400, "invalid X-Shoal-Request header"},
		{"name taken", "POST", "/services/create", web, nil, 409, "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists"},

		{"no version", "POST", "/services/web/update", web, nil, 400, "invalid service version ''"},
		{"bad version", "POST", "/services/web/update?version=x", web, nil, 400, "invalid service version 'x'"},
		{"negative version", "POST", "/services/web/update?version=-1", web, nil, 400, "invalid service version '-1'"},
		{"stale version", "POST", "/services/web/update?version=1", web, nil, 500, "rpc error: code = Unknown desc = update out of sequence"},
		{"update of nothing", "POST", "/services/nope/update?version=1", web, nil, 404, "service nope not found"},
		{"ambiguous update", "POST", "/services/we/update?version=1", web, nil, 400, "service we is ambiguous (2 matches found)"},
		{"renaming", "POST", webUpdate, webSpec("web2", 1), nil, 501, "rpc error: code = Unimplemented desc = renaming services is not supported"},
		{"update without name", "POST", webUpdate, webSpec("", 1), nil, 501, "renaming services is not supported"},
		{"mode change", "POST", "/services/agent/update?" + version("agent"), webSpec("agent", 1), nil, 501, "service mode change is not allowed"},
		{"no rollback", "POST", webUpdate + "&rollback=previous", web, nil, 400, "rpc error: code = FailedPrecondition desc = service web does not have a previous spec"},
		{"unknown rollback", "POST", webUpdate + "&rollback=next", web, nil, 500, "unrecognized rollback option next"},
		{"unknown auth source", "POST", webUpdate + "&registryAuthFrom=me", web, nil, 400, "invalid registryAuthFrom"},
		{"no previous auth", "POST", webUpdate + "&registryAuthFrom=previous-spec", web, nil, 500, "service does not have a previous spec"},
		{"unknown service", "GET", "/services/nope", nil, nil, 404, "service nope not found"},
		{"bad insertDefaults", "GET", "/services/web?insertDefaults=maybe", nil, nil, 400, "invalid value for insertDefaults: maybe"},
		{"bad status", "GET", "/services?status=maybe", nil, nil, 400, "invalid value for status: maybe"},
		{"removal of nothing", "DELETE", "/services/nope", nil, nil, 404, "service nope not found"},
		{"ambiguous removal", "DELETE", "/services/we", nil, nil, 400, "service we is ambiguous (2 matches found)"},

		{"service filter", "GET", `/services?filters={"color":["red"]}`, nil, nil, 400, "invalid filter 'color'"},
		{"filter not JSON", "GET", "/services?filters=x", nil, nil, 400, "invalid filter"},
		{"filter of numbers", "GET", `/services?filters={"name":[1]}`, nil, nil, 400, "invalid filter"},
		{"node filter", "GET", `/nodes?filters={"color":["red"]}`, nil, nil, 400, "invalid filter 'color'"},
		{"role filter", "GET", `/nodes?filters={"role":["boss"]}`, nil, nil, 500, "Invalid role filter: 'boss'"},
		{"membership filter", "GET", `/nodes?filters={"membership":["maybe"]}`, nil, nil, 500, "Invalid membership filter: 'maybe'"},
		{"task filter", "GET", `/tasks?filters={"color":["red"]}`, nil, nil, 400, "invalid filter 'color'"},
		{"desired-state filter", "GET", `/tasks?filters={"desired-state":["joy"]}`, nil, nil, 500, "Invalid desired-state filter: 'joy'"},
		{"tasks of no service", "GET", `/tasks?filters={"service":["nope"]}`, nil, nil, 404, "service nope not found"},
		{"tasks of no node", "GET", `/tasks?filters={"node":["nope"]}`, nil, nil, 404, "node nope not found"},
		{"secret filter", "GET", `/secrets?filters={"color":["red"]}`, nil, nil, 400, "invalid filter 'color'"},
		{"unknown task", "GET", "/tasks/nope", nil, nil, 404, "task nope not found"},
		{"ambiguous task", "GET", "/tasks/t", nil, nil, 400, "task t is ambiguous (2 matches found)"},

		{"unknown node", "GET", "/nodes/nope", nil, nil, 404, "node nope not found"},
		{"ambiguous node", "GET", "/nodes/m", nil, nil, 400, "node m is ambiguous (3 matches found)"},
		{"node without version", "POST", "/nodes/w1/update", worker, nil, 400, "invalid node version ''"},
		{"stale node version", "POST", "/nodes/w1/update?version=1", worker, nil, 500, "update out of sequence"},
		{"update of no node", "POST", "/nodes/nope/update?version=1", worker, nil, 404, "node nope not found"},
		{"role", "POST", node("w1"), swarm.NodeSpec{Role: "boss", Availability: "active"}, nil, 400, `invalid Role: "boss"`},
		{"no role", "POST", node("w1"), swarm.NodeSpec{Availability: "active"}, nil, 400, `invalid Role: ""`},
		{"availability", "POST", node("w1"), swarm.NodeSpec{Role: "worker", Availability: "busy"}, nil, 400, `invalid Availability: "busy"`},
		{"no availability", "POST", node("w1"), swarm.NodeSpec{Role: "worker"}, nil, 400, `invalid Availability: ""`},
		{"node label", "POST", node("w1"), `{"Role":"worker","Availability":"active","Labels":{"":"x"}}`, nil, 400, "a label needs a key"},
		{"node field", "POST", node("w1"), `{"Role":"worker","Availability":"active","Zone":"x"}`, nil, 400, `unknown field "Zone"`},
		{"demotion without quorum", "POST", node("m2"), worker, nil, 400, "can't remove member from the raft: this would result in a loss of quorum"},
		{"removal of a ready node", "DELETE", "/nodes/w1", nil, nil, 400, "rpc error: code = FailedPrecondition desc = node w1 is not down and can't be removed"},
		{"removal without force", "DELETE", "/nodes/w1?force=0", nil, nil, 400, "is not down and can't be removed"},
		{"removal of a manager", "DELETE", "/nodes/m3?force=1", nil, nil, 400, "node m3 is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"},
		{"removal of no node", "DELETE", "/nodes/nope", nil, nil, 404, "node nope not found"},

		{"swarm without version", "POST", "/swarm/update", defaultSwarmSpec(), nil, 400, "invalid swarm version ''"},
		{"stale swarm version", "POST", "/swarm/update?version=9999", defaultSwarmSpec(), nil, 500, "update out of sequence"},
		{"swarm name", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Name = "other" }), nil, 400, "modification of cluster name is not allowed"},
		{"certificate expiry", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.CAConfig.NodeCertExpiry = time.Minute }), nil, 400, "minimum certificate expiry time is: 1h0m0s"},
		{"heartbeat", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Dispatcher.HeartbeatPeriod = -1 }), nil, 400, "heartbeat time period cannot be a negative duration"},
		{"other heartbeat", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Dispatcher.HeartbeatPeriod = time.Second }), nil, 501, "Dispatcher.HeartbeatPeriod: not supported"},
		{"snapshot interval", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.SnapshotInterval = 1 }), nil, 501, "Raft.SnapshotInterval: not supported"},
		{"old snapshots", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.KeepOldSnapshots = new(uint64(3)) }), nil, 501, "Raft.KeepOldSnapshots: not supported"},
		{"log entries", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.LogEntriesForSlowFollowers = 3 }), nil, 501, "Raft.LogEntriesForSlowFollowers: not supported"},
		{"election tick", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.ElectionTick = 3 }), nil, 501, "Raft.ElectionTick: not supported"},
		{"heartbeat tick", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.HeartbeatTick = 3 }), nil, 501, "Raft.HeartbeatTick: not supported"},
		{"external CA", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.CAConfig.ExternalCAs = []*swarm.ExternalCA{{}} }), nil, 501, "CAConfig.ExternalCAs: not supported"},
		{"own CA", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.CAConfig.SigningCAKey = "x" }), nil, 501, "SigningCAKey: not supported"},
		{"CA rotation", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.CAConfig.ForceRotate = 1 }), nil, 501, "CAConfig.ForceRotate: not supported"},
		{"autolock", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.EncryptionConfig.AutoLockManagers = true }), nil, 501, "AutoLockManagers: not supported"},
		{"default log driver", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.TaskDefaults.LogDriver = &swarm.Driver{Name: "syslog"} }), nil, 501, "TaskDefaults.LogDriver: not supported"},
		{"rotation", "POST", cluster + "&rotateWorkerToken=maybe", defaultSwarmSpec(), nil, 400, "invalid value for rotateWorkerToken: maybe"},
		{"manager rotation", "POST", cluster + "&rotateManagerToken=2", defaultSwarmSpec(), nil, 400, "invalid value for rotateManagerToken: 2"},
		{"unlock key rotation", "POST", cluster + "&rotateManagerUnlockKey=true", defaultSwarmSpec(), nil, 501, "rotateManagerUnlockKey: not supported"},
		{"unlock key rotation value", "POST", cluster + "&rotateManagerUnlockKey=x", defaultSwarmSpec(), nil, 400, "invalid value for rotateManagerUnlockKey: x"},

		{"unknown secret", "GET", "/secrets/x", nil, nil, 404, "secret x not found"},
		{"removal of no config", "DELETE", "/configs/x", nil, nil, 404, "config x not found"},
		{"update of no secret", "POST", "/secrets/x/update?version=1", swarm.SecretSpec{}, nil, 404, "secret x not found"},
		{"why nothing", "GET", "/shoal/v1/why/nope", nil, nil, 404, "no task or service nope"},
		{"why ambiguous", "GET", "/shoal/v1/why/t", nil, nil, 400, "task t is ambiguous (2 matches found)"},
	} {
		h.refused(c.name, c.method, c.path, c.body, c.headers, c.status, c.message)
	}
	if after := h.hash(); after != before || len(h.rotated) != 0 {
		t.Errorf("a refused request changed the state, or rotated %v", h.rotated)
	}
}

func TestLastManagerIsNotDemoted(t *testing.T) {
	h := newHarness(t, statetest.Node("m1", statetest.Manager), statetest.Node("w1"))
	h.peers = []api.Peer{{NodeID: "m1", Leader: true, Reachable: true}}
	n := h.store.View().Node("m1")
	h.refused("last manager", "POST", "/nodes/m1/update?version="+n.Version.String(),
		swarm.NodeSpec{Role: swarm.NodeRoleWorker, Availability: swarm.NodeAvailabilityActive}, nil,
		http.StatusBadRequest, "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm")
}
