package link

import (
	"net/netip"
	"os"
	"strings"
	"sync"
)

// sight is what Watch has to know to tell damage from the echo of our own
// changes. Links sets it before it makes them.
type sight struct {
	mu       sync.Mutex
	want     picture // with what waits
	possible picture
	sets     *sets // of possible; nil: not made yet
}

// sets are what is in effect, to be looked up.
type sets struct {
	links      map[string]bool // that are wanted, whether or not they are there
	addrs      map[Addr]bool
	forwards   map[Forward]bool
	statics    map[static]bool
	neighbours map[Neighbour]bool // without MAC addresses too
	routes     map[route]bool     // without ways too
	rules      map[rule]bool
}

func (s *sight) set(want, possible picture) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want, s.possible, s.sets = want, possible, nil
}

// look returns the sets; they are made only when something happens.
func (s *sight) look() *sets {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sets == nil {
		s.sets = s.possible.sets()
		for _, name := range s.want.foreign() {
			s.sets.links[name] = true
		}
	}
	return s.sets
}

func (p picture) sets() *sets {
	out := &sets{
		links:      map[string]bool{},
		addrs:      setOf(p.addrs),
		forwards:   make(map[Forward]bool, len(p.forwards)),
		statics:    setOf(p.statics),
		neighbours: make(map[Neighbour]bool, 2*len(p.neighbours)),
		routes:     make(map[route]bool, 2*len(p.routes)),
		rules:      setOf(p.rules),
	}
	for _, f := range p.forwards {
		out.forwards[f.Forward] = true
	}
	for _, n := range p.neighbours {
		out.neighbours[n] = true
		out.neighbours[Neighbour{Link: n.Link, IP: n.IP}] = true
	}
	for _, r := range p.routes {
		out.routes[r] = true
		out.routes[r.place()] = true
	}
	return out
}

func setOf[T comparable](list []T) map[T]bool {
	out := make(map[T]bool, len(list))
	for _, item := range list {
		out[item] = true
	}
	return out
}

// files returns the paths of wanted files that now hold something else, with
// what that is.
func (s *sight) files() map[string]string {
	s.mu.Lock()
	list := s.possible.sysctls
	s.mu.Unlock()
	other := map[string]string{}
	for _, f := range list {
		value, err := os.ReadFile(f.Path)
		if text := strings.TrimSpace(string(value)); err == nil && text != f.Value {
			other[f.Path] = text
		}
	}
	return other
}

// strangeEntry reports whether what is told of an entry is not as wanted. name
// is that of its link, "" for one that is not ours; master that of the bridge.
func (s *sets) strangeEntry(e entry, gone bool, name, master string) bool {
	switch {
	case e.family != familyBridge:
		return name != "" && e.ip.IsValid() && s.strangeNeighbour(e, gone, name)
	case name == "":
		// A static entry moves when its address is seen at another port.
		return master != "" && !gone && e.state == stateStatic
	case e.flags&flagSelf != 0:
		if e.odd || e.state != statePermanent {
			return e.ip.IsValid() && !gone
		}
		return e.ip.IsValid() && s.forwards[Forward{Link: name, MAC: e.mac, Dst: e.ip}] == gone
	case e.vlan || e.state == statePermanent: // a copy, or the port's own address
		return false
	case e.state != stateStatic:
		return !gone
	}
	return s.statics[static{Link: name, MAC: e.mac}] == gone
}

func (s *sets) strangeNeighbour(e entry, gone bool, name string) bool {
	n := Neighbour{Link: name, IP: e.ip}
	if gone || e.state != statePermanent {
		return s.neighbours[n] // the kernel's own business, unless it should be permanent
	}
	n.MAC = e.mac
	return !s.neighbours[n]
}

// strangeRoute is about routes with our protocol, and about others only if they
// take the place of one.
func (s *sets) strangeRoute(r route, protocol uint8, gone bool) bool {
	if protocol != Protocol {
		return !gone && s.routes[r.place()]
	}
	return s.routes[r] == gone
}

// place is what can be only one route.
func (r route) place() route {
	return route{Route: Route{Dst: r.Dst, Table: r.Table, Via: netip.Addr{}}, Metric: r.Metric}
}
