//go:build docker

package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/integration/lab"
)

// metricsPort is where every daemon of a site tells its metrics.
const metricsPort = "9323"

// site is a lab of hosts with real engines.
type site struct {
	*lab.Lab
	swarm   bool                         // Docker Swarm has formed it, for comparison
	shoal   map[*lab.Host]*client.Client // of whoever has formed the cluster
	engines map[*lab.Host]*client.Client
}

// newSite builds a lab of n hosts that have the sample image.
func newSite(t testing.TB, n int) *site {
	t.Helper()
	l := lab.ForTest(t, lab.Config{Hosts: n, Shoal: program(t, "SHOAL_BIN", "shoal")})
	if err := l.LoadImage(t.Context(), lab.WebImage(image, program(t, "WEB_BIN", "shoal/examples/web"))); err != nil {
		t.Fatal(err)
	}
	s := &site{Lab: l, shoal: map[*lab.Host]*client.Client{}, engines: map[*lab.Host]*client.Client{}}
	for _, h := range l.Hosts() {
		s.shoal[h], s.engines[h] = dial(t, h.ShoalSocket()), dial(t, h.DockerSocket())
	}
	return s
}

// formSite is newSite with a cluster on it.
func formSite(t testing.TB, hosts, managers int) *site {
	t.Helper()
	s := newSite(t, hosts)
	if err := s.FormShoal(t.Context(), managers, "--metrics-addr", net.JoinHostPort("0.0.0.0", metricsPort)); err != nil {
		t.Fatal(err)
	}
	s.awaitReady(t, s.Host(1), hosts)
	return s
}

// program is the one that the environment names, or else built here; under
// its own name, since the sample program heeds the name it is called by.
func program(t testing.TB, env, pkg string) string {
	t.Helper()
	if path := os.Getenv(env); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if err := lab.Build(t.Context(), pkg, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func dial(t testing.TB, socket string) *client.Client {
	t.Helper()
	api, err := client.NewClientWithOpts(client.WithHost("unix://"+socket), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	return api
}

// docker runs the stock docker command line on h's daemon.
func docker(t testing.TB, h *lab.Host, args ...string) string {
	t.Helper()
	out, err := tryDocker(t, h, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryDocker(t testing.TB, h *lab.Host, args ...string) (string, error) {
	t.Helper()
	out, err := h.Run(t.Context(), append([]string{"docker", "-H", "unix://" + h.ShoalSocket()}, args...)...)
	return strings.TrimSpace(out), err
}

// shoal runs shoal's command line on h's daemon.
func shoal(t testing.TB, h *lab.Host, args ...string) string {
	t.Helper()
	out, err := h.Shoal(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// awaitReady waits until n nodes are ready, and all there are, seen from via.
func (s *site) awaitReady(t testing.TB, via *lab.Host, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d nodes ready, seen from %s", n, via.Name), func() (string, bool) {
		nodes, err := s.shoal[via].NodeList(t.Context(), swarm.NodeListOptions{})
		if err != nil {
			return err.Error(), false
		}
		var saw []string
		ready, leaders := 0, 0
		for _, node := range nodes {
			saw = append(saw, describeNode(node))
			reachable := node.ManagerStatus == nil || node.ManagerStatus.Reachability == swarm.ReachabilityReachable
			if node.Status.State == swarm.NodeStateReady && reachable {
				ready++
			}
			if node.ManagerStatus != nil && node.ManagerStatus.Leader {
				leaders++
			}
		}
		return strings.Join(saw, "; "), ready == n && len(nodes) == n && leaders == 1
	})
}

// awaitDown waits until h is down, seen from via.
func (s *site) awaitDown(t testing.TB, via, h *lab.Host) {
	t.Helper()
	waitFor(t, h.Name+" to be down", func() (string, bool) {
		n, _, err := s.shoal[via].NodeInspectWithRaw(t.Context(), h.Name)
		return fmt.Sprint(n.Status, err), err == nil && n.Status.State == swarm.NodeStateDown
	})
}

// converged waits until n tasks of a service run, and as many containers, the
// same ones, on all engines of the site together.
func (s *site) converged(t testing.TB, via *lab.Host, service string, n int) []swarm.Task {
	t.Helper()
	return converged(t, s.shoal[via], service, n, func() ([]string, error) { return s.running(t, service, s.Hosts()...) })
}

// running are the ids of a service's containers that run on hosts, sorted.
func (s *site) running(t testing.TB, service string, hosts ...*lab.Host) ([]string, error) {
	t.Helper()
	var ids []string
	for _, h := range hosts {
		if !h.Engine().Running() {
			continue
		}
		list, err := s.engines[h].ContainerList(t.Context(), container.ListOptions{
			Filters: filters.NewArgs(filters.Arg("label", "com.docker.swarm.service.name="+service)),
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		for _, c := range list {
			ids = append(ids, c.ID)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// nodeID is the id of h in the cluster, as its own daemon says.
func (s *site) nodeID(t testing.TB, h *lab.Host) string {
	t.Helper()
	info, err := s.shoal[h].Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.Swarm.NodeID
}

// leader is the host that leads, as via sees it.
func (s *site) leader(t testing.TB, via *lab.Host) *lab.Host {
	t.Helper()
	var leader *lab.Host
	waitFor(t, "a leader", func() (string, bool) {
		nodes, err := s.shoal[via].NodeList(t.Context(), swarm.NodeListOptions{})
		for _, n := range nodes {
			if n.ManagerStatus != nil && n.ManagerStatus.Leader {
				leader = s.byName(n.Description.Hostname)
			}
		}
		return fmt.Sprint(err), leader != nil
	})
	return leader
}

func (s *site) byName(name string) *lab.Host {
	for _, h := range s.Hosts() {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// others are hosts without the one given.
func others(hosts []*lab.Host, without *lab.Host) []*lab.Host {
	return slices.DeleteFunc(slices.Clone(hosts), func(h *lab.Host) bool { return h == without })
}

// pass lets time go by, for tests in which nothing must happen meanwhile.
func pass(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// restartDaemon starts h's daemon again with the arguments of formSite.
func restartDaemon(t testing.TB, h *lab.Host) {
	t.Helper()
	if err := h.StartDaemon(t.Context(), "--metrics-addr", net.JoinHostPort("0.0.0.0", metricsPort)); err != nil {
		t.Fatal(err)
	}
}

// ok ends the test on an error.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
