//go:build docker

package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"shoal/integration/lab"
)

// TestNetworks runs services on networks of five hosts, as a user would.
func TestNetworks(t *testing.T) {
	s := formSite(t, 5, 3)
	via := s.Host(1)
	docker(t, via, "network", "create", "-d", "overlay", "--attachable", "front")
	shoal(t, via, "network", "create", "--ipv6", "back")
	docker(t, via, "network", "create", "-d", "overlay", "--opt", "encrypted", "vault")
	shoal(t, via, "network", "create", "--internal", "inside")
	web := webSpec(t, s, "web", 5, "front")
	web.EndpointSpec.Ports = append(web.EndpointSpec.Ports, swarm.PortConfig{Protocol: "udp", TargetPort: 9000, PublishedPort: 9000})
	create(t, s.shoal[via], web)
	shoal(t, via, "service", "create", "--name", "client", "--mode", "global", "--network", "name=front,alias=asker", "--network", "back", image, "sleep", "1000000")
	shoal(t, via, "service", "create", "--name", "apart", "--replicas", "2", "--network", "inside", image)
	s.converged(t, via, "web", 5)
	s.converged(t, via, "client", 5)
	s.converged(t, via, "apart", 2)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *site)
	}{
		{"names mean what is on shared networks", names},
		{"a service answers at its address on all nodes", serviceAddress},
		{"published ports answer on every node and show the client", publishedPorts},
		{"an encrypted network carries and hides", encryptedNetwork},
		{"docker run joins an attachable network", attachedContainer},
		{"a scale-down takes tasks out of all answers", scaledDown},
		{"bad input changes nothing", networkRefusals},
		{"a full network says so and fills what becomes free", fullNetwork},
		{"networks go with the last task", networksGo},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, s) }) {
			return
		}
	}
}

// webSpec is the sample site on a network, published at 8080, with a health
// check, and with echoes on ports 9000/udp and 7000/tcp.
func webSpec(t testing.TB, s *site, name string, replicas uint64, network string) swarm.ServiceSpec {
	t.Helper()
	n, err := s.shoal[s.Host(1)].NetworkInspect(t.Context(), network, inspectSwarm)
	ok(t, err)
	web := spec(name, replicas, "/bin/web", "serve")
	web.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: n.ID}}
	web.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{Protocol: "tcp", TargetPort: 8080, PublishedPort: 8080}}}
	web.TaskTemplate.ContainerSpec.Env = []string{"UDP_ADDR=:9000", "ECHO_ADDR=:7000"}
	web.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{
		Test: []string{"CMD", "/bin/web", "check", "http://127.0.0.1:8080/healthz"}, Interval: 200 * time.Millisecond, Timeout: 5 * time.Second, Retries: 20,
	}
	return web
}

// containerOf is a running container of a service on h.
func (s *site) containerOf(t testing.TB, h *lab.Host, service string) string {
	t.Helper()
	var id string
	waitFor(t, "a container of "+service+" on "+h.Name, func() (string, bool) {
		ids, err := s.running(t, service, h)
		if err != nil || len(ids) == 0 {
			return fmt.Sprint(ids, err), false
		}
		id = ids[0]
		return id, true
	})
	return id
}

// in runs the sample program in the service's container on h.
func (s *site) in(t testing.TB, h *lab.Host, service string, args ...string) (string, error) {
	t.Helper()
	out, err := h.Docker(t.Context(), append([]string{"exec", s.containerOf(t, h, service), "/bin/web"}, args...)...)
	return strings.TrimSpace(out), err
}

// lookup asks for a name in the service's container on h.
func (s *site) lookup(t testing.TB, h *lab.Host, service, name string) []string {
	t.Helper()
	out, err := s.in(t, h, service, "lookup", name)
	if err != nil {
		return nil
	}
	return strings.Fields(out)
}

// vip is the address of a service on a network.
func (s *site) vip(t testing.TB, service, network string) string {
	t.Helper()
	api := s.shoal[s.Host(1)]
	n, err := api.NetworkInspect(t.Context(), network, inspectSwarm)
	ok(t, err)
	svc, _, err := api.ServiceInspectWithRaw(t.Context(), service, swarm.ServiceInspectOptions{})
	ok(t, err)
	for _, v := range svc.Endpoint.VirtualIPs {
		if v.NetworkID == n.ID {
			address, _, _ := strings.Cut(v.Addr, "/")
			return address
		}
	}
	t.Fatalf("%s has no address on %s: %v", service, network, svc.Endpoint)
	return ""
}

