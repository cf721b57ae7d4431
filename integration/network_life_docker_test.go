//go:build docker

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
)

// inspectSwarm asks for the cluster's network of a name, not the engine's half.
var inspectSwarm = network.InspectOptions{Scope: "swarm"}

// encryptedNetwork listens to the wire while two hosts talk over a sealed
// network: the words must not be there, in any frame.
func encryptedNetwork(t *testing.T, s *site) {
	via := s.Host(1)
	shoal(t, via, "service", "create", "--name", "safe", "--mode", "global", "--network", "vault", image)
	s.converged(t, via, "safe", 5)
	for _, h := range s.Hosts() {
		waitFor(t, h.Name+" to reach all tasks of safe", func() (string, bool) {
			seen := map[string]bool{}
			out, err := s.in(t, h, "safe", "get", "http://safe:8080/", "40")
			for _, m := range helloFrom.FindAllStringSubmatch(out, -1) {
				seen[m[1]] = true
			}
			return fmt.Sprint(seen, err), len(seen) == 5
		})
	}
	from, to := s.Host(4), s.Host(5)
	stop := s.listen(t, to)
	if out, err := s.in(t, from, "safe", "get", "http://safe:8080/?word=canary", "60"); err != nil {
		t.Errorf("ask over the sealed network: %v %s", err, out)
	}
	sealed, clear := stop()
	if sealed == 0 || clear > 0 {
		t.Errorf("h5 received %d packets of the tunnel and %d of VXLAN in the clear, want some and none", sealed, clear)
	}
	shoal(t, via, "service", "rm", "safe")
	s.awaitEmpty(t, "safe")
}

// listen counts what comes to a host by the tunnel and as VXLAN whose network
// is vault, from now until the returned function is called. The host's own
// rules are not touched: a table of the test's counts.
func (s *site) listen(t *testing.T, h interface {
	RunInput(ctx context.Context, stdin string, argv ...string) (string, error)
},
) (stop func() (sealed, clear int)) {
	t.Helper()
	vni := s.vni(t, "vault")
	_, err := h.RunInput(t.Context(), fmt.Sprintf(`table inet ears {
	counter sealed {}
	counter clear {}
	chain pre {
		type filter hook prerouting priority -1000;
		iifname "eth0" udp dport 7947 counter name sealed
		iifname "eth0" udp dport { 4789, 14789 } @th,96,24 %d counter name clear
	}
}
`, vni), "nft", "-f", "-")
	ok(t, err)
	return func() (int, int) {
		t.Helper()
		out, err := h.RunInput(t.Context(), "", "nft", "list", "counters", "table", "inet", "ears")
		ok(t, err)
		_, err = h.RunInput(t.Context(), "", "nft", "delete", "table", "inet", "ears")
		ok(t, err)
		return packets(out, "sealed"), packets(out, "clear")
	}
}

// packets reads one counter of nft's listing.
func packets(listing, name string) (n int) {
	_, after, _ := strings.Cut(listing, "counter "+name+" {")
	_, _ = fmt.Sscanf(strings.TrimSpace(after), "packets %d", &n) // 0 if it is not there
	return n
}

func (s *site) vni(t *testing.T, name string) int {
	t.Helper()
	n, err := s.shoal[s.Host(1)].NetworkInspect(t.Context(), name, inspectSwarm)
	ok(t, err)
	var vni int
	if _, err := fmt.Sscan(n.Options["com.docker.network.driver.overlay.vxlanid_list"], &vni); err != nil {
		t.Fatalf("network %s has options %v: %v", name, n.Options, err)
	}
	return vni
}

func attachedContainer(t *testing.T, s *site) {
	h := s.Host(5)
	docker(t, h, "run", "-d", "--name", "guest", "--network", "front", image)
	vip := s.vip(t, "web", "front")
	waitFor(t, "the guest to find web", func() (string, bool) {
		out, err := h.Docker(t.Context(), "exec", "guest", "/bin/web", "lookup", "web")
		return fmt.Sprint(out, err), strings.TrimSpace(out) == vip
	})
	if out, err := h.Docker(t.Context(), "exec", "guest", "/bin/web", "get", "http://web:8080/", "20"); err != nil {
		t.Errorf("the guest asks web: %v %s", err, out)
	}
	waitFor(t, "the guest to be found from another host", func() (string, bool) {
		out, err := s.in(t, s.Host(2), "client", "get", "http://guest:8080/", "2")
		return fmt.Sprint(out, err), err == nil
	})
	if out, err := tryDocker(t, h, "run", "-d", "--name", "intruder", "--network", "back", image); err == nil {
		t.Errorf("back is not attachable, and docker run was let in: %s", out)
	}
	docker(t, h, "rm", "-f", "guest")
	waitFor(t, "the guest to be forgotten", func() (string, bool) {
		got := s.lookup(t, s.Host(2), "client", "guest")
		return fmt.Sprint(got), len(got) == 0
	})
}

