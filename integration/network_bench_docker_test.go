//go:build docker

package integration

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/integration/lab"
)

// Ports of the service that these benchmarks talk to. What is compared goes to
// a port of its own: to the same one, connections by two ways may have the same
// addresses at the backend, and conntrack would have to tell them apart.
const (
	byVIPPort    = 7000
	directPort   = 7001
	byMeshPort   = 7002
	onHostPort   = 7003
	sinkPort     = 7100
	rounds       = 5
	streamTime   = 15 * time.Second // of each way, all rounds together
	knockingTime = time.Minute      // more than TIME-WAIT, so that ports come round again
)

// benchTime is d, or what SHOAL_BENCH_SECONDS says: a few show that it works.
func benchTime(b *testing.B, d time.Duration) time.Duration {
	b.Helper()
	text := os.Getenv("SHOAL_BENCH_SECONDS")
	if text == "" {
		return d
	}
	seconds, err := strconv.ParseFloat(text, 64)
	ok(b, err)
	return time.Duration(seconds * float64(time.Second))
}

// way is one of several to the same backend, and what is measured on it.
type way struct {
	name    string
	measure func(seconds string) float64
}

// figures are what was measured, by way and round.
type figures map[string][]float64

// interleave measures each way in turn, in every other round backwards, so that
// what the machine does besides is in all.
func interleave(b *testing.B, total time.Duration, ways ...way) figures {
	b.Helper()
	seconds := fmt.Sprintf("%.2f", benchTime(b, total).Seconds()/rounds)
	f := figures{}
	for round := range rounds {
		turn := slices.Clone(ways)
		if round%2 == 1 {
			slices.Reverse(turn)
		}
		for _, w := range turn {
			f[w.name] = append(f[w.name], w.measure(seconds))
		}
	}
	return f
}

// report gives the median of each way, divided by unit, and says all.
func (f figures) report(b *testing.B, per float64, unit string) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // says nothing here
	for name, list := range f {
		b.Logf("%s: %.0f", name, list)
		b.ReportMetric(median(slices.Clone(list))/per, unit+"-"+name)
	}
}

// ratio is how one way does beside another: the median over the rounds, since
// the two of a round had the same machine to share.
func (f figures) ratio(way, baseline string) float64 {
	var list []float64
	for round := range f[way] {
		list = append(list, f[way][round]/f[baseline][round])
	}
	return median(list)
}

// networkSite has hosts with a container each of service client on network
// front, and the one of service server on h2.
func networkSite(b *testing.B, hosts int) *site {
	b.Helper()
	s := formSite(b, hosts, 1)
	via := s.Host(1)
	shoal(b, via, "network", "create", "front")
	front, err := s.shoal[via].NetworkInspect(b.Context(), "front", inspectSwarm)
	ok(b, err)
	on := []swarm.NetworkAttachmentConfig{{Target: front.ID}}

	client := spec("client", 0, "/bin/sleep", "1000000")
	client.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
	client.TaskTemplate.Networks = on
	// A client that closes first and has one server needs its ports back before
	// a minute is over. By default, only those of loopback are.
	client.TaskTemplate.ContainerSpec.Sysctls = map[string]string{"net.ipv4.tcp_tw_reuse": "1"}
	create(b, s.shoal[via], client)

	server := spec("server", 1, "/bin/web", "serve")
	server.TaskTemplate.Networks = on
	server.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"node.hostname == h2"}}
	server.TaskTemplate.ContainerSpec.Env = []string{
		fmt.Sprintf("ECHO_ADDR=:%d :%d :%d :%d", byVIPPort, directPort, byMeshPort, onHostPort), fmt.Sprintf("SINK_ADDR=:%d", sinkPort),
	}
	server.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{
		{Protocol: "tcp", TargetPort: byMeshPort, PublishedPort: byMeshPort},
		{Protocol: "tcp", TargetPort: onHostPort, PublishedPort: onHostPort, PublishMode: swarm.PortConfigPublishModeHost},
	}}
	create(b, s.shoal[via], server)
	s.converged(b, via, "client", hosts)
	s.converged(b, via, "server", 1)
	return s
}

func at(addr string, port int) string { return net.JoinHostPort(addr, strconv.Itoa(port)) }

// backend is the address of the server's task on front.
func (s *site) backend(b *testing.B) string {
	b.Helper()
	var addr string
	waitFor(b, "the address of server's task", func() (string, bool) {
		found := s.lookup(b, s.Host(1), "client", "tasks.server")
		if len(found) == 1 {
			addr = found[0]
		}
		return fmt.Sprint(found), addr != ""
	})
	return addr
}

