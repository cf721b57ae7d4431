//go:build docker

package integration

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/integration/lab"
)

// repairTime is what is promised for any single damage. The test logs what it
// took and allows for a machine that is busy with other things, but not so much
// that the look of every half minute could take the place of the kernel's events.
const repairTime = 2 * time.Second

// TestNetworkFaults breaks networks that carry traffic, one way after the
// other. Each part leaves them whole.
func TestNetworkFaults(t *testing.T) {
	s := formSite(t, 3, 1)
	via := s.Host(1)
	shoal(t, via, "network", "create", "front")
	shoal(t, via, "service", "create", "--name", "web", "--mode", "global", "--network", "front", "--publish", "8080:8080",
		"--publish", "7000:7000", "--env", "ECHO_ADDR=:7000", "--constraint", "node.hostname!=h3", image)
	shoal(t, via, "service", "create", "--name", "client", "--mode", "global", "--network", "front", image, "sleep", "1000000")
	s.converged(t, via, "web", 2)
	s.converged(t, via, "client", 3)
	s.whole(t, "at the beginning")
	for _, part := range []struct {
		name string
		run  func(*testing.T, *site)
	}{
		{"damage by hand is repaired", handMade},
		{"a killed daemon cuts no connection", connectionsOutliveTheDaemon},
		{"a cut link heals", func(t *testing.T, s *site) { cutLink(t, s, 3*time.Second) }}, // shorter than what makes a node go down
		{"a link that was cut for long heals", longCuts},
		{"an engine that restarts gets its networks back", func(t *testing.T, s *site) { engineRestart(t, s, s.Host(2)) }},
		{"a dead task's connections are reset", deadBackend},
		{"a host that loses power comes back", networkPowerCut},
		{"leaving removes everything", leavingNetworks},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, s) }) {
			return
		}
	}
}

// whole waits until every host reaches both tasks of web by every way.
func (s *site) whole(t testing.TB, when string) {
	t.Helper()
	for _, h := range s.Hosts() {
		waitFor(t, "the networks of "+h.Name+" to be whole "+when, func() (string, bool) { return s.reaches(t, h) })
	}
}

// reaches reports whether both tasks of web answer to a container on h at
// web's address, and to this process at h's published port.
func (s *site) reaches(t testing.TB, h *lab.Host) (saw string, all bool) {
	t.Helper()
	inside, err := s.in(t, h, "client", "get", "http://web:8080/", "16")
	seen := map[string]bool{}
	for _, m := range helloFrom.FindAllStringSubmatch(inside, -1) {
		seen["inside "+m[1]] = true
	}
	var outside error
	for range 16 {
		var host string
		if host, _, outside = ask(t.Context(), "http://"+h.Addr+":8080/"); outside != nil {
			break
		}
		seen["outside "+host] = true
	}
	return fmt.Sprint(seen, err, outside), err == nil && outside == nil && len(seen) == 4
}

// damages are commands that each break something of a network's bridge, its
// device, or what all share.
func damages(bridge, device, vip string) []string {
	return []string{
		"ip link del " + device,
		"ip link del shoal0",
		"ip link set " + device + " down",
		"ip link set shoal0 down",
		"ip link set " + device + " nomaster",
		"ip addr flush dev shoal0",
		"ip addr del " + vip + "/32 dev " + bridge,
		"bridge fdb flush dev " + device + " self",
		"ip neigh flush nud permanent dev " + bridge,
		"ip neigh flush nud permanent dev shoal0",
		"ip route flush proto 90",
		"ip rule flush protocol 90",
		"ip -6 rule flush protocol 90",
		"nft delete table inet shoal",
		"nft delete table inet shoal_zones",
		"nft flush table inet shoal",
		"iptables -F DOCKER-USER",
		"sh -c echo${IFS}0>/sys/class/net/" + bridge + "/bridge/nf_call_iptables",
		"sysctl -w net.ipv4.conf.shoal0.rp_filter=1",
		"sysctl -w net.ipv4.ip_forward=0",
	}
}

// handMade damages h3's kernel, in which nothing but the networks is left
// alone, one thing at a time.
func handMade(t *testing.T, s *site) {
	h := s.Host(3)
	vni := s.vni(t, "front")
	all := damages(fmt.Sprintf("shoalb%x", vni), fmt.Sprintf("shoalx%x", vni), s.vip(t, "web", "front"))
	for _, damage := range append(all, "nft flush ruleset") { // last: it takes the engine's own rules along
		repairs := metric(t, h, "shoal_overlay_repairs_total")
		start := time.Now()
		if out, err := h.Run(t.Context(), strings.Fields(damage)...); err != nil {
			t.Errorf("%s: %v %s", damage, err, out)
			continue
		}
		waitFor(t, damage+" to be noticed", func() (string, bool) {
			n := metric(t, h, "shoal_overlay_repairs_total")
			return fmt.Sprint(n), n > repairs
		})
		noticed := time.Since(start)
		waitFor(t, damage+" to be repaired", func() (string, bool) { return s.reaches(t, h) })
		t.Logf("%-60s noticed after %4d ms, whole again after %4d ms", damage, noticed.Milliseconds(), time.Since(start).Milliseconds())
		if noticed > 5*repairTime {
			t.Errorf("%s was noticed only after %v", damage, noticed)
		}
	}
	engineRestart(t, s, h)
}

