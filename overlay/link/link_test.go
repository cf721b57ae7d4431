package link

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// memory is a kernel that does what the real one does with our steps; the tests
// with a network namespace try the real one.
type memory struct {
	picture
	links map[string]string
	noV6  bool
	left  int // steps until it fails; negative: it does not
}

func (m *memory) v6() bool { return !m.noV6 }
func (m *memory) close()   {}

func (m *memory) kind(link string) (string, error) { return m.links[link], nil }

func (m *memory) read([]Sysctl) (picture, map[string]string, error) {
	p := m.picture
	p.devices, p.bridges = slices.Clone(p.devices), slices.Clone(p.bridges)
	return p, maps.Clone(m.links), nil
}

func (m *memory) do(ops []op) (errs []error) {
	for _, o := range ops {
		if m.left == 0 {
			errs = append(errs, errors.New("killed"))
			continue
		}
		m.left--
		errs = append(errs, m.take(o))
	}
	return errs
}

func (m *memory) take(o op) error {
	if name := o.item.on(); name != "" && m.links[name] == "" && !o.del {
		return fmt.Errorf("%s: no link %s: %w", o.item, name, unix.ENODEV)
	}
	switch i := o.item.(type) {
	case device:
		m.devices = slices.DeleteFunc(slices.Clone(m.devices), func(d device) bool { return d.Name == i.Name })
		if o.del {
			m.gone(i.Name)
			return nil
		}
		m.links[i.Name] = i.Kind
		m.devices = append(m.devices, i)
	case bridge:
		m.bridges = edit(m.bridges, i, false, func(b bridge) any { return b.Name })
	case Sysctl:
		m.sysctls = edit(m.sysctls, i, o.del, func(s Sysctl) any { return s.Path })
	case Addr:
		m.addrs = edit(m.addrs, i, o.del, func(a Addr) any { return a })
	case Neighbour:
		m.neighbours = edit(m.neighbours, i, o.del, neighbourKey)
	case forward: // one address has one destination, unless it is appended
		m.forwards = edit(m.forwards, i, o.del, func(f forward) any {
			if !o.del {
				f.Dst = netip.Addr{}
			}
			return f.Forward
		})
	case static:
		m.statics = edit(m.statics, i, o.del, func(s static) any { return static{Link: s.Link, MAC: s.MAC} })
	case route:
		m.routes = edit(m.routes, i, o.del, routeKey)
	case rule:
		m.rules = edit(m.rules, i, o.del, func(r rule) any { return r })
	}
	return nil
}

// gone takes with a link all that is on it.
func (m *memory) gone(name string) {
	delete(m.links, name)
	m.picture = m.possible(map[string]bool{name: true})
	m.bridges = slices.DeleteFunc(slices.Clone(m.bridges), func(b bridge) bool { return b.Name == name })
}

// edit replaces or removes what has the same key as item.
func edit[T any](list []T, item T, del bool, key func(T) any) []T {
	list = slices.DeleteFunc(slices.Clone(list), func(t T) bool { return key(t) == key(item) })
	if !del {
		list = append(list, item)
	}
	return list
}

// drawWant is one of few small things, so that many of them meet.
func drawWant(t *rapid.T) (w Want) {
	few := func(name string) int { return rapid.IntRange(0, 2).Draw(t, name) }
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	for n := range 2 {
		if !maybe("network") {
			continue
		}
		x, b := fmt.Sprintf("shoalx%d", n), fmt.Sprintf("shoalb%d", n)
		w.VXLANs = append(w.VXLANs, VXLAN{Name: x, VNI: uint32(n), Local: nodeA, Port: 4789 + few("port"), MTU: 1400 + few("mtu"), Master: b})
		w.Bridges = append(w.Bridges, Bridge{Name: b})
		w.Sysctls = append(w.Sysctls, Sysctl{Path: "/proc/sys/net/ipv4/conf/" + x + "/rp_filter", Value: fmt.Sprint(few("value"))})
		for m := range few("endpoints") {
			mac := [6]byte{2, byte(m), byte(few("mac"))}
			w.Forwards = append(w.Forwards, Forward{Link: x, MAC: [6]byte{2, byte(m)}, Dst: netip.AddrFrom4([4]byte{192, 0, 2, byte(few("node"))})})
			w.Neighbours = append(w.Neighbours, Neighbour{Link: b, IP: netip.AddrFrom4([4]byte{10, 0, 0, byte(m)}), MAC: mac})
			w.Addrs = append(w.Addrs, Addr{Link: b, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(m)}), 32)})
		}
		w.Routes = append(w.Routes, Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: x, Table: 1 + n})
		w.Rules = append(w.Rules, Rule{Priority: 1 + few("priority"), Table: 1 + n, V6: maybe("v6")})
	}
	return w
}

