//go:build docker

package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// pair is two nodes with a wire between them, and a container on each.
type pair struct{ nodes, containers [2]*space }

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{}
	for i := range 2 {
		p.nodes[i], p.containers[i] = newSpace(t), newSpace(t)
	}
	p.nodes[0].tool(t, "ip link add wire type veth peer name wire2 && ip link set wire2 name wire netns "+p.nodes[1].self)
	for i, node := range p.nodes {
		n := i + 1
		node.tool(t, fmt.Sprintf("ip addr add 192.0.2.%d/24 dev wire && ip link set wire up && ip link set lo up", n))
		node.must(t, func() error {
			return errors.Join(engine("shoalb1000", "10.0.1.1/24"), engine("shoal_gw", fmt.Sprintf("10.252.%d.1/24", n)))
		})
		for k, bridge := range []string{"shoalb1000", "shoal_gw"} {
			node.tool(t, fmt.Sprintf("ip link add v%d type veth peer name w%d && ip link set v%d master %s up && ip link set w%d name eth%d mtu 1450 netns %s",
				k, k, k, bridge, k, k, p.containers[i].self))
		}
		p.containers[i].tool(t, fmt.Sprintf("ip link set eth0 address 02:42:0a:00:01:%02x up && ip addr add 10.0.1.%d/24 dev eth0 && "+
			"ip addr add fd00:2::%d/64 dev eth0 nodad && ip link set eth1 up && ip addr add 10.252.%d.2/24 dev eth1 && ip route add default via 10.252.%d.1",
			10+n, 10+n, 10+n, n, n))
		node.apply(t, node.links(t), half(n, 3-n))
	}
	return p
}

// half is what one of the two nodes wants.
func half(self, other int) Want {
	underlay := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }
	mesh := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 252, byte(n), 254}) }
	mac := [6]byte{2, 0x42, 10, 0, 1, byte(10 + other)}
	meshMAC := func(n int) [6]byte { return [6]byte{2, 0x73, 0, 0, 0, byte(n)} }
	own := meshMAC(self)
	return Want{
		VXLANs: []VXLAN{
			{Name: "shoal0", VNI: 4095, Local: underlay(self), Port: 4789, MTU: 1450, MAC: own[:]},
			{Name: "shoalx1000", VNI: 4096, Local: underlay(self), Port: 4789, MTU: 1450, Master: "shoalb1000"},
		},
		Bridges: []Bridge{{Name: "shoalb1000", MTU: 1450}, {Name: "shoal_gw", MTU: 1450}},
		Addrs:   []Addr{{Link: "shoal0", Prefix: netip.PrefixFrom(mesh(self), 32)}},
		Forwards: []Forward{
			{Link: "shoal0", MAC: meshMAC(other), Dst: underlay(other)},
			{Link: "shoalx1000", MAC: mac, Dst: underlay(other)},
		},
		Neighbours: []Neighbour{
			{Link: "shoal0", IP: mesh(other), MAC: meshMAC(other)},
			{Link: "shoalb1000", IP: netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + other)}), MAC: mac},
			{Link: "shoalb1000", IP: netip.MustParseAddr(fmt.Sprintf("fd00:2::%d", 10+other)), MAC: mac},
		},
		Routes: []Route{
			{Dst: netip.PrefixFrom(mesh(other), 24), Link: "shoal0", Via: mesh(other)},
			{Dst: netip.MustParsePrefix("10.252.0.0/14"), Blackhole: true},
		},
		Sysctls: []Sysctl{{Path: "/proc/sys/net/ipv4/ip_forward", Value: "1"}},
	}
}

// send moves data from one namespace to a listener in another one.
func send(t *testing.T, from, to *space, addr string) {
	t.Helper()
	var listener net.Listener
	to.must(t, func() (err error) {
		listener, err = net.Listen("tcp", addr)
		return err
	})
	defer listener.Close()
	const size = 1 << 20 // many full packets
	received := make(chan int64, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- -1
			return
		}
		defer conn.Close()
		n, _ := io.Copy(io.Discard, conn)
		received <- n
	}()
	from.must(t, func() error {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		_, err = conn.Write(bytes.Repeat([]byte{7}, size))
		return errors.Join(err, conn.Close())
	})
	if n := <-received; n != size {
		t.Errorf("%d bytes arrived at %s, want %d", n, addr, size)
	}
}

func TestContainersOfTwoNodesReachEachOther(t *testing.T) {
	p := newPair(t)
	send(t, p.containers[0], p.containers[1], "10.0.1.12:8000")
	send(t, p.containers[1], p.containers[0], "10.0.1.11:8000")
	send(t, p.containers[0], p.containers[1], "[fd00:2::12]:8000")
	send(t, p.nodes[0], p.containers[1], "10.252.2.2:8000") // over the mesh
	send(t, p.containers[1], p.containers[0], "10.252.1.2:8000")
	for _, node := range p.nodes {
		for _, e := range node.picture(t).statics {
			if e.Odd {
				t.Errorf("something was learnt: %s", e)
			}
		}
	}
}

// A daemon that dies or begins again must cut no connection: nothing is taken
// down and made anew.
func TestConnectionsOutliveTheDaemon(t *testing.T) {
	p := newPair(t)
	var listener net.Listener
	p.containers[1].must(t, func() (err error) {
		listener, err = net.Listen("tcp", "10.0.1.12:8000")
		return err
	})
	defer listener.Close()
	var conn net.Conn
	p.containers[0].must(t, func() (err error) {
		conn, err = net.Dial("tcp", "10.0.1.12:8000")
		return err
	})
	defer conn.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	index := func() int {
		return func() (i int) {
			p.nodes[0].must(t, func() error {
				link, err := net.InterfaceByName("shoalx1000")
				i = link.Index
				return err
			})
			return i
		}()
	}
	before := index()
	for i, node := range p.nodes {
		if r := node.apply(t, node.links(t), half(i+1, 2-i)); len(r.Repaired) > 0 {
			t.Errorf("the next life repaired %q", r.Repaired)
		}
	}
	if index() != before {
		t.Error("the device was made anew")
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}