// answers waits until an echo is reached from the client on h1.
func (s *site) answers(b *testing.B, addr string) {
	b.Helper()
	waitFor(b, addr+" to answer", func() (string, bool) {
		out, err := s.in(b, s.Host(1), "client", "knock", addr, "0.01")
		return fmt.Sprint(out, err), strings.Contains(out, " failed 0 ")
	})
}

// stream is a way from the client on h1 to a sink, measured in bytes a second.
func (s *site) stream(b *testing.B, name, addr string) way {
	b.Helper()
	return way{name, func(seconds string) float64 {
		out, err := s.in(b, s.Host(1), "client", "send", at(addr, sinkPort), seconds)
		ok(b, err)
		rate, err := strconv.ParseFloat(out, 64)
		ok(b, err)
		return rate
	}}
}

// gigabit is one in bytes.
const gigabit = 1e9 / 8

// BenchmarkOverlayThroughput streams from a container on h1 to one on h2: over
// a network of the cluster, over a VXLAN made by hand with a bridge and pairs
// of links as any container has them, and over a VXLAN device right inside of
// both containers. All three are on eth0 of the hosts and have the same MTU.
func BenchmarkOverlayThroughput(b *testing.B) {
	s := networkSite(b, 2)
	backend := s.backend(b)
	s.answers(b, at(backend, directPort))
	s.plumb(b, "client", "server")
	s.answers(b, at(alike.addr(2), directPort))
	s.answers(b, at(bare.addr(2), directPort))
	rates := interleave(b, streamTime, s.stream(b, "overlay", backend), s.stream(b, "alike", alike.addr(2)), s.stream(b, "bare", bare.addr(2)))
	rates.report(b, gigabit, "Gbit/s")
	b.ReportMetric(rates.ratio("overlay", "alike"), "ratio")
	b.ReportMetric(rates.ratio("overlay", "bare"), "ratio-bare")
}

// BenchmarkVIPThroughput streams to a service's address and to its task's.
func BenchmarkVIPThroughput(b *testing.B) {
	s := networkSite(b, 2)
	backend, vip := s.backend(b), s.vip(b, "server", "front")
	s.answers(b, at(vip, byVIPPort))
	s.answers(b, at(backend, directPort))
	rates := interleave(b, streamTime, s.stream(b, "vip", vip), s.stream(b, "direct", backend))
	rates.report(b, gigabit, "Gbit/s")
	b.ReportMetric(rates.ratio("vip", "direct"), "ratio")
}

// byHand is a network that the benchmark makes itself.
type byHand struct{ vni, port, net int }

// The hand-made networks. Their ports are not the cluster's, and not each
// other's, so that no socket is shared.
var (
	alike = byHand{vni: 4001, port: 4801, net: 1}
	bare  = byHand{vni: 4002, port: 4802, net: 2}
)

func (n byHand) addr(host int) string { return fmt.Sprintf("192.168.%d.%d", 200+n.net, host) }

// plumb joins a container on h1 and one on h2 by hand, in two ways.
func (s *site) plumb(b *testing.B, first, second string) {
	b.Helper()
	for i, service := range []string{first, second} {
		here, there := s.Host(1+i), s.Host(2-i)
		pid := s.pid(b, here, service)
		mtu := strings.TrimSpace(run(b, here, "", "nsenter", "-t", pid, "-n", "cat", "/sys/class/net/eth0/mtu"))
		vxlan := func(name string, n byHand) string {
			// noudpcsum: as shoal makes its own
			return fmt.Sprintf("link add %s mtu %s type vxlan id %d local %s remote %s dev eth0 dstport %d noudpcsum\n", name, mtu, n.vni, here.Addr, there.Addr, n.port)
		}
		// The engine has all bridges' frames pass its filter of packets; shoal asks
		// for that for its own bridges, one by one, so these do without.
		run(b, here, "", "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
		run(b, here, vxlan("handx", alike)+vxlan("bare0", bare)+
			"link add handb mtu "+mtu+" type bridge\nlink add handv mtu "+mtu+" type veth peer name hand0 mtu "+mtu+" netns "+pid+"\n"+
			"link set handv master handb\nlink set handx master handb\nlink set handv up\nlink set handx up\nlink set handb up\n"+
			"link set bare0 netns "+pid+"\n", "ip", "-batch", "-")
		run(b, here, fmt.Sprintf("addr add %s/24 dev hand0\naddr add %s/24 dev bare0\nlink set hand0 up\nlink set bare0 up\n", alike.addr(1+i), bare.addr(1+i)),
			"nsenter", "-t", pid, "-n", "ip", "-batch", "-")
	}
}

// pid is the first process of a service's container, as its host numbers it.
func (s *site) pid(b *testing.B, h *lab.Host, service string) string {
	b.Helper()
	c, err := s.engines[h].ContainerInspect(b.Context(), s.containerOf(b, h, service))
	ok(b, err)
	return strconv.Itoa(c.State.Pid)
}

// run runs argv on h, which must not fail.
func run(b *testing.B, h *lab.Host, stdin string, argv ...string) string {
	b.Helper()
	out, err := h.RunInput(b.Context(), stdin, argv...)
	ok(b, err)
	return out
}

// knocked adds up what knock said on all rounds of a way.
type knocked struct{ ok, failed, slow int }

// knocking is a way of connections, measured in those answered a second.
func knocking(b *testing.B, name string, sum *knocked, knock func(seconds string) (string, error)) way {
	b.Helper()
	return way{name, func(seconds string) float64 {
		out, err := knock(seconds)
		ok(b, err)
		var k knocked
		var took float64
		if _, err := fmt.Sscanf(out, "ok %d failed %d slow %d seconds %g", &k.ok, &k.failed, &k.slow, &took); err != nil {
			b.Fatalf("knock said %q: %v", out, err)
		}
		if k.failed > 0 {
			b.Errorf("%s: %s", name, out)
		}
		sum.ok, sum.failed, sum.slow = sum.ok+k.ok, sum.failed+k.failed, sum.slow+k.slow
		return float64(k.ok) / took
	}}
}

func (k knocked) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(float64(k.ok), "answered")
	b.ReportMetric(float64(k.failed), "failed")
	b.ReportMetric(float64(k.slow), "slow")
}

