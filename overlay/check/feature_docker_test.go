//go:build docker

package check

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// scratch moves the rest of the test into a network namespace of its own; its
// thread ends with it.
func scratch(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The machines that these tests run on have all that is needed; and trying it
// leaves nothing behind.
func TestFeaturesAreTriedWithoutATrace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	before, err := net.Interfaces()
	must(t, err)
	for range 3 {
		expect(t, "features", features(), "kernel ok")
	}
	after, err := net.Interfaces()
	must(t, err)
	for _, link := range after {
		if len(link.Name) > 5 && link.Name[:5] == "shoal" {
			t.Errorf("link %s among %d, before there were %d", link.Name, len(after), len(before))
		}
	}
}

func TestForeignVXLANIsNamed(t *testing.T) {
	scratch(t)
	must(t, netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "flannel.1"}, VxlanId: 1, Port: 4789}))
	link, err := netlink.LinkByName("flannel.1")
	must(t, err)
	must(t, netlink.LinkSetUp(link))
	p := Port{"udp", 4789, "VXLAN"}
	if got := vxlanLinks(p); len(got) != 1 || got[0] != "flannel.1" {
		t.Errorf("links: %v", got)
	}
	if err := tryPort(p); err == nil {
		t.Error("a port of the kernel's is free")
	}
}

func TestRoutesOfTheHost(t *testing.T) {
	scratch(t)
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "shoalb1000"}}))
	for name, text := range map[string]string{"br0": "10.9.0.1/24", "shoalb1000": "10.0.1.1/24"} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		addr, err := netlink.ParseAddr(text)
		must(t, err)
		must(t, netlink.AddrAdd(link, addr))
		must(t, netlink.LinkSetUp(link))
	}
	routes, err := hostRoutes()
	must(t, err)
	found := map[route]bool{}
	for _, r := range routes {
		found[r] = true
	}
	if !found[route{prefix("10.9.0.0/24"), "br0"}] || found[route{prefix("10.0.1.0/24"), "shoalb1000"}] {
		t.Errorf("routes: %v", routes)
	}
}

func TestPathMTUIsWhatRoutersSay(t *testing.T) {
	scratch(t)
	link, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetMTU(link, 3000))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got := PathMTU(ctx, netip.MustParseAddrPort("127.0.0.1:4789")); got != 3000 {
		t.Errorf("MTU %d, want that of the link", got)
	}
	if got := PathMTU(ctx, netip.MustParseAddrPort("192.0.2.1:4789")); got != 0 {
		t.Errorf("MTU %d of a way that is not there", got)
	}
}

// TestFeaturesLeaveNoThreadElsewhere: the first thread of a process outlives the
// goroutine that has taken it along, and /proc/self shows what that thread sees.
func TestFeaturesLeaveNoThreadElsewhere(t *testing.T) {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := func() map[string]string {
		threads, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil || len(threads) == 0 {
			t.Fatalf("no threads: %v", err)
		}
		m := map[string]string{}
		for _, thread := range threads {
			if at, err := os.Readlink(thread); err == nil && at != own { // one may have just ended
				m[thread] = at
			}
		}
		return m
	}
	before := elsewhere() // other tests leave theirs
	for range 20 {
		features()
	}
	for thread, at := range elsewhere() {
		if before[thread] != at {
			t.Errorf("%s is in %s, not in %s", thread, at, own)
		}
	}
}
