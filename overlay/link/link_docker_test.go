//go:build docker

package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace moves the test's thread into network and mount namespaces of its
// own, for good: the thread ends with the test.
func inNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		t.Skipf("needs root: %v", err)
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{{"", "/", "", unix.MS_REC | unix.MS_PRIVATE}, {"none", "/sys", "sysfs", 0}} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "ip link set lo up")
}

func run(t testing.TB, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// sample is a network with two endpoints elsewhere, and a mesh of two peers.
func sample() Want {
	mac, peer := [6]byte{2, 0x42, 10, 0, 1, 11}, [6]byte{2, 0x5a, 0, 0, 0, 2}
	via, node := netip.MustParseAddr("10.252.2.254"), netip.MustParseAddr("192.0.2.2")
	w := Want{
		VXLANs: []VXLAN{
			{Name: "shoal0", VNI: 4095, Local: netip.MustParseAddr("192.0.2.1"), Port: 4789, MTU: 1450, MAC: net.HardwareAddr{2, 0x5a, 0, 0, 0, 1}},
			{Name: "shoalx1001", VNI: 4097, Local: netip.MustParseAddr("192.0.2.1"), Port: 4789, MTU: 1450, Master: "shoalb1001"},
		},
		Bridges: []Bridge{{Name: "shoalb1001", MTU: 1450}},
		Addrs: []Addr{
			{"shoal0", netip.MustParsePrefix("10.252.1.254/32")},
			{"shoalb1001", netip.MustParsePrefix("10.0.1.2/32")},
			{"shoal0", netip.MustParsePrefix("fd00:1::3/128")},
			{"shoalb1001", netip.MustParsePrefix("fd00:9::2/128")},
		},
		Forwards:   []Forward{{"shoal0", peer, node}, {"shoalx1001", mac, node}},
		Neighbours: []Neighbour{{"shoal0", via, peer}, {"shoalb1001", netip.MustParseAddr("10.0.1.11"), mac}, {"shoalb1001", netip.MustParseAddr("fd00:9::11"), mac}},
		Routes: []Route{
			{Dst: netip.MustParsePrefix("10.252.2.0/24"), Link: "shoal0", Via: via},
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "shoal0", Via: via, Table: 9002},
			{Dst: netip.MustParsePrefix("10.252.3.253/32"), Blackhole: true},
		},
		Sysctls: []Sysctl{{"/sys/class/net/shoalb1001/bridge/nf_call_iptables", "1"}},
	}
	for _, v6 := range []bool{false, true} {
		w.Rules = append(w.Rules,
			Rule{Priority: 9000, Mask: 0xff000000, Goto: 26000, V6: v6},
			Rule{Priority: 9002, IIF: "shoal_gw", Mark: 0x5a000002, Mask: 0xff00ffff, Table: 9002, V6: v6},
			Rule{Priority: 26000, Mark: 0x5a000000, Mask: 0xff00ffff, Table: 9000, V6: v6})
	}
	return w
}

