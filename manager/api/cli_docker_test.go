//go:build docker

package api_test

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"shoal/manager/api"
	"shoal/raftstore/state/statetest"
)

// TestStockCLI drives the API with the docker command itself. It needs the
// command only, no engine.
func TestStockCLI(t *testing.T) {
	h := newHarness(t, clusterObject(), statetest.Node("m1", statetest.Manager), statetest.Node("w1"))
	h.peers = []api.Peer{{NodeID: "m1", Addr: "10.0.0.1:2377", Leader: true, Reachable: true}}
	server := httptest.NewServer(besideEngine(serve(h.api)))
	t.Cleanup(server.Close)
	for _, c := range []struct{ command, want string }{
		{"service create -d -q --name web --replicas 3 --mount type=volume,source=data,target=/data --publish mode=host,target=80,published=8080 --constraint node.role==worker web:1", ""},
		{"service create -d --name other -p 80:80 web:1", "service needs ingress network, but no ingress network is present"},
		{"service create -d --name web web:1", "name conflicts with an existing object: service web already exists"},
		{"service ls", "web       replicated   0/3        web:1"},
		{"service ps web", "ID        NAME      IMAGE     NODE      DESIRED STATE"},
		{"service inspect --pretty web", "PublishedPort = 8080"},
		{"service update -d --image web:2 web", "web"},
		{"service scale -d web=5", "web scaled to 5"},
		{"service rollback -d web", "web"},
		{"service inspect --format {{.UpdateStatus.Message}} web", "manually requested rollback"},
		{"service update -d --constraint-add node.role=worker web", "constraint expected one operator from ==, !="},
		{"node ls", "m1 *      m1         Ready     Active         Leader"},
		{"node update --availability drain --label-add a=b w1", "w1"},
		{"node inspect --format {{.Spec.Availability}} w1", "drain"},
		{"node promote w1", "Node w1 promoted to a manager in the swarm."},
		{"node rm w1", "must be demoted to worker before removal"},
		{"swarm join-token worker", "docker swarm join --token SHMTKN-1-worker 10.0.0.1:2377"},
		{"swarm join-token --rotate -q manager", "SHMTKN-1-manager"},
		{"swarm update --task-history-limit 3", "Swarm updated."},
		{"swarm update --autolock", "AutoLockManagers: not supported"},
		{"swarm unlock-key", "no unlock key is set"},
		{"secret ls", "ID        NAME"},
		{"service rm web", "web"},
		{"service rm web", "service web not found"},
	} {
		args := append([]string{"-H", "tcp://" + server.Listener.Addr().String()}, strings.Fields(c.command)...)
		out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("docker %s: %v\n%swant %q", c.command, err, out, c.want)
		}
	}
	if len(h.rotated) != 1 {
		t.Errorf("%d tokens rotated, want 1", len(h.rotated))
	}
}

// besideEngine answers the little that the command asks of an engine.
func besideEngine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := api.SplitVersion(r.URL.Path)
		switch {
		case path == "/_ping":
			w.Header().Set("Api-Version", api.MaxVersion)
			w.Header().Set("Ostype", "linux")
		case path == "/info":
			_, _ = w.Write([]byte(`{"Swarm":{"NodeID":"m1","ControlAvailable":true,"LocalNodeState":"active"}}`))
		case strings.HasPrefix(path, "/distribution/"):
			http.Error(w, `{"message":"no registry here"}`, http.StatusNotFound)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