// BenchmarkNewConnections opens connections one after the other, by the cluster
// and straight to the backend, which is on another node than the client.
func BenchmarkNewConnections(b *testing.B) {
	b.Run("vip", func(b *testing.B) {
		s := networkSite(b, 2)
		backend, vip := s.backend(b), s.vip(b, "server", "front")
		s.answers(b, at(vip, byVIPPort))
		s.answers(b, at(backend, directPort))
		var sum knocked
		to := func(name, addr string) way {
			return knocking(b, name, &sum, func(seconds string) (string, error) {
				return s.in(b, s.Host(1), "client", "knock", addr, seconds)
			})
		}
		rates := interleave(b, knockingTime, to("vip", at(vip, byVIPPort)), to("direct", at(backend, directPort)))
		rates.report(b, 1, "conn/s")
		sum.report(b)
		b.ReportMetric(rates.ratio("vip", "direct"), "ratio")
	})
	b.Run("mesh", meshConnections)
}

// meshConnections compares two clients of a published port whose task is on h2.
//
// One is h1 itself: by its own published port, and straight to the container's
// address behind the mesh. Both go through the same VXLAN to the same place, so
// the ratio is what shoal's translation and its way back cost.
//
// The other, h3, has no part in it, as a client in the world: by h1, and by a
// port that h2's engine publishes on h2 alone. Here the mesh has a hop and a
// VXLAN more, which is what it is for; this ratio is what users pay for it.
func meshConnections(b *testing.B) {
	s := networkSite(b, 3)
	web := program(b, "WEB_BIN", "shoal/examples/web")
	behind := s.behindMesh(b, s.Host(2), "server")
	var sum knocked
	var ways []way
	for _, c := range []struct {
		name string
		from *lab.Host
		addr string
	}{
		{"mesh", s.Host(1), at(s.Host(1).Addr, byMeshPort)},
		{"direct", s.Host(1), at(behind, directPort)},
		{"mesh-world", s.Host(3), at(s.Host(1).Addr, byMeshPort)},
		{"host-mode", s.Host(3), at(s.Host(2).Addr, onHostPort)},
	} {
		run(b, c.from, "", "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1")
		waitFor(b, c.addr+" to answer", func() (string, bool) {
			out, err := c.from.Run(b.Context(), web, "knock", c.addr, "0.01")
			return fmt.Sprint(out, err), strings.Contains(out, " failed 0 ")
		})
		ways = append(ways, knocking(b, c.name, &sum, func(seconds string) (string, error) {
			return c.from.Run(b.Context(), web, "knock", c.addr, seconds)
		}))
	}
	rates := interleave(b, knockingTime, ways...)
	rates.report(b, 1, "conn/s")
	sum.report(b)
	b.ReportMetric(rates.ratio("mesh", "direct"), "ratio")
	b.ReportMetric(rates.ratio("mesh-world", "host-mode"), "ratio-world")
}

// behindMesh is the address that a service's container on h has on shoal_gw.
func (s *site) behindMesh(b *testing.B, h *lab.Host, service string) string {
	b.Helper()
	c, err := s.engines[h].ContainerInspect(b.Context(), s.containerOf(b, h, service))
	ok(b, err)
	gateway := c.NetworkSettings.Networks["shoal_gw"]
	if gateway == nil {
		b.Fatalf("%s on %s is not on shoal_gw: %v", service, h.Name, c.NetworkSettings.Networks)
	}
	return gateway.IPAddress
}

