//go:build docker

package integration

import (
	"strings"
	"testing"
)

// TestDockerSeesNetworks is what the docker command line prints of networks, on
// a manager and on a worker, and what becomes of the places of containers.
func TestDockerSeesNetworks(t *testing.T) {
	s := formSite(t, 2, 1)
	manager, worker := s.Host(1), s.Host(2)
	id := docker(t, manager, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.77.0.0/24", "--label", "a=b", "front")
	docker(t, manager, "network", "create", "lan")
	for _, c := range []struct{ args, want string }{
		{"network ls --filter name=front --format {{.ID}}|{{.Name}}|{{.Driver}}|{{.Scope}}", id[:12] + "|front|overlay|swarm"},
		{"network ls --filter scope=local --filter name=^lan$ --format {{.Name}}|{{.Driver}}", "lan|bridge"},
		{"network inspect front --format {{.Id}}|{{range.IPAM.Config}}{{.Subnet}}{{end}}|{{.Attachable}}|{{.Labels.a}}", id + "|10.77.0.0/24|true|b"},
		{"network inspect lan --format {{.Driver}}", "bridge"},
	} {
		if got := docker(t, manager, strings.Fields(c.args)...); got != c.want {
			t.Errorf("docker %s: %s, want %s", c.args, got, c.want)
		}
	}
	if _, err := tryDocker(t, worker, "network", "inspect", "front"); err == nil {
		t.Error("a worker without a container on it knows front")
	}

	docker(t, worker, "run", "-d", "--name", "one", "--network", "front", "--network-alias", "uno", image)
	docker(t, manager, "run", "-d", "--name", "two", "--network", "front", "--ip", "10.77.0.77", image)
	for _, h := range s.Hosts() {
		if got := docker(t, h, "network", "ls", "--filter", "name=front", "--format", "{{.ID}}|{{.Name}}|{{.Driver}}|{{.Scope}}"); got != id[:12]+"|front|overlay|swarm" {
			t.Errorf("network ls on %s: %s", h.Name, got)
		}
	}
	if got := docker(t, worker, "network", "inspect", "front", "--format", "{{.Id}}|{{.Driver}}|{{.Attachable}}|{{.Internal}}|{{len .Containers}}"); got != id+"|overlay|true|false|1" {
		t.Errorf("inspect on the worker: %s", got)
	}
	for _, ask := range [][]string{{"two", "uno"}, {"two", "one"}} {
		waitFor(t, ask[0]+" to reach "+ask[1], func() (string, bool) {
			out, err := manager.Docker(t.Context(), "exec", ask[0], "/bin/web", "get", "http://"+ask[1]+":8080/")
			return out, err == nil
		})
	}
	for _, c := range []struct{ args, want string }{
		{"run --rm --network front --ip 10.77.0.77 " + image, "address 10.77.0.77 of network front is in use"},
		{"run --rm --network ingress " + image, "network ingress not manually attachable"},
		{"run --rm --network nowhere " + image, "network nowhere not found"},
	} {
		if out, err := tryDocker(t, worker, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error()+out, c.want) {
			t.Errorf("docker %s: %s, %v; want %q", c.args, out, err, c.want)
		}
	}
	if out, err := tryDocker(t, manager, "network", "rm", "front"); err == nil || !strings.Contains(err.Error()+out, "container two on "+manager.Name) {
		t.Errorf("front removed while it is in use: %s, %v", out, err)
	}

	docker(t, worker, "run", "-d", "--name", "three", image)
	docker(t, worker, "network", "connect", "front", "three")
	docker(t, worker, "stop", "-t", "0", "one")
	docker(t, worker, "start", "one")
	docker(t, worker, "network", "disconnect", "front", "three")
	docker(t, worker, "rm", "-f", "one", "three")
	docker(t, manager, "rm", "-f", "two")
	waitFor(t, "nothing to be on front", func() (string, bool) {
		out, err := tryDocker(t, manager, "network", "rm", "front")
		if err != nil {
			return err.Error(), false
		}
		return out, true
	})
	if out := docker(t, manager, "network", "prune", "-f"); !strings.Contains(out, "lan") || strings.Contains(out, "shoal_gw") {
		t.Errorf("prune: %s", out)
	}
}
