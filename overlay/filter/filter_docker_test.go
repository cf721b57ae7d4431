//go:build docker

package filter

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// yard is a host with a bridge, two backends and a client on it, and one
// client outside: each in a namespace of its own. The test's thread is in the
// host's.
type yard struct {
	t          testing.TB
	host       netns.NsHandle
	namespaces map[string]netns.NsHandle
}

func newYard(t testing.TB) *yard {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	y := &yard{t: t, namespaces: map[string]netns.NsHandle{}}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("needs root: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b1", "b2", "c", "out", "host"} { // host last: the thread stays there
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		y.namespaces[name] = ns
		y.run("ip link set lo up")
		// Else the first seconds have no link-local address to ask neighbours from.
		y.run("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")
	}
	y.host = y.namespaces["host"]
	if err := unix.Mount("none", "/sys", "sysfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	y.run("ip link add shoal_gw type bridge")
	y.run("ip link set shoal_gw address 02:00:00:00:00:01 up")
	y.run("ip addr add 10.252.1.1/24 dev shoal_gw")
	y.run("ip addr add fd00:1::1/64 dev shoal_gw nodad")
	y.run("ip addr add 10.252.1.100/32 dev shoal_gw") // VIPs
	y.run("ip addr add 10.252.1.101/32 dev shoal_gw")
	for i, name := range []string{"b1", "b2", "c"} {
		y.plug(name, fmt.Sprintf("10.252.1.%d/24", 2+i), fmt.Sprintf("fd00:1::%d/64", 2+i), "10.252.1.1", "fd00:1::1", "shoal_gw")
	}
	y.plug("out", "192.0.2.9/24", "fd00:2::9/64", "192.0.2.1", "fd00:2::1", "")
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/shoal_gw/route_localnet"} {
		y.run("sysctl -qw " + strings.ReplaceAll(path, "/", ".") + "=1")
	}
	for _, file := range []string{"nf_call_iptables", "nf_call_ip6tables"} {
		y.run("sh -c echo${IFS}1>/sys/class/net/shoal_gw/bridge/" + file)
	}
	return y
}

// plug joins a namespace with the host, by a bridge or directly.
func (y *yard) plug(name, v4, v6, gateway4, gateway6, master string) {
	y.run("ip link add v" + name + " type veth peer name e0 netns " + y.fd(name))
	if master != "" {
		y.run("ip link set v" + name + " master " + master)
	} else {
		y.run("ip addr add " + gateway4 + "/24 dev v" + name)
		y.run("ip addr add " + gateway6 + "/64 dev v" + name + " nodad")
	}
	y.run("ip link set v" + name + " up")
	if master != "" {
		y.run("bridge link set dev v" + name + " hairpin on") // as overlay/link does
	}
	y.in(name, func() {
		y.run("ip addr add " + v4 + " dev e0")
		y.run("ip addr add " + v6 + " dev e0 nodad")
		y.run("ip link set e0 up")
		y.run("ip route add default via " + gateway4)
		y.run("ip -6 route add default via " + gateway6)
	})
}

// fd is a path by which ip finds a namespace.
func (y *yard) fd(name string) string {
	return fmt.Sprintf("/proc/%d/fd/%d", unix.Getpid(), int(y.namespaces[name]))
}

func (y *yard) run(command string) string {
	y.t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		y.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// in runs f in a namespace.
func (y *yard) in(name string, f func()) {
	y.t.Helper()
	if err := netns.Set(y.namespaces[name]); err != nil {
		y.t.Fatal(err)
	}
	defer func() {
		if err := netns.Set(y.host); err != nil {
			y.t.Fatal(err)
		}
	}()
	f()
}

// serve answers each line with the backend's name and the client's address.
func (y *yard) serve(name, port string) {
	y.t.Helper()
	y.in(name, func() {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			y.t.Fatal(err)
		}
		y.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					for in := bufio.NewScanner(conn); in.Scan(); {
						fmt.Fprintf(conn, "%s %s\n", name, conn.RemoteAddr())
					}
				}()
			}
		}()
	})
}