// sightings are the files in which watches on all hosts write who has come into
// the answers, by the kind of answer.
type sightings map[string][]string

// admitRounds is how many times BenchmarkAdmit scales up by one.
const admitRounds = 10

// BenchmarkAdmit takes the time from when a task runs, which with a health check
// is when it is healthy, as its status says, until each of five nodes has it in
// its names, behind the VIP and behind the published port.
func BenchmarkAdmit(b *testing.B) {
	s := formSite(b, 5, 3)
	via := s.Host(1)
	shoal(b, via, "network", "create", "front")
	web := webSpec(b, s, "web", 1, "front")
	web.EndpointSpec.Ports = append(web.EndpointSpec.Ports, swarm.PortConfig{Protocol: "tcp", TargetPort: 7000, PublishedPort: 7000})
	create(b, s.shoal[via], web)
	client := spec("client", 0, "/bin/sleep", "1000000")
	client.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
	client.TaskTemplate.Networks = web.TaskTemplate.Networks
	create(b, s.shoal[via], client)
	old := s.converged(b, via, "web", 1)
	s.converged(b, via, "client", 5)
	watched := s.watch(b, at(s.vip(b, "web", "front"), 7000), 7000)
	watched.await(b, old[0], time.Time{})

	times := map[string][]time.Duration{}
	for range admitRounds {
		before := taskIDs(old)
		scale(b, s.shoal[via], "web", 2)
		tasks := s.converged(b, via, "web", 2)
		added := tasks[slices.IndexFunc(tasks, func(t swarm.Task) bool { return !slices.Contains(before, t.ID) })]
		all := time.Duration(0)
		for kind, last := range watched.await(b, added, added.Status.Timestamp) {
			took := last.Sub(added.Status.Timestamp)
			times[kind] = append(times[kind], took)
			all = max(all, took)
		}
		times["all"] = append(times["all"], all)
		scale(b, s.shoal[via], "web", 1)
		old = s.converged(b, via, "web", 1)
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	for kind, list := range times {
		b.Logf("%s: %v", kind, list)
		b.ReportMetric(ms(median(list)), "p50-ms-"+kind)
		b.ReportMetric(ms(slices.Max(list)), "max-ms-"+kind)
	}
}

// watch starts watches on all hosts: names and VIP from the client there, and
// the published port of the next host from the host itself.
func (s *site) watch(b *testing.B, vip string, published int) sightings {
	b.Helper()
	program := program(b, "WEB_BIN", "shoal/examples/web")
	watched := sightings{}
	for i, h := range s.Hosts() {
		next := s.Hosts()[(i+1)%len(s.Hosts())]
		inside := []string{"docker", "-H", "unix://" + h.DockerSocket(), "exec", s.containerOf(b, h, "client"), "/bin/web", "watch"}
		for kind, argv := range map[string][]string{
			"names": append(slices.Clone(inside), "name", "tasks.web"),
			"vip":   append(slices.Clone(inside), "echo", vip),
			"port":  {program, "watch", "echo", at(next.Addr, published)},
		} {
			p, err := h.Start(b.Context(), "watch-"+kind, argv...)
			ok(b, err)
			watched[kind] = append(watched[kind], p.LogPath())
		}
	}
	return watched
}

// await waits until all watches have seen a task after a time, and gives for
// each kind when the last one did.
func (w sightings) await(b *testing.B, task swarm.Task, after time.Time) map[string]time.Time {
	b.Helper()
	// an echo calls itself by its container's name, a name means addresses
	who := map[string]string{"vip": task.Status.ContainerStatus.ContainerID[:12], "port": task.Status.ContainerStatus.ContainerID[:12]}
	for _, a := range task.NetworksAttachments {
		if a.Network.Spec.Name == "front" {
			who["names"], _, _ = strings.Cut(a.Addresses[0], "/")
		}
	}
	last := map[string]time.Time{}
	waitFor(b, "all nodes to know "+task.ID, func() (string, bool) {
		clear(last)
		for kind, paths := range w {
			for _, path := range paths {
				at := seen(path, who[kind], after)
				if at.IsZero() {
					return fmt.Sprint(path, " does not tell of ", who[kind]), false
				}
				last[kind] = slices.MaxFunc([]time.Time{last[kind], at}, time.Time.Compare)
			}
		}
		return "", true
	})
	return last
}

// seen is when a watch told of somebody first after a time, zero if not yet.
func seen(path, who string, after time.Time) time.Time {
	text, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(text)) {
		var name string
		var nanos int64
		if n, _ := fmt.Sscan(line, &name, &nanos); n == 2 && name == who && nanos > after.UnixNano() {
			return time.Unix(0, nanos)
		}
	}
	return time.Time{}
}
