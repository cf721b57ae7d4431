package link

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// prefix begins the name of every link that is ours or the engine's for us.
const prefix = "shoal"

// lastResort is the metric of blackholes: any real route wins.
const lastResort = 0xfffffff

// metricV6 is what the kernel gives to IPv6 routes that ask for none.
const metricV6 = 1024

// picture is what should be in the kernel, or what is, of what is ours. Both
// have the same form, so that they can be compared.
type picture struct {
	devices    []device
	bridges    []bridge
	sysctls    []Sysctl
	addrs      []Addr
	forwards   []forward
	statics    []static
	neighbours []Neighbour
	routes     []route
	rules      []rule
}

// device is a VXLAN, or what else has the name of one.
type device struct {
	Name   string
	Kind   string // as the kernel says it: vxlan
	VNI    uint32
	Local  netip.Addr
	Port   int
	MTU    int    // 0: any
	MAC    string // "": any
	Odd    string // what no device of ours has: "learning"
	Master string
	Up     bool
	Flags  portFlags // zero without Master
}

// portFlags are those of a port of a bridge.
type portFlags struct{ Learning, Flood, McastFlood, BcastFlood, NeighSuppress, Isolated bool }

type bridge struct {
	Name string
	MTU  int // 0: any
	Up   bool
}

// forward is an entry of a VXLAN. Odd ones have something that ours do not: a
// port, a network or a lifetime of their own.
type forward struct {
	Forward
	Odd bool
}

// static is an entry of a bridge: this MAC address is behind that port.
type static struct {
	Link string
	MAC  [6]byte
	Odd  bool // not static
}

// route is one with everything filled in.
type route struct {
	Route
	Metric int
	Odd    string // what no route of ours has: "source 10.0.0.1"
}

// rule is one of one family.
type rule struct {
	Rule
	Odd string // what no rule of ours has: "from 10.0.0.0/8"
}

// on is the link that a thing is on and cannot be without, or "".
func (d device) on() string    { return d.Master }
func (b bridge) on() string    { return b.Name }
func (a Addr) on() string      { return a.Link }
func (f Forward) on() string   { return f.Link }
func (s static) on() string    { return s.Link }
func (n Neighbour) on() string { return n.Link }
func (r Route) on() string     { return r.Link }
func (Rule) on() string        { return "" } // one for a link that is not there sleeps in the kernel

// on is the link whose directory the file is in.
func (s Sysctl) on() string {
	for _, dir := range []string{"/sys/class/net/", "/proc/sys/net/ipv4/conf/", "/proc/sys/net/ipv6/conf/"} {
		if rest, ok := strings.CutPrefix(s.Path, dir); ok {
			link, _, _ := strings.Cut(rest, "/")
			if link != "all" && link != "default" {
				return link
			}
		}
	}
	return ""
}

// wanted draws the picture of what should be. Without v6 it leaves out what a
// kernel with IPv6 switched off does not take, and counts that.
func wanted(w Want, v6 bool) (p picture, dropped int, err error) {
	if err := w.check(); err != nil {
		return picture{}, 0, err
	}
	p = picture{sysctls: w.Sysctls, addrs: w.Addrs, neighbours: w.Neighbours}
	ports := map[string]bool{}
	for _, x := range w.VXLANs {
		p.devices = append(p.devices, x.device())
		if x.Master != "" {
			ports[x.Name] = true
		}
	}
	for _, b := range w.Bridges {
		p.bridges = append(p.bridges, bridge{Name: b.Name, MTU: b.MTU, Up: true})
	}
	p.forwards = make([]forward, 0, len(w.Forwards))
	p.statics = make([]static, 0, len(w.Forwards))
	for _, f := range w.Forwards {
		p.forwards = append(p.forwards, forward{Forward: f})
		if ports[f.Link] {
			p.statics = append(p.statics, static{Link: f.Link, MAC: f.MAC})
		}
	}
	for _, r := range w.Routes {
		p.routes = append(p.routes, r.full())
	}
	for _, r := range w.Rules {
		p.rules = append(p.rules, r.families()...)
	}
	all := p.size()
	if !v6 {
		p.dropV6()
	}
	return p, all - p.size(), nil
}

// dropV6 takes out what IPv6 has to be on for.
func (p *picture) dropV6() {
	p.addrs = without(p.addrs, func(a Addr) bool { return a.Prefix.Addr().Is6() })
	p.neighbours = without(p.neighbours, func(n Neighbour) bool { return n.IP.Is6() })
	p.routes = without(p.routes, func(r route) bool { return r.Dst.Addr().Is6() })
	p.rules = without(p.rules, func(r rule) bool { return r.V6 })
	p.sysctls = without(p.sysctls, func(s Sysctl) bool { return strings.HasPrefix(s.Path, "/proc/sys/net/ipv6/") })
}

// without copies a list, if it has to, and leaves out some.
func without[T any](list []T, out func(T) bool) []T {
	if !slices.ContainsFunc(list, out) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), out)
}

func (x VXLAN) device() device {
	d := device{
		Name: x.Name, Kind: "vxlan", VNI: x.VNI, Local: x.Local, Port: x.Port,
		MTU: x.MTU, MAC: x.MAC.String(), Master: x.Master, Up: true,
	}
	d.Flags.NeighSuppress = x.Master != ""
	return d
}