// open connects from a namespace.
func (y *yard) open(from, to string) (net.Conn, error) {
	var conn net.Conn
	var err error
	y.in(from, func() { conn, err = net.DialTimeout("tcp", to, 2*time.Second) })
	if conn != nil {
		y.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

func say(conn net.Conn) (backend, client string, err error) {
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", "", err
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return "", "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	backend, client, _ = strings.Cut(strings.TrimSpace(line), " ")
	return backend, client, err
}

// asks returns who answers to so many connections, and as whom they see us.
func (y *yard) asks(from, to string, times int) (backends []string, clients map[string]bool) {
	y.t.Helper()
	clients = map[string]bool{}
	for range times {
		conn, err := y.open(from, to)
		if err != nil {
			y.t.Errorf("%s asks %s: %v", from, to, err)
			return nil, nil
		}
		backend, client, err := say(conn)
		if err != nil {
			y.t.Errorf("%s asks %s: %v", from, to, err)
		}
		conn.Close()
		host, _, _ := net.SplitHostPort(client)
		backends, clients[host] = append(backends, backend), true
	}
	slices.Sort(backends)
	return slices.Compact(backends), clients
}

func addrs(list ...string) (all []netip.Addr) {
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// both is a VIP and a port with two backends in both families.
func both() Want {
	return Want{
		MeshBridge: "shoal_gw", MeshLink: "shoal0", TunnelLink: "shoalwg", Bridges: []string{"shoal_gw"},
		MeshPools: []netip.Prefix{netip.MustParsePrefix("10.252.0.0/14"), netip.MustParsePrefix("fd00:1::/48")},
		VIPs:      []VIP{{Addr: netip.MustParseAddr("10.252.1.100"), Backends: addrs("10.252.1.2", "10.252.1.3")}},
		Ports: []Port{{Protocol: "tcp", Port: 8080, Backends: []netip.AddrPort{
			netip.MustParseAddrPort("10.252.1.2:80"), netip.MustParseAddrPort("10.252.1.3:80"),
			netip.MustParseAddrPort("[fd00:1::2]:80"), netip.MustParseAddrPort("[fd00:1::3]:80"),
		}}},
		Local: addrs("10.252.1.2", "10.252.1.3", "10.252.1.4", "fd00:1::2", "fd00:1::3"),
		Known: addrs("10.252.1.2", "10.252.1.3", "10.252.1.4", "fd00:1::2", "fd00:1::3"),
		Port:  4789, SealedPort: 14789, VNIs: []uint32{4095, 4097}, Peers: addrs("192.0.2.2", "::ffff:192.0.2.3"),
		Marks: []Mark{{MAC: net.HardwareAddr{2, 0x5a, 0, 0, 0, 2}, Mark: 0x5a000002}},
	}
}

func newFilter(t testing.TB) *Filter {
	t.Helper()
	f, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func apply(t testing.TB, f *Filter, w Want) Result {
	t.Helper()
	r, err := f.Apply(w)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestServicesAndPortsAreSpreadAndShowTheClient(t *testing.T) {
	y := newYard(t)
	y.serve("b1", "80")
	y.serve("b2", "80")
	apply(t, newFilter(t), both())
	for _, c := range []struct{ from, to, sees string }{
		{"c", "10.252.1.100:80", "10.252.1.4"},
		{"out", "192.0.2.1:8080", "192.0.2.9"},
		{"out", "[fd00:2::1]:8080", "fd00:2::9"},
		{"c", "192.0.2.1:8080", "10.252.1.4"},
		{"host", "192.0.2.1:8080", "192.0.2.1"},
		{"host", "127.0.0.1:8080", "10.252.1.1"},
	} {
		backends, clients := y.asks(c.from, c.to, 24)
		if !slices.Equal(backends, []string{"b1", "b2"}) || len(clients) != 1 || !clients[c.sees] {
			t.Errorf("%s asks %s: answered by %v, which see %v, want both and %s", c.from, c.to, backends, clients, c.sees)
		}
	}
	if backends, _ := y.asks("b1", "10.252.1.100:80", 24); !slices.Equal(backends, []string{"b1", "b2"}) {
		t.Errorf("a backend asks its own service: answered by %v", backends)
	}
}

func TestWhatNobodyServesIsRefusedAtOnce(t *testing.T) {
	y := newYard(t)
	w := both()
	w.VIPs[0].Backends, w.Ports[0].Backends = nil, nil
	apply(t, newFilter(t), w)
	for _, c := range [][2]string{{"c", "10.252.1.100:80"}, {"out", "192.0.2.1:8080"}, {"out", "[fd00:2::1]:8080"}, {"host", "127.0.0.1:8080"}} {
		if _, err := y.open(c[0], c[1]); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s asks %s: %v, want a refusal", c[0], c[1], err)
		}
	}
}

func TestOpenConnectionsOutliveEveryChangeButTheirEnd(t *testing.T) {
	y := newYard(t)
	y.serve("b1", "80")
	y.serve("b2", "80")
	f := newFilter(t)
	apply(t, f, both())
	conns := map[string]net.Conn{}
	for len(conns) < 2 {
		conn, err := y.open("c", "10.252.1.100:80")
		if err != nil {
			t.Fatal(err)
		}
		backend, _, err := say(conn)
		if err != nil {
			t.Fatal(err)
		}
		conns[backend] = conn
	}
	w := both()
	w.VIPs[0].Backends = w.VIPs[0].Backends[:1] // b2 drains
	w.Ports[0].Backends = w.Ports[0].Backends[:1]
	apply(t, f, w)
	apply(t, newFilter(t), w) // a daemon that comes back makes the whole table
	for _, name := range []string{"b1", "b2"} {
		if backend, _, err := say(conns[name]); err != nil || backend != name {
			t.Errorf("connection to %s is answered by %q: %v", name, backend, err)
		}
	}
	if backends, _ := y.asks("c", "10.252.1.100:80", 16); !slices.Equal(backends, []string{"b1"}) {
		t.Errorf("new connections go to %v", backends)
	}
	w.Known = slices.DeleteFunc(slices.Clone(w.Known), func(a netip.Addr) bool { return a == netip.MustParseAddr("10.252.1.3") })
	f.want = both()
	f.want.VIPs, f.want.Ports = w.VIPs, w.Ports
	apply(t, f, w) // b2 is dead
	if n, _, err := f.flows.forget(doomed.forget); n == 0 || err != nil {
		t.Errorf("%d connections forgotten: %v", n, err)
	}
	if _, _, err := say(conns["b2"]); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the connection to a backend that is gone: %v, want a reset", err)
	}
	if backend, _, err := say(conns["b1"]); err != nil {
		t.Errorf("the other one: %s %v", backend, err)
	}
}

func TestPublishedPortsLookTaken(t *testing.T) {
	y := newYard(t)
	f := newFilter(t)
	var foreign net.Listener
	y.in("host", func() {
		var err error
		if foreign, err = net.Listen("tcp4", ":9090"); err != nil {
			t.Fatal(err)
		}
	})
	w := both()
	w.Ports = append(w.Ports, Port{Protocol: "tcp", Port: 9090}, Port{Protocol: "udp", Port: 9090})
	if r := apply(t, f, w); !slices.Equal(r.Taken, []string{"tcp/9090"}) {
		t.Errorf("taken are %v", r.Taken)
	}
	if l, err := net.Listen("tcp", ":8080"); err == nil {
		l.Close()
		t.Error("another program can listen on a published port")
	}
	foreign.Close()
	if r, err := f.Audit(); err != nil || len(r.Taken) > 0 {
		t.Errorf("once the other has gone: taken %v, err %v", r.Taken, err)
	}
	apply(t, f, Want{Port: 4789, SealedPort: 14789})
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		t.Fatalf("a port that is published no more: %v", err)
	}
	l.Close()
}

// vxlan is a frame of a network, as it comes by UDP.
func vxlan(vni uint32) []byte {
	return append([]byte{8, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0}, make([]byte, 60)...)
}

func TestFramesOfStrangersAreDropped(t *testing.T) {
	y := newYard(t)
	apply(t, newFilter(t), both())
	y.run("ip addr add 192.0.2.2/24 dev vout")
	var in4789, in14789 *net.UDPConn
	y.in("host", func() {
		in4789, _ = net.ListenUDP("udp4", &net.UDPAddr{Port: 4789})
		in14789, _ = net.ListenUDP("udp4", &net.UDPAddr{Port: 14789})
	})
	defer in4789.Close()
	defer in14789.Close()
	y.in("out", func() { y.run("ip addr add 192.0.2.3/24 dev e0") })
	send := func(source string, port int, frame []byte) {
		t.Helper()
		y.in("out", func() {
			conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(source)}, &net.UDPAddr{IP: net.ParseIP("192.0.2.1"), Port: port})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(frame); err != nil {
				t.Fatal(err)
			}
		})
	}
	send("192.0.2.9", 4789, vxlan(4097))  // no peer
	send("192.0.2.3", 14789, vxlan(4098)) // sealed, and not through the tunnel
	send("192.0.2.9", 4789, vxlan(77))    // not ours: others may use the port
	send("192.0.2.3", 4789, vxlan(4097))  // a peer
	var got []int
	buf := make([]byte, 100)
	for range 2 {
		_ = in4789.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, from, err := in4789.ReadFromUDP(buf); err == nil {
			got = append(got, int(from.IP.To4()[3])<<16|int(buf[5])<<8|int(buf[6]))
		}
	}
	if !slices.Equal(got, []int{9<<16 | 77, 3<<16 | 4097}) {
		t.Errorf("frames that came in: %#x", got)
	}
	_ = in14789.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, from, err := in14789.ReadFromUDP(buf); err == nil {
		t.Errorf("%d bytes came in for a sealed network from %v, in the clear", n, from)
	}
	var sent error
	y.in("host", func() {
		conn, err := net.Dial("udp4", "192.0.2.9:14789")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, sent = conn.Write(vxlan(4098))
	})
	if !errors.Is(sent, unix.EPERM) {
		t.Errorf("a sealed frame leaves in the clear: %v", sent)
	}
}

