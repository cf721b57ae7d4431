package link

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// device is a VXLAN as it can be compared.
type device struct {
	vni    uint32
	local  netip.Addr
	port   int
	mtu    int
	mac    string // "" as the kernel chose
	master string
	up     bool
	// muted says that the port of the bridge neither learns nor floods and that
	// the bridge answers for what is behind it.
	muted bool
}

// state is what is, or what should be.
type state struct {
	devices    map[string]device
	bridges    map[string]Bridge
	addrs      set[Addr]
	forwards   set[Forward]
	entries    set[entry]
	neighbours set[Neighbour]
	routes     set[Route]
	rules      set[Rule]
}

// entry is a static one in the table of a bridge: a MAC address is behind port.
type entry struct {
	Link string
	MAC  [6]byte
}

type set[T comparable] map[T]struct{}

func setOf[T comparable](list []T) set[T] {
	s := make(set[T], len(list))
	for _, x := range list {
		s[x] = struct{}{}
	}
	return s
}

func (s state) size() int {
	return len(s.devices) + len(s.bridges) + len(s.addrs) + len(s.forwards) + len(s.entries) + len(s.neighbours) + len(s.routes) + len(s.rules)
}

// stateOf is what w asks for.
func stateOf(w Want) state {
	s := state{
		devices: make(map[string]device, len(w.VXLANs)), bridges: make(map[string]Bridge, len(w.Bridges)),
		addrs: setOf(w.Addrs), forwards: setOf(w.Forwards), neighbours: setOf(w.Neighbours), entries: set[entry]{},
		routes: setOf(w.Routes), rules: setOf(w.Rules),
	}
	ports := map[string]bool{}
	for _, v := range w.VXLANs {
		s.devices[v.Name] = deviceOf(v)
		ports[v.Name] = v.Master != ""
	}
	for _, b := range w.Bridges {
		s.bridges[b.Name] = b
	}
	s.bridgeEntries(w.Forwards, ports)
	return s
}

// bridgeEntries adds what the bridges have to know of what is behind their ports.
func (s state) bridgeEntries(forwards []Forward, ports map[string]bool) {
	for _, f := range forwards {
		if ports[f.Link] {
			s.entries[entry{f.Link, f.MAC}] = struct{}{}
		}
	}
}

// narrow returns the states of two wants without most of what they have in
// common, so that a small change among many things costs little: lists come in
// a fixed order, so what differs lies between a common beginning and end.
func narrow(before, after Want) (have, want state) {
	b, a := before, after
	b.VXLANs, a.VXLANs, b.Bridges, a.Bridges = nil, nil, nil, nil
	b.Addrs, a.Addrs = trim(b.Addrs, a.Addrs)
	b.Forwards, a.Forwards = trim(b.Forwards, a.Forwards)
	b.Neighbours, a.Neighbours = trim(b.Neighbours, a.Neighbours)
	b.Routes, a.Routes = trim(b.Routes, a.Routes)
	b.Rules, a.Rules = trim(b.Rules, a.Rules)
	have, want = stateOf(b), stateOf(a)
	ports := map[string]bool{}
	for _, v := range after.VXLANs {
		ports[v.Name] = v.Master != ""
	}
	have.bridgeEntries(b.Forwards, ports)
	want.bridgeEntries(a.Forwards, ports)
	return have, want
}

