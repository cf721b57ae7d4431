//go:build docker

package link

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// crowd is 100 networks with 100 endpoints each.
func crowd() (w Want, bridges []string) {
	for n := range 100 {
		bridge, vxlan := fmt.Sprintf("shoalb%x", 4096+n), fmt.Sprintf("shoalx%x", 4096+n)
		bridges = append(bridges, bridge)
		w.Bridges = append(w.Bridges, Bridge{Name: bridge, MTU: 1450})
		w.VXLANs = append(w.VXLANs, VXLAN{
			Name: vxlan, VNI: uint32(4096 + n), Local: netip.MustParseAddr("192.0.2.1"), Port: 4789, MTU: 1450, Master: bridge,
		})
		w.Sysctls = append(w.Sysctls, Sysctl{Path: "/sys/class/net/" + bridge + "/bridge/nf_call_iptables", Value: "1"})
		for e := range 100 {
			mac := [6]byte{2, 0x42, 10, byte(n), 1, byte(e)}
			w.Forwards = append(w.Forwards, Forward{Link: vxlan, MAC: mac, Dst: netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + e%5)})})
			w.Neighbours = append(w.Neighbours, Neighbour{Link: bridge, IP: netip.AddrFrom4([4]byte{10, byte(n), 1, byte(e)}), MAC: mac})
			if e < 10 { // 1,000 services
				w.Addrs = append(w.Addrs, Addr{Link: bridge, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 2, byte(e)}), 32)})
			}
		}
	}
	return w, bridges
}

func crowded(b *testing.B) (*space, Want) {
	b.Helper()
	s := newSpace(b)
	w, bridges := crowd()
	s.must(b, func() error {
		for i, name := range bridges {
			if err := engine(name, fmt.Sprintf("10.%d.0.1/16", i)); err != nil {
				return err
			}
		}
		return nil
	})
	return s, w
}

func BenchmarkFullApply(b *testing.B) {
	s, w := crowded(b)
	for b.Loop() {
		b.StopTimer()
		s.must(b, Purge)
		l := s.links(b)
		b.StartTimer()
		s.apply(b, l, w)
	}
}

func BenchmarkOneChange(b *testing.B) {
	s, w := crowded(b)
	l := s.links(b)
	s.apply(b, l, w)
	other := w
	other.Forwards, other.Neighbours = slices.Clone(w.Forwards), slices.Clone(w.Neighbours)
	other.Forwards[5000].Dst = netip.MustParseAddr("192.0.2.99")
	other.Forwards[5000].MAC[0], other.Neighbours[5000].MAC[0] = 6, 6
	s.must(b, func() error {
		for b.Loop() {
			w, other = other, w
			if r, err := l.Apply(w); err != nil || r.Compared > 6 {
				return fmt.Errorf("%d steps: %w", r.Compared, err)
			}
		}
		return nil
	})
}

func BenchmarkAudit(b *testing.B) {
	s, w := crowded(b)
	l := s.links(b)
	s.apply(b, l, w)
	for b.Loop() {
		if r := s.audit(b, l); len(r.Repaired) > 0 {
			b.Fatal(r.Repaired)
		}
	}
}