func BenchmarkApply(b *testing.B) {
	newYard(b)
	w := Want{MeshBridge: "shoal_gw", MeshLink: "shoal0", TunnelLink: "shoalwg", Port: 4789, SealedPort: 14789}
	for s := range 1000 {
		v := VIP{Addr: netip.AddrFrom4([4]byte{10, 1, byte(s / 250), byte(s % 250)})}
		p := Port{Protocol: "tcp", Port: uint16(10000 + s)}
		for i := range 10 {
			a := netip.AddrFrom4([4]byte{10, byte(10 + i), byte(s / 250), byte(s % 250)})
			v.Backends = append(v.Backends, a)
			p.Backends = append(p.Backends, netip.AddrPortFrom(a, 80))
			w.Known, w.Local = append(w.Known, a), append(w.Local, a)
		}
		w.VIPs, w.Ports = append(w.VIPs, v), append(w.Ports, p)
	}
	f := newFilter(b)
	start := time.Now()
	apply(b, f, w)
	rebuild := time.Since(start)
	start = time.Now()
	if _, err := f.Audit(); err != nil {
		b.Fatal(err)
	}
	audit := time.Since(start)
	for i := 0; b.Loop(); i++ {
		w.VIPs, w.Ports = slices.Clone(w.VIPs), slices.Clone(w.Ports)
		w.VIPs[7].Backends = both().VIPs[0].Backends[:1+i%2]
		w.Ports[7].Backends = both().Ports[0].Backends[:1+i%2]
		apply(b, f, w)
	}
	b.ReportMetric(float64(rebuild.Milliseconds()), "rebuild-ms")
	b.ReportMetric(float64(audit.Milliseconds()), "audit-ms")
}
