//go:build docker

package overlay

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

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

func run(t testing.TB, command string) {
	t.Helper()
	words := strings.Fields(command)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

func TestUnderlayMTUIsThatOfTheLinkWithTheAddress(t *testing.T) {
	inNamespace(t)
	for i, name := range []string{"up0", "up1"} {
		run(t, fmt.Sprintf("ip link add %s mtu %d type bridge", name, 1400+i))
		run(t, fmt.Sprintf("ip addr add 192.0.2.%d/24 dev %s", 1+i, name))
		run(t, fmt.Sprintf("ip addr add fd00::%d/64 dev %s nodad", 1+i, name))
	}
	run(t, "ip addr add 198.51.100.1 peer 198.51.100.2 dev up1")
	for addr, want := range map[string]int{
		"192.0.2.1": 1400, "192.0.2.2": 1401, "fd00::1": 1400, "fd00::2": 1401, "::ffff:192.0.2.2": 1401,
		"198.51.100.1": 1401, "198.51.100.2": ethernetMTU, "192.0.2.3": ethernetMTU,
	} {
		if got := UnderlayMTU(netip.MustParseAddr(addr)); got != want {
			t.Errorf("MTU under %s is %d, want %d", addr, got, want)
		}
	}
	if got := UnderlayMTU(netip.Addr{}); got != ethernetMTU {
		t.Errorf("MTU under no address is %d, want %d", got, ethernetMTU)
	}
}

func TestRouterLinksAreThoseThatHearAdvertisementsAsHosts(t *testing.T) {
	inNamespace(t)
	for name, accept := range map[string]int{"up0": 1, "up1": 0, "up2": 2, "up3": 1, "veth1": 1, "shoal0": 1} {
		run(t, "ip link add "+name+" type bridge")
		run(t, fmt.Sprintf("sysctl -qw net.ipv6.conf.%s.accept_ra=%d", name, accept))
	}
	if got, want := routerLinks(), []string{"up0", "up3"}; !slices.Equal(got, want) {
		t.Errorf("links that take router advertisements as hosts: %q, want %q", got, want)
	}
}

func BenchmarkFacts(b *testing.B) {
	inNamespace(b)
	for i := range 300 {
		run(b, fmt.Sprintf("ip link add veth%d type bridge", i))
	}
	run(b, "ip link add up0 type bridge")
	run(b, "ip addr add 192.0.2.1/24 dev up0")
	for b.Loop() {
		UnderlayMTU(netip.MustParseAddr("192.0.2.1"))
		HasIPv6()
		routerLinks()
	}
}

// TestAuditWaitsForTheFirstFabric: a daemon that starts does not know yet what
// the one before it has set up.
func TestAuditWaitsForTheFirstFabric(t *testing.T) {
	inNamespace(t)
	for _, made := range []string{"ip link add shoal0 type bridge", "nft add table inet shoal"} {
		run(t, made)
	}
	p, err := newParts(Config{NodeID: "n1", TunnelKey: make([]byte, 32), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close(p.cfg.Log)
	if f, err := p.audit(); err != nil || len(f.repaired) > 0 {
		t.Errorf("audit: err %v, repaired %q", err, f.repaired)
	}
	run(t, "ip link show shoal0")
	run(t, "nft list table inet shoal")
}
