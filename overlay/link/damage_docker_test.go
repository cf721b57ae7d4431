//go:build docker

package link

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tool runs a command of iproute2, or the like, in the namespace.
func (s *space) tool(t *testing.T, command string) {
	t.Helper()
	s.must(t, func() error {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
		return nil
	})
}

// listener is a subscription that a test reads itself.
type listener struct{ *events }

func (s *space) listen(t *testing.T, l *Links) listener {
	t.Helper()
	var e *events
	s.must(t, func() (err error) {
		e, err = subscribe(l.sight)
		return err
	})
	t.Cleanup(e.socket.Close)
	// Events of a change are there when the change is done, nearly always.
	if err := e.socket.SetReceiveTimeout(&unix.Timeval{Usec: 30_000}); err != nil {
		t.Fatal(err)
	}
	return listener{e}
}

// heard takes in what there is and reports whether something was strange.
func (l listener) heard(t *testing.T) (strange bool) {
	t.Helper()
	for {
		msgs, from, err := l.socket.Receive()
		if errors.Is(err, unix.EAGAIN) {
			return strange
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			if from.Pid == nl.PidKernel && l.strange(m.Header.Type, m.Data) {
				strange = true
			}
		}
	}
}

// damages are what a hand can do, and what the audit says of it.
func damages() []struct{ name, command, told string } {
	return []struct{ name, command, told string }{
		{"device deleted", "ip link del shoal0", "vxlan shoal0"},
		{"port deleted", "ip link del shoalx1000", "vxlan shoalx1000"},
		{"device down", "ip link set shoal0 down", "vxlan shoal0"},
		{"port down", "ip link set shoalx1000 down", "down"},
		{"port taken out", "ip link set shoalx1000 nomaster", "vxlan shoalx1000"},
		{"port in another bridge", "ip link set shoalx1000 master shoal_gw", "shoal_gw"},
		{"mtu", "ip link set shoalx1000 mtu 1300", "mtu 1300"},
		{"mac", "ip link set shoal0 address 02:00:00:00:00:99", "mac 02:00:00:00:00:99"},
		{"another vni", "ip link del shoal0 && ip link add shoal0 type vxlan id 77 dstport 4789 local 192.0.2.1 nolearning", "vni 77"},
		{"another port", "ip link del shoal0 && ip link add shoal0 type vxlan id 4095 dstport 8472 local 192.0.2.1 nolearning", "port 8472"},
		{"learning device", "ip link del shoal0 && ip link add shoal0 type vxlan id 4095 dstport 4789 local 192.0.2.1", "learning"},
		{"not a vxlan", "ip link del shoal0 && ip link add shoal0 type veth peer name other", "veth shoal0"},
		{"foreign vxlan", "ip link add shoalx99 type vxlan id 99 dstport 4789", "vxlan shoalx99"},
		{"vxlan under another name", "ip link set shoalx1000 down && ip link set shoalx1000 name shoalxyz && ip link set shoalxyz up", "shoalxyz"},
		{"bridge down", "ip link set shoalb1000 down", "bridge shoalb1000"},
		{"bridge mtu", "ip link set shoalb1000 mtu 1280", "mtu 1280"},
		{"bridge mac", "ip link set shoalb1000 address 02:42:00:00:00:01", "neighbour 10.0.1.2"},
		{"flag learning", "bridge link set dev shoalx1000 learning on", "learning"},
		{"flag flood", "bridge link set dev shoalx1000 flood on", "flood"},
		{"flag mcast_flood", "bridge link set dev shoalx1000 mcast_flood on", "multicast flood"},
		{"flag bcast_flood", "bridge link set dev shoalx1000 bcast_flood on", "broadcast flood"},
		{"flag neigh_suppress", "bridge link set dev shoalx1000 neigh_suppress off", "no neighbour suppression"},
		{"flag isolated", "bridge link set dev shoalx1000 isolated on", "isolated"},
		{"address deleted", "ip addr del 10.0.1.9/32 dev shoalb1000", "address 10.0.1.9/32"},
		{"only address deleted", "ip addr del 10.252.1.254/32 dev shoal0", "route 10.252.2.0/24"},
		{"address of IPv6 deleted", "ip addr del fd00:2::9/128 dev shoalb1000", "address fd00:2::9/128"},
		{"address added to a bridge", "ip addr add 10.0.1.77/32 dev shoalb1000", "address 10.0.1.77/32"},
		{"address added to a device", "ip addr add 10.7.0.1/24 dev shoal0", "address 10.7.0.1/24"},
		{"forward deleted", "bridge fdb del 02:42:0a:00:00:02 dev shoalx1000 dst 192.0.2.2 self", "forwarding of 02:42:0a:00:00:02"},
		{"forward altered", "bridge fdb replace 02:42:0a:00:00:02 dev shoalx1000 dst 192.0.2.9 self permanent", "192.0.2.9"},
		{"forward with a port", "bridge fdb replace 02:42:0a:00:00:02 dev shoalx1000 dst 192.0.2.2 port 999 self permanent", "port"},
		{"forward not permanent", "bridge fdb replace 02:42:0a:00:00:02 dev shoalx1000 dst 192.0.2.2 self dynamic", "not permanent"},
		{"forward added", "bridge fdb add 02:42:0a:00:00:77 dev shoalx1000 dst 192.0.2.9 self permanent", "02:42:0a:00:00:77"},
		{"flood entry added", "bridge fdb append 00:00:00:00:00:00 dev shoal0 dst 192.0.2.9 self permanent", "00:00:00:00:00:00"},
		{"static deleted", "bridge fdb del 02:42:0a:00:00:02 dev shoalx1000 master", "bridge entry 02:42:0a:00:00:02"},
		{"static to dynamic", "bridge fdb replace 02:42:0a:00:00:02 dev shoalx1000 master dynamic", "not static"},
		{"static added", "bridge fdb add 02:42:0a:00:00:77 dev shoalx1000 master static", "bridge entry 02:42:0a:00:00:77"},
		{"static moved", "ip link add v1 type veth peer name v2 && ip link set v1 master shoalb1000 && bridge fdb replace 02:42:0a:00:00:02 dev v1 master static && ip link show v1", "bridge entry"},
		{"neighbour deleted", "ip neigh del 10.0.1.2 dev shoalb1000", "neighbour 10.0.1.2"},
		{"neighbour altered", "ip neigh replace 10.0.1.2 lladdr 02:00:00:00:00:01 dev shoalb1000 nud permanent", "neighbour 10.0.1.2"},
		{"neighbour not permanent", "ip neigh replace 10.0.1.2 lladdr 02:00:00:00:00:01 dev shoalb1000 nud reachable", "neighbour 10.0.1.2"},
		{"neighbour of IPv6 deleted", "ip neigh del fd00:2::2 dev shoalb1000", "neighbour fd00:2::2"},
		{"neighbour added", "ip neigh add 10.0.1.99 lladdr 02:00:00:00:00:01 dev shoalb1000 nud permanent", "neighbour 10.0.1.99"},
		{"neighbours flushed", "ip neigh flush all nud permanent", "neighbour 10.252.2.254"},
		{"route deleted", "ip route del 10.252.2.0/24 via 10.252.2.254", "route 10.252.2.0/24"},
		{"route altered", "ip route change 10.252.2.0/24 via 10.252.2.253 dev shoal0 onlink proto 90", "10.252.2.253"},
		{"route taken over", "ip route replace 10.9.0.0/16 dev shoal_gw proto 90 src 10.252.1.1", "source"},
		{"route of IPv6 deleted", "ip -6 route del fd00:1:2::/64 dev shoal0", "route fd00:1:2::/64"},
		{"route of a table deleted", "ip route flush table 7002", "table 7002"},
		{"route of IPv6 of a table deleted", "ip -6 route flush table 7002", "route ::/0"},
		{"blackhole deleted", "ip route del blackhole 10.252.0.0/14", "blackhole route 10.252.0.0/14"},
		{"blackhole of IPv6 deleted", "ip -6 route del blackhole fd00:1::/48", "blackhole route fd00:1::/48"},
		{"route added", "ip route add 10.88.0.0/16 dev shoal0 proto 90", "route 10.88.0.0/16"},
		{"route to a device of another added", "ip route add 10.89.0.0/16 dev shoal_gw proto 90 table 55 metric 5", "route 10.89.0.0/16"},
		{"route of many paths added", "ip route add 10.90.0.0/16 proto 90 nexthop dev shoal0 nexthop dev shoal_gw", "several paths"},
		{"rule deleted", "ip rule del priority 100", "IPv4 rule 100"},
		{"rule of IPv6 deleted", "ip -6 rule del priority 100", "IPv6 rule 100"},
		{"rule that goes on deleted", "ip rule del priority 90", "rule 90"},
		{"rule altered", "ip rule del priority 100 && ip rule add priority 100 iif shoal_gw fwmark 3/0xff table 7002 proto 90", "mark 0x3/0xff"},
		{"rule added", "ip rule add priority 50 from 10.0.0.0/8 table 99 proto 90", "from 10.0.0.0/8"},
		{"sysctl of a device", "echo 1 > /proc/sys/net/ipv4/conf/shoal0/rp_filter", "rp_filter"},
		{"sysctl of the node", "echo 0 > /proc/sys/net/ipv4/ip_forward", "ip_forward"},
		{"sysctl of a bridge", "echo 0 > /sys/class/net/shoalb1000/bridge/nf_call_iptables", "nf_call_iptables"},
	}
}