// held is an open connection to an echo of web.
type held struct {
	conn net.Conn
	in   *bufio.Reader
}

func hold(t *testing.T, addr string) *held {
	t.Helper()
	var conn net.Conn
	waitFor(t, "a connection to "+addr, func() (string, bool) {
		var err error
		conn, err = net.DialTimeout("tcp", addr, time.Second)
		return fmt.Sprint(err), err == nil
	})
	t.Cleanup(func() { conn.Close() })
	return &held{conn: conn, in: bufio.NewReader(conn)}
}

// echo sends a word and returns the line that comes back.
func (h *held) echo(word string, within time.Duration) (string, error) {
	if err := h.conn.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(h.conn, word); err != nil {
		return "", err
	}
	return h.in.ReadString('\n')
}

func connectionsOutliveTheDaemon(t *testing.T, s *site) {
	var open []*held
	for range 4 {
		open = append(open, hold(t, s.Host(3).Addr+":7000"))
	}
	for _, h := range open {
		_, err := h.echo("before", 5*time.Second)
		ok(t, err)
	}
	for _, h := range s.Hosts() {
		ok(t, h.Daemon().Kill9())
	}
	for i, h := range open {
		if _, err := h.echo("while no daemon runs", 5*time.Second); err != nil {
			t.Errorf("connection %d while no daemon runs: %v", i, err)
		}
	}
	if host, _, err := ask(t.Context(), "http://"+s.Host(3).Addr+":8080/"); err != nil {
		t.Errorf("a new connection while no daemon runs: %v from %s", err, host)
	}
	for _, h := range s.Hosts() {
		restartDaemon(t, h)
	}
	s.awaitReady(t, s.Host(1), 3)
	s.whole(t, "after the daemons' restart")
	for i, h := range open {
		if _, err := h.echo("after", 5*time.Second); err != nil {
			t.Errorf("connection %d after the daemons' restart: %v", i, err)
		}
	}
}

// longCuts take the node out: its tasks are replaced and, when it is back, ended
// or, of a global service, taken over.
func longCuts(t *testing.T, s *site) {
	campaign(t)
	cutLink(t, s, time.Second)
	for _, d := range []time.Duration{20 * time.Second, 120 * time.Second} {
		cutLink(t, s, d)
	}
}

func cutLink(t *testing.T, s *site, d time.Duration) {
	t.Helper()
	h := s.Host(2)
	idle := hold(t, s.Host(1).Addr+":7000")
	_, err := idle.echo("before", 5*time.Second)
	ok(t, err)
	ok(t, h.Cut())
	pass(t, d)
	ok(t, h.Heal())
	start := time.Now()
	s.whole(t, "after the cut")
	t.Logf("whole %v after healing of a cut of %v", time.Since(start), d)
	if _, err := idle.echo("after", 10*time.Second); err != nil && d < 5*time.Second {
		t.Errorf("a connection that was idle during the cut: %v", err)
	}
}

func engineRestart(t *testing.T, s *site, h *lab.Host) {
	t.Helper()
	ok(t, h.StopEngine(t.Context()))
	ok(t, h.StartEngine(t.Context()))
	s.converged(t, s.Host(1), "web", 2)
	s.converged(t, s.Host(1), "client", 3)
	s.whole(t, "after the engine's restart")
}

// deadBackend kills the container that a connection goes to: the client gets a
// reset, and does not wait for ever.
func deadBackend(t *testing.T, s *site) {
	client := hold(t, s.Host(3).Addr+":7000")
	line, err := client.echo("who", 5*time.Second)
	ok(t, err)
	for _, h := range s.Hosts()[:2] {
		id := s.containerOf(t, h, "web")
		if strings.Contains(line, id[:12]) {
			_, err := h.Docker(t.Context(), "kill", id)
			ok(t, err)
		}
	}
	waitFor(t, "the connection to the dead task to end", func() (string, bool) {
		line, err := client.echo("still there?", time.Second)
		timeout, isNet := err.(net.Error) //nolint:errorlint // as the connection gives it
		return fmt.Sprint(line, err), err != nil && (!isNet || !timeout.Timeout())
	})
	s.converged(t, s.Host(1), "web", 2)
	s.whole(t, "after a task's death")
}

func networkPowerCut(t *testing.T, s *site) {
	h := s.Host(2)
	ok(t, h.Restart(t.Context()))
	s.awaitReady(t, s.Host(1), 3)
	s.converged(t, s.Host(1), "web", 2)
	s.converged(t, s.Host(1), "client", 3)
	s.whole(t, "after a power cut")
}

func leavingNetworks(t *testing.T, s *site) {
	h := s.Host(3)
	shoal(t, h, "leave")
	for _, what := range [][]string{{"ip", "-br", "link"}, {"nft", "list", "ruleset"}, {"ip", "rule"}, {"ip", "route", "show", "table", "all"}} {
		out, err := h.Run(t.Context(), what...)
		if err != nil || strings.Contains(out, "shoal") || strings.Contains(out, "5a0000") {
			t.Errorf("%v after leave: err %v\n%s", what, err, out)
		}
	}
	if out, err := h.Docker(t.Context(), "network", "ls", "-q", "--filter", "label=shoal.network.id"); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("the engine's networks after leave: %v %s", err, out)
	}
	_, err := s.shoal[s.Host(1)].NodeList(t.Context(), swarm.NodeListOptions{})
	ok(t, err)
}