func names(t *testing.T, s *site) {
	vip := s.vip(t, "web", "front")
	for _, h := range s.Hosts() {
		waitFor(t, "names on "+h.Name, func() (string, bool) {
			web, tasks, alias := s.lookup(t, h, "client", "web"), s.lookup(t, h, "client", "tasks.web"), s.lookup(t, h, "client", "asker")
			saw := fmt.Sprint(web, tasks, alias)
			return saw, slices.Equal(web, []string{vip}) && len(tasks) == 5 && len(alias) == 1
		})
	}
	for _, name := range []string{"apart", "tasks.apart", "nobody"} {
		if got := s.lookup(t, s.Host(2), "client", name); len(got) > 0 {
			t.Errorf("%s is known as %v on networks that it is not on", name, got)
		}
	}
	if got := s.lookup(t, s.Host(3), "client", "client"); !slices.ContainsFunc(got, func(a string) bool { return strings.Contains(a, ":") }) {
		t.Errorf("client has addresses %v: none of IPv6, which network back has", got)
	}
}

// helloFrom is what the sample program says: who answers, and whom it sees.
var helloFrom = regexp.MustCompile(`hello from (\S+) version (\S+) to (\S+)`)

func serviceAddress(t *testing.T, s *site) {
	vip := s.vip(t, "web", "front")
	for _, h := range s.Hosts() {
		seen := map[string]bool{}
		waitFor(t, "all tasks of web to answer to "+h.Name, func() (string, bool) {
			out, err := s.in(t, h, "client", "get", "http://"+vip+":8080/", "20")
			for _, m := range helloFrom.FindAllStringSubmatch(out, -1) {
				seen[m[1]] = true
			}
			return fmt.Sprint(seen, err), len(seen) == 5
		})
	}
	// A task that asks its own service is answered by itself too.
	h := s.Host(4)
	if out, err := s.in(t, h, "web", "get", "http://web:8080/", "40"); err != nil || len(helloFrom.FindAllString(out, -1)) != 40 {
		t.Errorf("web asks itself: err %v\n%s", err, out)
	}
}

// ask is one GET over a new connection.
func ask(ctx context.Context, url string) (host, client string, err error) {
	transport := &http.Transport{DisableKeepAlives: true}
	c := http.Client{Transport: transport, Timeout: 5 * time.Second}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	var body [512]byte
	n, _ := resp.Body.Read(body[:])
	m := helloFrom.FindStringSubmatch(string(body[:n]))
	if m == nil {
		return "", "", fmt.Errorf("%s: %q", resp.Status, body[:n])
	}
	client, _, err = net.SplitHostPort(m[3])
	return m[1], client, err
}

func publishedPorts(t *testing.T, s *site) {
	web := program(t, "WEB_BIN", "shoal/examples/web")
	for _, h := range s.Hosts() {
		for _, at := range []struct{ url, client string }{
			{"http://" + net.JoinHostPort(h.Addr, "8080") + "/", s.GatewayAddr()},
			{"http://" + net.JoinHostPort(h.Addr6, "8080") + "/", s.GatewayAddr6()},
		} {
			seen := map[string]bool{}
			waitFor(t, "all tasks to answer at "+at.url, func() (string, bool) {
				host, client, err := ask(t.Context(), at.url)
				if err == nil && client != at.client {
					t.Errorf("%s at %s sees client %s, want %s", host, at.url, client, at.client)
				}
				seen[host] = err == nil
				return fmt.Sprint(seen, err), len(seen) >= 5
			})
		}
		for _, url := range []string{"http://127.0.0.1:8080/", "http://" + h.Addr + ":8080/", "http://[" + h.Addr6 + "]:8080/"} {
			for range 8 {
				if out, err := h.Run(t.Context(), web, "get", url); err != nil {
					t.Errorf("%s asks %s: %v %s", h.Name, url, err, out)
				}
			}
		}
		if out, err := s.in(t, h, "client", "get", "http://"+s.Host(1).Addr+":8080/", "10"); err != nil {
			t.Errorf("a container on %s asks the published port of h1: %v %s", h.Name, err, out)
		}
	}
	udpEcho(t, s)
}

func udpEcho(t *testing.T, s *site) {
	for _, h := range s.Hosts() {
		conn, err := net.Dial("udp", net.JoinHostPort(h.Addr, "9000"))
		ok(t, err)
		defer conn.Close()
		waitFor(t, "an echo from "+h.Name, func() (string, bool) {
			ok(t, conn.SetDeadline(time.Now().Add(time.Second)))
			_, err := conn.Write([]byte("ping"))
			var buf [256]byte
			n, readErr := conn.Read(buf[:])
			saw := fmt.Sprint(string(buf[:n]), err, readErr)
			return saw, strings.Contains(saw, s.GatewayAddr())
		})
	}
}
