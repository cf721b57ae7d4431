//go:build docker

package integration

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/integration/lab"
)

// TestNodesGetOtherAddresses gives a worker and a manager other addresses while
// their tasks serve.
func TestNodesGetOtherAddresses(t *testing.T) {
	s := newSite(t, 4)
	for _, h := range s.Hosts() {
		ok(t, h.StartDaemon(t.Context(), "--metrics-addr", net.JoinHostPort("0.0.0.0", metricsPort), "--listen-addr", "eth0", "--advertise-addr", "eth0"))
	}
	via := s.Host(1)
	shoal(t, via, "init")
	for i, h := range s.Hosts()[1:] {
		role := []string{"manager", "manager", "worker"}[i]
		shoal(t, h, "join", "--token", shoal(t, via, "join-token", "-q", role), net.JoinHostPort(via.Addr, lab.ClusterPort))
	}
	s.awaitReady(t, via, 4)
	shoal(t, via, "network", "create", "front")
	shoal(t, via, "network", "create", "--opt", "encrypted", "vault")
	shoal(t, via, "service", "create", "--name", "web", "--mode", "global", "--network", "front", "--network", "vault", "--publish", "8080:8080",
		"--constraint", "node.hostname!=h1", "--constraint", "node.hostname!=h2", image)
	shoal(t, via, "service", "create", "--name", "client", "--mode", "global", "--network", "front", image, "sleep", "1000000")
	shoal(t, via, "service", "create", "--name", "spy", "--mode", "global", "--network", "vault", image, "sleep", "1000000")
	s.converged(t, via, "web", 2)
	s.converged(t, via, "client", 4)
	s.converged(t, via, "spy", 4)
	s.whole(t, "at the beginning")
	before, err := s.running(t, "web", s.Hosts()...)
	ok(t, err)
	for i, h := range []*lab.Host{s.Host(4), s.Host(3)} {
		ok(t, h.Renumber(t.Context(), 40+i))
		waitFor(t, h.Name+" to be known at "+h.Addr, func() (string, bool) {
			n, _, err := s.shoal[via].NodeInspectWithRaw(t.Context(), h.Name)
			manager := n.ManagerStatus == nil || n.ManagerStatus.Addr == net.JoinHostPort(h.Addr, lab.ClusterPort)
			return fmt.Sprintf("%+v %+v %v", n.Status, n.ManagerStatus, err), err == nil && n.Status.State == swarm.NodeStateReady && n.Status.Addr == h.Addr && manager
		})
		s.awaitReady(t, via, 4)
		s.whole(t, "once "+h.Name+" has another address")
		for _, from := range s.Hosts() {
			waitFor(t, from.Name+" to reach web over the encrypted network", func() (string, bool) {
				out, err := s.in(t, from, "spy", "get", "http://web:8080/", "12")
				seen := map[string]bool{}
				for _, m := range helloFrom.FindAllStringSubmatch(out, -1) {
					seen[m[1]] = true
				}
				return fmt.Sprint(seen, err), err == nil && len(seen) == 2
			})
		}
	}
	after, err := s.running(t, "web", s.Hosts()...)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("err %v, containers %v before and %v after", err, before, after)
	}
	// The manager at its new address is a full one: its vote counts.
	ok(t, via.Daemon().Kill9())
	waitFor(t, "writes through h3", func() (string, bool) {
		_, err := s.Host(3).Shoal(t.Context(), "node", "update", "--label-add", "moved=yes", "h4")
		return fmt.Sprint(err), err == nil
	})
}
