package link

import (
	"fmt"
	"net"
	"strings"
)

func (d device) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s (vni %d, local %s, port %d, mtu %d", d.Kind, d.Name, d.VNI, d.Local, d.Port, d.MTU)
	if d.MAC != "" {
		b.WriteString(", mac " + d.MAC)
	}
	if d.Odd != "" {
		b.WriteString(", " + d.Odd)
	}
	if d.Master != "" {
		fmt.Fprintf(&b, ", on %s%s", d.Master, d.Flags)
	}
	if !d.Up {
		b.WriteString(", down")
	}
	return b.String() + ")"
}

func (f portFlags) String() string {
	var b strings.Builder
	for _, flag := range []struct {
		on   bool
		name string
	}{
		{f.Learning, "learning"},
		{f.Flood, "flood"},
		{f.McastFlood, "multicast flood"},
		{f.BcastFlood, "broadcast flood"},
		{!f.NeighSuppress, "no neighbour suppression"},
		{f.Isolated, "isolated"},
	} {
		if flag.on {
			b.WriteString(" " + flag.name)
		}
	}
	return b.String()
}

func (b bridge) String() string {
	s := fmt.Sprintf("bridge %s (mtu %d", b.Name, b.MTU)
	if !b.Up {
		s += ", down"
	}
	return s + ")"
}

func (a Addr) String() string { return fmt.Sprintf("address %s on %s", a.Prefix, a.Link) }

func (f forward) String() string {
	s := fmt.Sprintf("forwarding of %s on %s to %s", net.HardwareAddr(f.MAC[:]), f.Link, f.Dst)
	if f.Odd {
		s += " (not permanent, or with a port or network of its own)"
	}
	return s
}

func (s static) String() string {
	text := fmt.Sprintf("bridge entry %s at %s", net.HardwareAddr(s.MAC[:]), s.Link)
	if s.Odd {
		text += " (not static)"
	}
	return text
}

func (n Neighbour) String() string {
	return fmt.Sprintf("neighbour %s %s on %s", n.IP, net.HardwareAddr(n.MAC[:]), n.Link)
}

func (r route) String() string {
	var b strings.Builder
	if r.Blackhole {
		b.WriteString("blackhole ")
	}
	fmt.Fprintf(&b, "route %s", r.Dst)
	if r.Via.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Via)
	}
	if r.Link != "" {
		fmt.Fprintf(&b, " on %s", r.Link)
	}
	fmt.Fprintf(&b, " in table %d", r.Table)
	if r.Odd != "" {
		b.WriteString(" (" + r.Odd + ")")
	}
	return b.String()
}

func (r rule) String() string {
	family := 4
	if r.V6 {
		family = 6
	}
	s := fmt.Sprintf("IPv%d rule %d: iif %q mark %#x/%#x table %d", family, r.Priority, r.IIF, r.Mark, r.Mask, r.Table)
	if r.Goto != 0 {
		s += fmt.Sprintf(" goto %d", r.Goto)
	}
	if r.Odd != "" {
		s += " (" + r.Odd + ")"
	}
	return s
}

func (s Sysctl) String() string { return fmt.Sprintf("%s = %q", s.Path, s.Value) }