func trim[T comparable](a, b []T) (x, y []T) {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

// sameDevices reports whether two wants have the same devices and bridges.
func sameDevices(a, b Want) bool {
	return slices.Equal(a.Bridges, b.Bridges) && slices.EqualFunc(a.VXLANs, b.VXLANs, func(x, y VXLAN) bool {
		return deviceOf(x) == deviceOf(y) && x.Name == y.Name
	})
}

func deviceOf(v VXLAN) device {
	return device{vni: v.VNI, local: v.Local, port: v.Port, mtu: v.MTU, mac: v.MAC.String(), master: v.Master, up: true, muted: v.Master != ""}
}

// possible is the part of s that can be with the links that there are: what
// hangs on a bridge or device of others waits for it. Away are the links that
// cannot be.
func possible(s state, links links) (can state, away map[string]bool, waiting []string) {
	away = map[string]bool{}
	for name := range s.bridges {
		if links[name] == nil {
			away[name] = true
			waiting = append(waiting, "bridge "+name+" is not there yet")
		}
	}
	for name, d := range s.devices {
		away[name] = d.master != "" && away[d.master]
	}
	lacks := func(name string) bool {
		if _, ours := s.devices[name]; ours {
			return away[name]
		}
		return links[name] == nil
	}
	can = state{
		devices: without(s.devices, func(name string, _ device) bool { return away[name] }),
		bridges: without(s.bridges, func(name string, _ Bridge) bool { return away[name] }),
		addrs:   keep(s.addrs, func(a Addr) bool { return !lacks(a.Link) }), forwards: keep(s.forwards, func(f Forward) bool { return !lacks(f.Link) }),
		entries:    keep(s.entries, func(e entry) bool { return !lacks(e.Link) }),
		neighbours: keep(s.neighbours, func(n Neighbour) bool { return !lacks(n.Link) }),
		routes:     keep(s.routes, func(r Route) bool { return r.Blackhole || !lacks(r.Link) }), rules: s.rules,
	}
	slices.Sort(waiting)
	return can, away, waiting
}

func without[T any](m map[string]T, drop func(string, T) bool) map[string]T {
	kept := make(map[string]T, len(m))
	for name, x := range m {
		if !drop(name, x) {
			kept[name] = x
		}
	}
	return kept
}

func keep[T comparable](s set[T], want func(T) bool) set[T] {
	drops := false
	for x := range s {
		if !want(x) {
			drops = true
			break
		}
	}
	if !drops {
		return s
	}
	kept := make(set[T], len(s))
	for x := range s {
		if want(x) {
			kept[x] = struct{}{}
		}
	}
	return kept
}

// change is one thing to add (or set right) or to remove.
type change struct {
	add   bool
	what  any // a device's named, Bridge, Addr, Forward, entry, Neighbour, Route or Rule
	order int
}

// named is a device with its name; was is what it is now, if it is there.
type named struct {
	name string
	device
	was *device
}

type changes []change

// link is the one that a change is about, or leads to; "" for rules.
func (c change) link() string {
	switch x := c.what.(type) {
	case named:
		return x.name
	case Bridge:
		return x.Name
	case Addr:
		return x.Link
	case Forward:
		return x.Link
	case entry:
		return x.Link
	case Neighbour:
		return x.Link
	case Route:
		return x.Link
	}
	return ""
}

func (c change) String() string {
	verb := "remove"
	if c.add {
		verb = "missing or different"
	}
	switch x := c.what.(type) {
	case named:
		return fmt.Sprintf("%s: device %s", verb, x.name)
	case Bridge:
		return fmt.Sprintf("%s: MTU or state of bridge %s", verb, x.Name)
	case Addr:
		return fmt.Sprintf("%s: address %s on %s", verb, x.Prefix, x.Link)
	case Forward:
		return fmt.Sprintf("%s: forwarding of %s by %s to %s", verb, net.HardwareAddr(x.MAC[:]), x.Link, x.Dst)
	case entry:
		return fmt.Sprintf("%s: bridge entry of %s behind %s", verb, net.HardwareAddr(x.MAC[:]), x.Link)
	case Neighbour:
		return fmt.Sprintf("%s: neighbour %s %s on %s", verb, x.IP, net.HardwareAddr(x.MAC[:]), x.Link)
	case Route:
		return fmt.Sprintf("%s: route %s via %s table %d", verb, x.Dst, cmp.Or(x.Link, "blackhole"), x.Table)
	case Rule:
		return fmt.Sprintf("%s: rule %d", verb, x.Priority)
	}
	return verb
}

// lines are what was changed, but for what is on links that were away: they have
// come, nothing was broken.
func (c changes) lines(away map[string]bool) []string {
	lines := make([]string, 0, len(c))
	for _, x := range c {
		if !away[x.link()] {
			lines = append(lines, x.String())
		}
	}
	return lines
}

// The order in which changes are made: what leads somewhere goes before the
// device that it leads through, and comes after it.
const (
	orderRule = iota
	orderRoute
	orderNeighbour
	orderForward
	orderEntry
	orderAddr
	orderDevice
	orderBridge
)

// diff is what turns have into want. Where an entry of the same key has another
// value it is replaced, not removed and added.
func diff(have, want state) changes {
	all := diffDevices(have, want)
	all = diffSets(all, have.addrs, want.addrs, orderAddr, func(a Addr) Addr { return a })
	all = diffSets(all, have.forwards, want.forwards, orderForward, func(f Forward) entry { return entry{f.Link, f.MAC} })
	all = diffSets(all, have.entries, want.entries, orderEntry, func(e entry) entry { return e })
	type neighbourKey struct {
		link string
		ip   netip.Addr
	}
	all = diffSets(all, have.neighbours, want.neighbours, orderNeighbour, func(n Neighbour) neighbourKey { return neighbourKey{n.Link, n.IP} })
	type routeKey struct {
		dst       netip.Prefix
		table     int
		blackhole bool
	}
	all = diffSets(all, have.routes, want.routes, orderRoute, func(r Route) routeKey { return routeKey{r.Dst, r.Table, r.Blackhole} })
	all = diffSets(all, have.rules, want.rules, orderRule, func(r Rule) Rule { return r })
	slices.SortStableFunc(all, func(a, b change) int {
		if a.add != b.add { // removals first
			if a.add {
				return 1
			}
			return -1
		}
		if a.add {
			return b.order - a.order
		}
		return a.order - b.order
	})
	return all
}

// diffDevices is what turns the devices and bridges of have into those of want.
// Bridges belong to the engine: they are changed, and never removed.
func diffDevices(have, want state) (all changes) {
	for name, d := range want.devices {
		was, there := have.devices[name]
		if there && d.mac == "" {
			was.mac = ""
		}
		if !there {
			all = append(all, change{true, named{name, d, nil}, orderDevice})
		} else if was != d {
			all = append(all, change{true, named{name, d, &was}, orderDevice})
		}
	}
	for name, d := range have.devices {
		if _, wanted := want.devices[name]; !wanted {
			all = append(all, change{false, named{name, d, nil}, orderDevice})
		}
	}
	for name, b := range want.bridges {
		if was, there := have.bridges[name]; !there || b.MTU != 0 && was.MTU != b.MTU {
			all = append(all, change{true, b, orderBridge})
		}
	}
	return all
}

// diffSets adds what turns one set into another. Adding replaces what has the
// same key.
func diffSets[T, K comparable](all changes, have, want set[T], order int, key func(T) K) changes {
	replaced := map[K]bool{}
	for x := range want {
		if _, there := have[x]; !there {
			all = append(all, change{true, x, order})
			replaced[key(x)] = true
		}
	}
	for x := range have {
		if _, wanted := want[x]; !wanted && !replaced[key(x)] {
			all = append(all, change{false, x, order})
		}
	}
	return all
}
