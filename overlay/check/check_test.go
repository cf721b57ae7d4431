package check

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// levels are the checks with their levels, in order.
func levels(found []Finding) (out []string) {
	for _, f := range found {
		out = append(out, f.Check+" "+string(f.Level))
	}
	return out
}

// expect also sees to it that whatever is not well says what to do.
func expect(t *testing.T, what string, found []Finding, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, levels(found)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	for _, f := range found {
		if f.Detail == "" || (f.Remedy == "") != (f.Level == OK) {
			t.Errorf("%s: %+v", what, f)
		}
	}
}

func TestSysctls(t *testing.T) {
	good := map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/disable_ipv6": "0", "net/bridge/bridge-nf-call-iptables": "1"}
	value := func(m map[string]string) func(string) string { return func(path string) string { return m[path] } }
	expect(t, "good", sysctls(value(good)), "ip_forward ok", "ipv6 ok", "br_netfilter ok")
	expect(t, "nothing", sysctls(value(nil)), "ip_forward warn", "ipv6 warn", "br_netfilter bad")
	good["net/ipv6/conf/all/disable_ipv6"] = "1"
	expect(t, "IPv6 off", sysctls(value(good)), "ip_forward ok", "ipv6 warn", "br_netfilter ok")
}

func TestClock(t *testing.T) {
	expect(t, "kept", []Finding{clockFinding(unix.TIME_OK, 0, nil)}, "clock ok")
	expect(t, "not kept", []Finding{clockFinding(unix.TIME_ERROR, 0, nil)}, "clock warn")
	expect(t, "not in step", []Finding{clockFinding(unix.TIME_OK, unix.STA_UNSYNC, nil)}, "clock warn")
	expect(t, "not told", []Finding{clockFinding(0, 0, unix.EPERM)}, "clock warn")
}

type fakeEngine struct {
	version string
	err     error
}

func (f fakeEngine) Version(context.Context) (string, error) { return f.version, f.err }

func TestEngine(t *testing.T) {
	for version, want := range map[string]string{"28.5.2": "engine ok", "20.10.24+dfsg1": "engine ok", "19.03.8": "engine bad", "dev": "engine warn"} {
		expect(t, version, []Finding{engine(t.Context(), fakeEngine{version: version})}, want)
	}
	expect(t, "away", []Finding{engine(t.Context(), fakeEngine{err: errors.New("refused")})}, "engine bad")
}

const udpTable = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  512: 00000000:1F0A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0000000000000000 0
  513: 0100007F:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0000000000000000 0
`

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0949 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 88 1 0000000000000000 100 0 0 10 0
   1: 0100007F:0949 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 99 1 0000000000000000 100 0 0 10 0
`

func TestSocketsOnAPort(t *testing.T) {
	for _, c := range []struct {
		table string
		port  Port
		want  []string
	}{
		{udpTable, Port{Protocol: "udp", Number: 7946}, []string{"77"}},
		{udpTable, Port{Protocol: "udp", Number: 4789}, nil},            // 4789 is 12B5: a socket of the kernel
		{tcpTable, Port{Protocol: "tcp", Number: 2377}, []string{"88"}}, // not the connection
		{"garbage\n\n", Port{Protocol: "tcp", Number: 2377}, nil},
	} {
		if got := socketsOn(c.table, c.port); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.port, got, c.want)
		}
	}
}