func scaledDown(t *testing.T, s *site) {
	via := s.Host(2)
	shoal(t, via, "service", "scale", "web=2")
	s.converged(t, via, "web", 2)
	for _, h := range s.Hosts() {
		got := s.lookup(t, h, "client", "tasks.web")
		if len(got) != 2 {
			t.Errorf("%s knows tasks.web as %v once the others have stopped", h.Name, got)
		}
	}
	shoal(t, via, "service", "scale", "web=5")
	s.converged(t, via, "web", 5)
}

func networkRefusals(t *testing.T, s *site) {
	via := s.Host(1)
	before := docker(t, via, "network", "ls", "--no-trunc")
	front, err := s.shoal[via].NetworkInspect(t.Context(), "front", inspectSwarm)
	ok(t, err)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"network", "create", "-d", "overlay", "front"}, "already exists"},
		{[]string{"network", "create", "-d", "overlay", "--subnet", front.IPAM.Config[0].Subnet, "twice"}, "overlap"},
		{[]string{"network", "create", "-d", "overlay", "--subnet", "10.77.0.0/31", "tiny"}, "10.77.0.0/31"},
		{[]string{"network", "create", "-d", "overlay", "--subnet", "10.252.9.0/24", "mesh"}, "mesh"},
		{[]string{"network", "create", "-d", "overlay", "--ingress", "second"}, "ingress"},
		{[]string{"network", "create", "-d", "overlay", "--opt", "colour=red", "opted"}, "colour"},
		{[]string{"network", "rm", "front"}, "in use by"},
		{[]string{"network", "rm", "nobody"}, "not found"},
		{[]string{"service", "create", "--name", "lost", "--network", "nobody", image}, "not found"},
		{[]string{"service", "create", "--name", "rival", "-p", "8080:80", image}, "already in use by service 'web'"},
		{[]string{"service", "create", "--name", "wish", "--network", "ingress", image}, "ingress"},
	} {
		out, err := tryDocker(t, via, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("docker %s: %q, err %v, want an error that says %q", strings.Join(c.args, " "), out, err, c.says)
		}
	}
	if after := docker(t, via, "network", "ls", "--no-trunc"); after != before {
		t.Errorf("networks before\n%s\nafter\n%s", before, after)
	}
}

// fullNetwork has room for a gateway, a service and four tasks: the others say
// what they wait for, and get what becomes free.
func fullNetwork(t *testing.T, s *site) {
	via := s.Host(1)
	shoal(t, via, "network", "create", "--subnet", "10.77.1.0/29", "tight")
	shoal(t, via, "service", "create", "-d", "--name", "many", "--replicas", "7", "--network", "tight", image)
	waitFor(t, "four tasks of many to run", func() (string, bool) {
		ids, err := s.running(t, "many", s.Hosts()...)
		return fmt.Sprint(ids, err), len(ids) == 4
	})
	const says = "network tight has no free IPv4 address"
	waitFor(t, "three tasks to say what they wait for", func() (string, bool) {
		out := docker(t, via, "service", "ps", "--no-trunc", "many")
		return out, strings.Count(out, says) == 3
	})
	if out := shoal(t, via, "why", "many"); !strings.Contains(out, says) {
		t.Errorf("shoal why many says\n%s", out)
	}
	shoal(t, via, "service", "create", "-d", "--name", "late", "--network", "tight", "--endpoint-mode", "dnsrr", image)
	shoal(t, via, "service", "scale", "-d", "many=2")
	s.converged(t, via, "late", 1)
	s.converged(t, via, "many", 2)
	shoal(t, via, "service", "rm", "many", "late")
	s.awaitEmpty(t, "many")
	s.awaitEmpty(t, "late")
	waitFor(t, "network tight to be free", func() (string, bool) {
		_, err := via.Shoal(t.Context(), "network", "rm", "tight")
		return fmt.Sprint(err), err == nil
	})
}

func networksGo(t *testing.T, s *site) {
	via := s.Host(1)
	for _, name := range []string{"web", "client", "apart"} {
		shoal(t, via, "service", "rm", name)
		s.awaitEmpty(t, name)
	}
	for _, h := range s.Hosts() {
		waitFor(t, h.Name+" to have no bridge or device of a network", func() (string, bool) {
			out, err := h.Run(t.Context(), "ip", "-br", "link")
			return fmt.Sprint(out, err), err == nil && !strings.Contains(out, "shoalb") && !strings.Contains(out, "shoalx")
		})
	}
	for _, name := range []string{"front", "back", "vault", "inside"} {
		waitFor(t, "network "+name+" to be free", func() (string, bool) {
			out, err := tryDocker(t, via, "network", "rm", name)
			return fmt.Sprint(out, err), err == nil
		})
	}
	left := strings.Fields(docker(t, via, "network", "ls", "--filter", "scope=swarm", "--format", "{{.Name}}"))
	if !slices.Equal(left, []string{"ingress"}) {
		t.Errorf("networks of the cluster at the end: %v", left)
	}
}