func (r Route) full() route {
	r.Dst = r.Dst.Masked()
	if r.Table == 0 {
		r.Table = unix.RT_TABLE_MAIN
	}
	out := route{Route: r}
	if r.Dst.Addr().Is6() {
		out.Metric = metricV6
	}
	if r.Blackhole {
		out.Link, out.Via, out.Metric = "", netip.Addr{}, lastResort
	}
	return out
}

func (r Rule) families() []rule {
	if r.Mark != 0 && r.Mask == 0 {
		r.Mask = 0xffffffff // as the kernel reads it
	}
	if r.Table != 0 {
		r.Goto = 0
	}
	both := r.V6
	r.V6 = false
	rules := []rule{{Rule: r}}
	if both {
		r.V6 = true
		rules = append(rules, rule{Rule: r})
	}
	return rules
}

// check refuses what would reach beyond what is ours, or cannot be.
func (w Want) check() error {
	for _, x := range w.VXLANs {
		if !strings.HasPrefix(x.Name, prefix) || len(x.Name) >= unix.IFNAMSIZ || !x.Local.IsValid() || x.Port <= 0 {
			return fmt.Errorf("vxlan %q, local %s, port %d: %w", x.Name, x.Local, x.Port, errdefs.ErrInvalidArgument)
		}
	}
	for _, b := range w.Bridges {
		if !strings.HasPrefix(b.Name, prefix) {
			return fmt.Errorf("bridge %q: %w", b.Name, errdefs.ErrInvalidArgument)
		}
	}
	for _, a := range w.Addrs {
		if !strings.HasPrefix(a.Link, prefix) || !a.Prefix.IsValid() {
			return fmt.Errorf("address %s on %q: %w", a.Prefix, a.Link, errdefs.ErrInvalidArgument)
		}
	}
	return checkWays(w.Routes, w.Rules)
}

func checkWays(routes []Route, rules []Rule) error {
	for _, r := range routes {
		if !r.Dst.IsValid() || (!r.Blackhole && r.Link == "") || (r.Via.IsValid() && r.Via.Is6() != r.Dst.Addr().Is6()) {
			return fmt.Errorf("route %s via %s on %q: %w", r.Dst, r.Via, r.Link, errdefs.ErrInvalidArgument)
		}
	}
	for _, r := range rules {
		if r.Table == 0 && r.Goto <= r.Priority {
			return fmt.Errorf("rule %d: it neither has a table nor goes forward: %w", r.Priority, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// foreign yields the names of the links that p needs and that are not made
// here, each once.
func (p picture) foreign() []string {
	own := map[string]bool{"": true}
	for _, d := range p.devices {
		own[d.Name] = true
	}
	var names []string
	add := func(name string) {
		if !own[name] {
			own[name] = true
			names = append(names, name)
		}
	}
	addAll(p.devices, add)
	addAll(p.bridges, add)
	addAll(p.sysctls, add)
	addAll(p.addrs, add)
	addAll(p.forwards, add)
	addAll(p.neighbours, add)
	addAll(p.routes, add)
	return names
}

// addAll calls add for the links of a list, and not again and again where many
// entries of one link follow each other.
func addAll[T interface{ on() string }](list []T, add func(string)) {
	last := ""
	for _, item := range list {
		if name := item.on(); name != last {
			add(name)
			last = name
		}
	}
}

// possible leaves out what waits for links that are missing.
func (p picture) possible(missing map[string]bool) picture {
	if len(missing) == 0 {
		return p
	}
	missing = copySet(missing)
	for _, d := range p.devices {
		if missing[d.Master] {
			missing[d.Name] = true
		}
	}
	p.devices = without(p.devices, func(d device) bool { return missing[d.Name] })
	p.bridges = present(p.bridges, missing)
	p.sysctls = present(p.sysctls, missing)
	p.addrs = present(p.addrs, missing)
	p.forwards = present(p.forwards, missing)
	p.statics = present(p.statics, missing)
	p.neighbours = present(p.neighbours, missing)
	p.routes = present(p.routes, missing)
	return p
}

func present[T interface{ on() string }](list []T, missing map[string]bool) []T {
	return without(list, func(item T) bool { return missing[item.on()] })
}

func copySet(set map[string]bool) map[string]bool {
	out := make(map[string]bool, len(set))
	maps.Copy(out, set)
	return out
}

// missing are the links that p needs, by these names, and that are not there or
// are of the wrong kind, with a line for each.
func (p picture) missing(kinds map[string]string, names []string) (missing map[string]bool, lines []string) {
	bridges := map[string]bool{}
	for _, b := range p.bridges {
		bridges[b.Name] = true
	}
	for _, d := range p.devices {
		bridges[d.Master] = true
	}
	missing = map[string]bool{}
	for _, name := range names {
		switch kind := kinds[name]; {
		case kind == "" && bridges[name]:
			lines = append(lines, "bridge "+name+" does not exist yet")
		case kind == "":
			lines = append(lines, "link "+name+" does not exist yet")
		case bridges[name] && kind != "bridge":
			lines = append(lines, name+" should be a bridge and is a "+kind)
		default:
			continue
		}
		missing[name] = true
	}
	return missing, lines
}

// size is the number of things in the picture.
func (p picture) size() int {
	return len(p.devices) + len(p.bridges) + len(p.sysctls) + len(p.addrs) + len(p.forwards) +
		len(p.statics) + len(p.neighbours) + len(p.routes) + len(p.rules)
}