func TestWhoHoldsAPort(t *testing.T) {
	p := Port{"udp", 4789, "VXLAN"}
	for name, c := range map[string]struct {
		err   error
		by    process
		links []string
		want  Level
		says  string
	}{
		"a stranger":            {unix.EADDRINUSE, process{12, "flanneld"}, nil, Bad, "held by flanneld (pid 12)"},
		"shoal":                 {unix.EADDRINUSE, process{12, "shoal"}, nil, OK, "held by shoal"},
		"this process":          {unix.EADDRINUSE, process{os.Getpid(), "check.test"}, nil, OK, "held by shoal"},
		"shoal's VXLAN":         {unix.EADDRINUSE, process{}, []string{"shoal0", "shoalx1000"}, OK, "shoal's"},
		"a stranger's VXLAN":    {unix.EADDRINUSE, process{}, []string{"shoal0", "flannel.1"}, Warn, "flannel.1"},
		"nobody that one sees":  {unix.EADDRINUSE, process{}, nil, Bad, "by the kernel"},
		"a port for root alone": {unix.EACCES, process{}, nil, Bad, "permission denied"},
	} {
		f := held(p, c.err, c.by, c.links)
		if f.Level != c.want || !strings.Contains(f.Detail, c.says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestPortsOfThisProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := Port{"tcp", l.Addr().(*net.TCPAddr).Port, "a test"}
	if got, err := holder(p); got.pid != os.Getpid() || err != nil {
		t.Errorf("held by %+v, want this process", got)
	}
	expect(t, "held", ports([]Port{p}), "port "+p.String()+" ok")
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestClashes(t *testing.T) {
	o := Options{Subnets: []netip.Prefix{prefix("10.252.0.0/14"), prefix("fd00:1::/64")}, Pools: []netip.Prefix{prefix("10.0.0.0/8")}}
	for name, c := range map[string]struct {
		routes []route
		want   []string
	}{
		"none":             {nil, []string{"subnets ok"}},
		"default and far":  {[]route{{prefix("0.0.0.0/0"), "eth0"}, {prefix("::/0"), "eth0"}, {prefix("192.168.1.0/24"), "eth0"}, {prefix("fe80::/64"), "eth0"}}, []string{"subnets ok"}},
		"in the mesh":      {[]route{{prefix("10.253.7.0/24"), "tun0"}}, []string{"subnets bad"}},
		"around it":        {[]route{{prefix("10.0.0.0/8"), "tun0"}}, []string{"subnets bad"}},
		"in a pool":        {[]route{{prefix("10.1.2.0/24"), "eth0"}}, []string{"subnets warn"}},
		"in IPv6":          {[]route{{prefix("fd00:1::/72"), "eth0"}}, []string{"subnets bad"}},
		"one of each kind": {[]route{{prefix("10.1.2.0/24"), "eth0"}, {prefix("10.252.0.0/24"), "eth1"}}, []string{"subnets warn", "subnets bad"}},
	} {
		expect(t, name, clashes(c.routes, o), c.want...)
	}
}

func TestUnderlayIsTheLinkWithTheAddress(t *testing.T) {
	link, err := underlay(netip.MustParseAddr("127.0.0.1"), nil)
	if err != nil || link.Name != "lo" {
		t.Errorf("%s, %v", link.Name, err)
	}
	if _, err := underlay(netip.MustParseAddr("192.0.2.77"), nil); err == nil {
		t.Error("an address of nobody is no error")
	}
	if _, err := underlay(netip.Addr{}, nil); err == nil {
		t.Error("no default route is no error")
	}
	link, err = underlay(netip.Addr{}, []route{{prefix("10.0.0.0/8"), "nope"}, {prefix("0.0.0.0/0"), "lo"}})
	if err != nil || link.Name != "lo" {
		t.Errorf("towards the default route: %s, %v", link.Name, err)
	}
}

func TestMTU(t *testing.T) {
	expect(t, "1500", []Finding{mtu("eth0", 1500)}, "mtu ok")
	expect(t, "1400", []Finding{mtu("eth0", 1400)}, "mtu warn")
	expect(t, "1300", []Finding{mtu("eth0", 1300)}, "mtu bad")
}

func TestForwardPolicy(t *testing.T) {
	filter, drop, accept := &nftables.Table{Name: "filter"}, new(nftables.ChainPolicyDrop), new(nftables.ChainPolicyAccept)
	forward := func(policy *nftables.ChainPolicy) *nftables.Chain {
		return &nftables.Chain{Name: "FORWARD", Table: filter, Policy: policy}
	}
	user := &nftables.Chain{Name: "DOCKER-USER", Table: filter}
	expect(t, "no rules", []Finding{forwardPolicy(nil)}, "forwarding ok")
	expect(t, "accepted", []Finding{forwardPolicy([]*nftables.Chain{forward(accept)})}, "forwarding ok")
	expect(t, "dropped", []Finding{forwardPolicy([]*nftables.Chain{forward(drop)})}, "forwarding bad")
	expect(t, "dropped with Docker", []Finding{forwardPolicy([]*nftables.Chain{forward(drop), user})}, "forwarding ok")
	other := forward(drop)
	other.Table = &nftables.Table{Name: "mine"}
	expect(t, "another table's", []Finding{forwardPolicy([]*nftables.Chain{other})}, "forwarding ok")
}

func TestFeaturesThatAreMissing(t *testing.T) {
	have, lack := func() error { return nil }, func() error { return unix.EOPNOTSUPP }
	wanted := []feature{{"a", "mod_a", have}, {"b", "mod_b", lack}, {"c", "", lack}, {"d", "", have}}
	found := tryFeatures(nil, wanted)
	expect(t, "some", found, "kernel: b bad", "kernel: c bad", "kernel ok")
	if !strings.Contains(found[0].Remedy, "modprobe mod_b") || found[2].Detail != "a, d" {
		t.Errorf("%+v", found)
	}
	expect(t, "without rights", tryFeatures(unix.EPERM, wanted), "kernel warn")
}

func TestEchoAnswersThePoolAlone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	at := freeUDP(t)
	ended := make(chan error, 1)
	go func() { ended <- echo(ctx, at, prefix("127.0.0.0/8")) }()
	l := Ping(t.Context(), netip.MustParseAddr("127.0.0.1"), at, 1400)
	if l.RTT <= 0 || l.MTU != 1400 {
		t.Errorf("over loopback: %+v", l)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("echo ended with %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() { ended <- echo(ctx, at, prefix("10.252.0.0/14")) }()
	short, stop := context.WithTimeout(t.Context(), 2*pingEvery)
	defer stop()
	if l := Ping(short, netip.MustParseAddr("127.0.0.1"), at, 1400); l.RTT != 0 {
		t.Errorf("a stranger gets an answer: %+v", l)
	}
	cancel()
	<-ended
}

func TestPingOfNobodyEndsInTime(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*pingEvery)
	defer cancel()
	if l := Ping(ctx, netip.MustParseAddr("127.0.0.1"), freeUDP(t), 1400); l != (MeshLink{}) {
		t.Errorf("%+v", l)
	}
}

func freeUDP(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestAnswerProbesAllPeers(t *testing.T) {
	self := netip.MustParseAddr("127.0.0.1")
	r := Request{
		Self: Peer{NodeID: "n1", Mesh: self}, Pool: prefix("127.0.0.0/8"), Window: 500 * time.Millisecond, Port: 4789,
		Peers: []Peer{{NodeID: "n2", Addr: "127.0.0.1:2377", Mesh: self}, {NodeID: "n3", Addr: "127.0.0.1:2377"}},
	}
	l := Local{
		NodeID: "n1",
		Dial: func(_ context.Context, p Peer) (net.Conn, error) {
			if p.NodeID == "n3" {
				return nil, errors.New("refused")
			}
			near, far := net.Pipe()
			far.Close()
			return near, nil
		},
		Audit: func(context.Context) (int, []string, error) {
			return 7, []string{"route missing"}, errors.New("no route")
		},
	}
	got := Answer(t.Context(), r, l)
	if got.NodeID != "n1" || !got.Audited || got.Compared != 7 || len(got.Differences) != 1 || got.AuditError == "" || len(got.Findings) == 0 || got.Sent.Before(got.Received) {
		t.Errorf("%+v", got)
	}
	if len(got.Links) != 2 {
		t.Fatalf("links: %+v", got.Links)
	}
	if l := got.Links[0]; l.RTT <= 0 || l.Error != "" || !l.HasMesh || l.Mesh.RTT <= 0 || l.Mesh.MTU < 1450 || l.LocalMTU != 65536 || l.MTU == 0 {
		t.Errorf("to n2: %+v", l)
	}
	if l := got.Links[1]; l.RTT != 0 || l.Error != "refused" || l.HasMesh {
		t.Errorf("to n3: %+v", l)
	}
	if got := Answer(t.Context(), Request{}, Local{}); got.Audited || got.Links == nil && len(got.Findings) == 0 {
		t.Errorf("without anything: %+v", got)
	}
}