// Whatever is asked, broken, killed or late, in any order: one Apply or Audit
// later all is as it should be, and the next one has nothing to do.
func TestLinksConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &memory{links: map[string]string{}, left: -1}
		newLife := func() *Links {
			return &Links{log: slog.New(slog.DiscardHandler), open: func() (kernel, error) { return m, nil }, sight: &sight{}}
		}
		l, w := newLife(), Want{}
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			touched := false // by others, so that it takes an audit
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				w = drawWant(t)
			case 1: // the engine makes or removes a bridge
				touched = true
				name := fmt.Sprintf("shoalb%d", rapid.IntRange(0, 1).Draw(t, "bridge"))
				if m.links[name] == "" {
					m.links[name], m.bridges = "bridge", append(slices.Clone(m.bridges), bridge{Name: name, MTU: 1500})
				} else {
					for i := range m.devices {
						if m.devices[i].Master == name {
							m.devices[i].Master, m.devices[i].Flags = "", portFlags{}
							m.statics = edit(m.statics, static{Link: m.devices[i].Name}, true, func(s static) any { return s.Link })
						}
					}
					m.gone(name)
				}
			case 2:
				l = newLife()
			case 3: // killed in the middle of something else
				m.left = rapid.IntRange(0, 12).Draw(t, "steps")
				_, _ = l.Apply(drawWant(t))
				m.left = -1
				if rapid.Bool().Draw(t, "dies") {
					l = newLife()
				}
			case 4: // damage
				if other, _, err := wanted(drawWant(t), true); err == nil && len(m.devices) > 0 {
					m.forwards, m.rules = other.possible(map[string]bool{"shoalx1": m.links["shoalx1"] == "", "shoalx0": m.links["shoalx0"] == ""}).forwards, other.rules
				}
				touched = true
			}
			if _, err := l.Apply(w); err != nil {
				t.Fatal(err)
			}
			if touched {
				if _, err := l.Audit(); err != nil {
					t.Fatal(err)
				}
			}
			agree(t, l, m, w)
		}
	})
}

// agree fails unless the kernel is as wanted, as far as it can be.
func agree(t *rapid.T, l *Links, m *memory, w Want) {
	t.Helper()
	r, err := l.Audit()
	if err != nil || len(r.Repaired) > 0 {
		t.Fatalf("audit: repaired %q, err %v", r.Repaired, err)
	}
	want, _, err := wanted(w, true)
	if err != nil {
		t.Fatal(err)
	}
	missing, _ := want.missing(m.links, want.foreign())
	if left := diff(m.picture, want.possible(missing)); len(left) > 0 {
		t.Fatalf("left to do: %q", lines(left))
	}
	again, err := l.Apply(w)
	if err != nil || again.Compared != 0 || len(again.Waiting) != len(missing) {
		t.Fatalf("the same again: %+v, missing %v, err %v", again, missing, err)
	}
}

func TestErrorsAreFewLines(t *testing.T) {
	var errs []error
	for n := range 1000 {
		errs = append(errs, fmt.Errorf("error %d", n), nil)
	}
	if got := len(joined(errs).Error()); got > 200 {
		t.Errorf("%d characters", got)
	}
	if joined([]error{nil, nil}) != nil {
		t.Error("an error out of nothing")
	}
}