func TestEveryDamageIsNoticedFoundAndRepaired(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	l := s.links(t)
	s.apply(t, l, site())
	ears := s.listen(t, l)
	ears.heard(t)
	files := map[string]string{}
	for _, d := range damages() {
		t.Run(strings.ReplaceAll(d.name, " ", "-"), func(t *testing.T) {
			s.tool(t, d.command)
			noticed := ears.heard(t)
			s.must(t, func() error { noticed = ears.filesChanged(files) || noticed; return nil })
			if !noticed {
				t.Error("not noticed")
			}
			r := s.audit(t, l)
			if !strings.Contains(strings.Join(r.Repaired, "\n"), d.told) {
				t.Errorf("audit says %q; want something about %q", r.Repaired, d.told)
			}
			s.still(t, l)
			s.must(t, func() error { ears.filesChanged(files); return nil })
			ears.heard(t) // what the repair itself made heard
		})
	}
}

// Changes of entries, which come by the hundred with every update, must not
// look like damage: each would be followed by an audit.
func TestEchoesOfChangesAreNotDamage(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	l := s.links(t)
	s.apply(t, l, site())
	ears := s.listen(t, l)
	ears.heard(t)
	less := site()
	less.Forwards, less.Neighbours, less.Addrs = less.Forwards[:2], less.Neighbours[:3], less.Addrs[:3]
	less.Routes, less.Rules = less.Routes[1:], less.Rules[1:]
	moved := site()
	moved.Forwards[1].Dst = less.Forwards[0].Dst.Next()
	moved.Neighbours[2].MAC[5] = 9
	moved.Routes[0].Via = moved.Routes[0].Via.Prev()
	for _, w := range []Want{less, site(), moved, site()} {
		s.apply(t, l, w)
		if ears.heard(t) {
			t.Errorf("an echo was taken for damage")
		}
	}
	s.tool(t, "ip link add v1 type veth peer name v2 && ip link set v1 master shoalb1000 up && ip link set v2 up && ip addr add 10.0.1.50/24 dev v2")
	s.tool(t, "ip neigh add 10.0.1.50 lladdr 02:00:00:00:00:01 dev shoalb1000 nud reachable; ip addr add 10.5.0.1/24 dev v2")
	if ears.heard(t) {
		t.Errorf("what the engine does for a container was taken for damage")
	}
	s.still(t, l)
}

func TestWatchTellsUntilItsContextEnds(t *testing.T) {
	s := newSpace(t)
	l := s.links(t)
	s.apply(t, l, site())
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		ended <- s.in(func() error { return l.Watch(ctx, func() { told <- struct{}{} }) })
	}()
	wait := func(what string) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(5 * time.Second):
			t.Fatalf("not told of %s", what)
		}
	}
	wait("the beginning")
	s.must(t, func() error { return engine("shoalb1000", "10.0.1.1/24") })
	wait("a bridge that was waited for")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestWatchBeginsAgainWhenItsSocketFails(t *testing.T) {
	s := newSpace(t)
	s.must(t, func() error {
		e, err := subscribe(&sight{})
		if err != nil {
			return err
		}
		e.socket.Close()
		tick := make(chan time.Time)
		if err := e.serve(t.Context(), tick, map[string]string{}, func() {}); err == nil {
			t.Error("serve went on without a socket")
		}
		return nil
	})
}