func newLinks(t testing.TB) *Links {
	t.Helper()
	l, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func apply(t testing.TB, l *Links, w Want) Result {
	t.Helper()
	r, err := l.Apply(w)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantAudit checks that an audit finds nothing, if clean, or something.
func wantAudit(t testing.TB, l *Links, what string, clean bool) {
	t.Helper()
	r, err := l.Audit()
	if err != nil || (len(r.Repaired) == 0) != clean || len(r.Waiting) > 0 {
		t.Errorf("audit %s: err %v, repaired %q, waiting %q", what, err, r.Repaired, r.Waiting)
	}
}

func TestApplyBuildsAndIsAtRestThen(t *testing.T) {
	inNamespace(t)
	run(t, "ip link add shoalb1001 type bridge")
	run(t, "ip link set shoalb1001 up")
	l := newLinks(t)
	apply(t, l, sample())
	wantAudit(t, l, "after Apply", true)
	if r := apply(t, l, sample()); len(r.Repaired) > 0 {
		t.Errorf("the same again changes %q", r.Repaired)
	}
	again := newLinks(t) // a daemon that comes back
	if r := apply(t, again, sample()); len(r.Repaired) > 0 {
		t.Errorf("a new process changes %q", r.Repaired)
	}
}

func TestWhatWaitsForABridgeFollowsIt(t *testing.T) {
	inNamespace(t)
	l := newLinks(t)
	if r := apply(t, l, sample()); len(r.Waiting) == 0 {
		t.Fatal("nothing waits for the bridge that is not there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := watch(ctx, l)
	run(t, "ip link add shoalb1001 type bridge")
	run(t, "ip link set shoalb1001 up")
	<-told
	run(t, "ip route del 10.252.2.0/24")
	r, err := l.Audit()
	if err != nil || len(r.Waiting) > 0 || !slices.Equal(r.Repaired, []string{"missing or different: route 10.252.2.0/24 via shoal0 table 0"}) {
		t.Errorf("once the bridge is there: err %v, waiting %q, repaired %q, want what was broken and nothing that had waited", err, r.Waiting, r.Repaired)
	}
	wantAudit(t, l, "after that", true)
	cancel()
	for range told { // until Watch has ended
	}
}

// watch begins to watch the namespace of the test and returns what is told; it
// is closed when Watch has ended.
func watch(ctx context.Context, l *Links) <-chan struct{} {
	told := make(chan struct{}, 1)
	socket, err := l.subscribe() // in the namespace of this thread
	go func() {
		defer close(told)
		if err == nil {
			_ = l.listen(ctx, socket, func() {
				select {
				case told <- struct{}{}:
				default:
				}
			})
		}
	}()
	return told
}

func TestEveryDamageIsFoundAndRepaired(t *testing.T) {
	inNamespace(t)
	run(t, "ip link add shoalb1001 type bridge")
	run(t, "ip link set shoalb1001 up")
	l := newLinks(t)
	apply(t, l, sample())
	for _, damage := range []string{
		"ip link del shoal0", "ip link del shoalx1001", "ip link set shoal0 down", "ip link set shoalx1001 down", "ip link set shoalb1001 down",
		"ip link set shoalx1001 nomaster", "ip link set shoal0 mtu 1400", "ip link set shoal0 address 02:00:00:00:00:09",
		"bridge link set dev shoalx1001 learning on", "bridge link set dev shoalx1001 flood on", "bridge link set dev shoalx1001 neigh_suppress off",
		"ip addr del 10.252.1.254/32 dev shoal0", "ip addr add 10.9.9.9/32 dev shoal0", "ip addr del 10.0.1.2/32 dev shoalb1001",
		"ip addr del fd00:9::2/128 dev shoalb1001",
		"bridge fdb del 02:42:0a:00:01:0b dev shoalx1001 self", "bridge fdb del 02:42:0a:00:01:0b dev shoalx1001 master",
		"bridge fdb replace 02:42:0a:00:01:0b dev shoalx1001 dst 192.0.2.9 self permanent", "bridge fdb add 02:42:0a:00:01:0c dev shoalx1001 dst 192.0.2.9 self permanent",
		"bridge fdb del 02:5a:00:00:00:02 dev shoal0 self",
		"ip neigh del 10.0.1.11 dev shoalb1001", "ip neigh replace 10.0.1.11 lladdr 02:00:00:00:00:01 nud permanent dev shoalb1001",
		"ip neigh add 10.0.1.12 lladdr 02:00:00:00:00:01 nud permanent dev shoalb1001", "ip -6 neigh del fd00:9::11 dev shoalb1001",
		"ip route del 10.252.2.0/24", "ip route flush table 9002", "ip route add 10.99.0.0/24 dev shoal0 proto 90", "ip route del blackhole 10.252.3.253",
		"ip rule del priority 9002", "ip rule del priority 9000", "ip -6 rule del priority 26000", "ip rule add priority 9005 fwmark 7 table 77 proto 90",
		"sh -c echo${IFS}0>/sys/class/net/shoalb1001/bridge/nf_call_iptables",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		told := watch(ctx, l)
		run(t, damage)
		select {
		case <-told:
		case <-time.After(10 * time.Second):
			t.Errorf("nothing is told of %s", damage)
		}
		cancel()
		for range told { // until Watch has ended
		}
		wantAudit(t, l, "after "+damage, false)
		wantAudit(t, l, "again after "+damage, true)
	}
}

func TestChangesAreMadeWithoutLookingAtTheRest(t *testing.T) {
	inNamespace(t)
	run(t, "ip link add shoalb1001 type bridge")
	run(t, "ip link set shoalb1001 up")
	l := newLinks(t)
	apply(t, l, sample())
	w := sample()
	w.Forwards = w.Forwards[:1]
	w.Neighbours = slices.Concat(w.Neighbours[:1], []Neighbour{{"shoalb1001", netip.MustParseAddr("10.0.1.11"), [6]byte{2, 0x42, 9, 9, 9, 9}}})
	w.Addrs = w.Addrs[:1]
	w.Rules = w.Rules[:2]
	w.Routes = w.Routes[1:]
	apply(t, l, w)
	wantAudit(t, newLinksWith(t, w), "by another process", true)
	apply(t, l, sample())
	wantAudit(t, newLinksWith(t, sample()), "by another process", true)
}

func newLinksWith(t testing.TB, w Want) *Links {
	t.Helper()
	l := newLinks(t)
	l.want = w
	return l
}

func TestAnInterruptedApplyIsFinishedByTheNextProcess(t *testing.T) {
	for limit := 1; ; limit++ {
		whole := false
		done := make(chan struct{})
		go func() { // a thread, and so a namespace, of its own
			defer close(done)
			t.Run(fmt.Sprint("after ", limit, " changes"), func(t *testing.T) {
				inNamespace(t)
				run(t, "ip link add shoalb1001 type bridge")
				run(t, "ip link set shoalb1001 up")
				l := newLinks(t)
				l.limit = limit
				_, err := l.Apply(sample())
				whole = err == nil
				next := newLinks(t)
				apply(t, next, sample())
				wantAudit(t, next, "of the next process", true)
			})
		}()
		<-done
		if whole {
			break
		}
	}
}

func TestPurgeLeavesNothing(t *testing.T) {
	inNamespace(t)
	run(t, "ip link add shoalb1001 type bridge")
	run(t, "ip link set shoalb1001 up")
	apply(t, newLinks(t), sample())
	if err := Purge(); err != nil {
		t.Fatal(err)
	}
	left := run(t, "ip link") + run(t, "ip rule") + run(t, "ip route show table all") + run(t, "ip neigh")
	for _, trace := range []string{"shoal0", "shoalx", "9002", "10.252"} {
		if strings.Contains(left, trace) {
			t.Errorf("%s is left: %s", trace, left)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	inNamespace(b)
	w := Want{}
	for n := range 100 {
		bridge, device := fmt.Sprintf("shoalb%x", n), fmt.Sprintf("shoalx%x", n)
		run(b, "ip link add "+bridge+" type bridge")
		run(b, "ip link set "+bridge+" up")
		w.Bridges = append(w.Bridges, Bridge{Name: bridge})
		w.VXLANs = append(w.VXLANs, VXLAN{Name: device, VNI: uint32(5000 + n), Local: netip.MustParseAddr("192.0.2.1"), Port: 4789, MTU: 1450, Master: bridge})
		for e := range 100 {
			mac := [6]byte{2, 0x42, 10, byte(n), 0, byte(e)}
			w.Forwards = append(w.Forwards, Forward{device, mac, netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + e%90)})})
			w.Neighbours = append(w.Neighbours, Neighbour{bridge, netip.AddrFrom4([4]byte{10, byte(n), 0, byte(e)}), mac})
		}
	}
	l := newLinks(b)
	start := time.Now()
	apply(b, l, w)
	rebuild := time.Since(start)
	start = time.Now()
	wantAudit(b, l, "after Apply", true)
	audit := time.Since(start)
	for b.Loop() {
		w.Neighbours, w.Forwards = slices.Clone(w.Neighbours), slices.Clone(w.Forwards)
		w.Neighbours[7].MAC[3]++
		w.Forwards[7].MAC[3]++
		apply(b, l, w)
	}
	b.ReportMetric(float64(rebuild.Milliseconds()), "rebuild-ms")
	b.ReportMetric(float64(audit.Milliseconds()), "audit-ms")
}
