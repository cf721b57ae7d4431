package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// gatewayHost is the last part of the address of this process in the lab.
const gatewayHost = 254

// labs is how many labs one machine can have: the third part of the address.
const labs = 250

// gatewayPort is the switch's port to this process; a host's has its name.
const gatewayPort = "gw"

// cut is a direction between two ports of the switch that passes nothing.
type cut struct{ from, to string }

// startSwitch makes the lab's network and takes a free number for it. The
// link that joins the network to this process has the number in its name, so
// the kernel sees to it that no two labs have the same.
func (l *Lab) startSwitch(ctx context.Context) error {
	sw, err := l.spawn(switchSpaces, switchInit)
	if err != nil {
		return err
	}
	l.sw = sw
	for l.num = range labs {
		if !subnetFree(l.num) {
			continue
		}
		_, err = command(ctx, "", "ip", "link", "add", linkName(l.num), "type", "veth",
			"peer", "name", gatewayPort, "netns", fmt.Sprint(sw.Pid))
		if err == nil {
			return l.joinSwitch(ctx)
		}
		if !strings.Contains(err.Error(), "File exists") {
			break
		}
	}
	l.sw = nil // it owns no number, so there is nothing else to remove
	return errors.Join(fmt.Errorf("find a free subnet in 10.213.0.0/16: %w", err), sw.kill())
}

func (l *Lab) joinSwitch(ctx context.Context) error {
	link := linkName(l.num)
	_, err := command(ctx, fmt.Sprintf("addr add %s/24 dev %s\naddr add %s/64 dev %s nodad\nlink set %s up\n", l.GatewayAddr(), link, l.addr6(gatewayHost), link, link), "ip", "-batch", "-")
	if err != nil {
		return err
	}
	if _, err := l.inSwitch(ctx, fmt.Sprintf("link set %s master br0\nlink set %s up\n", gatewayPort, gatewayPort), "ip", "-batch", "-"); err != nil {
		return err
	}
	if err := l.applyCuts(ctx); err != nil {
		return err
	}
	return l.awaitPort(ctx, gatewayPort)
}

// awaitPort waits until the switch forwards on a port: the kernel sees to
// that in its own time, up to a second after the link is up.
func (l *Lab) awaitPort(ctx context.Context, port string) error {
	return poll(ctx, func() (string, bool, error) {
		out, err := l.inSwitch(ctx, "", "ip", "-br", "link", "show", "dev", port)
		return out, strings.Contains(out, " UP "), err
	})
}

func (l *Lab) inSwitch(ctx context.Context, stdin string, argv ...string) (string, error) {
	return command(ctx, stdin, l.sw.enterNet(argv...)...)
}

// plugIn gives the host its link to the switch.
func (l *Lab) plugIn(ctx context.Context, h *Host) error {
	_, err := l.inSwitch(ctx, fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %d\nlink set %s master br0\nlink set %s up\n",
		h.Name, h.mac(), h.tree.Pid, h.Name, h.Name), "ip", "-batch", "-")
	if err != nil {
		return err
	}
	_, err = command(ctx, fmt.Sprintf("addr add %s/24 dev eth0\naddr add %s/64 dev eth0 nodad\nlink set eth0 up\n", h.Addr, h.Addr6), h.tree.enterNet("ip", "-batch", "-")...)
	if err != nil {
		return err
	}
	return l.awaitPort(ctx, h.Name)
}

// Renumber gives h the address of another number in the lab, which no host may
// have, as a provider's DHCP would: what is open at the old one is lost. A lab
// that outlives its maker does not remember it.
func (h *Host) Renumber(ctx context.Context, num int) error {
	next := h.lab.addr(num)
	_, err := command(ctx, fmt.Sprintf("addr del %s/24 dev eth0\naddr add %s/24 dev eth0\n", h.Addr, next), h.tree.enterNet("ip", "-batch", "-")...)
	if err != nil {
		return err
	}
	h.Addr = next
	return nil
}

// Cut lets nothing pass between h and everyone else, this process included.
// The host notices nothing but silence: its link stays up.
func (l *Lab) Cut(h *Host) error {
	return l.setCuts(true, func(c cut) bool { return c.from == h.Name || c.to == h.Name })
}

// CutOneWay drops what from sends to to, and passes what comes back.
func (l *Lab) CutOneWay(from, to *Host) error {
	return l.setCuts(true, func(c cut) bool { return c == cut{from.Name, to.Name} })
}

// CutBetween drops what a and b send to each other.
func (l *Lab) CutBetween(a, b *Host) error {
	return l.setCuts(true, func(c cut) bool {
		return c == cut{a.Name, b.Name} || c == cut{b.Name, a.Name}
	})
}

// Partition lets the given hosts talk to each other only.
func (l *Lab) Partition(hosts ...*Host) error {
	inside := func(port string) bool {
		return slices.ContainsFunc(hosts, func(h *Host) bool { return h.Name == port })
	}
	return l.setCuts(true, func(c cut) bool { return inside(c.from) != inside(c.to) })
}

// Heal takes back every cut that concerns h.
func (l *Lab) Heal(h *Host) error {
	return l.setCuts(false, func(c cut) bool { return c.from == h.Name || c.to == h.Name })
}

// HealAll takes back all cuts.
func (l *Lab) HealAll() error {
	return l.setCuts(false, func(cut) bool { return true })
}

// setCuts makes or heals the directions that match.
func (l *Lab) setCuts(make bool, match func(cut) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.directions() {
		if !match(c) {
			continue
		}
		if make {
			l.cuts[c] = true
		} else {
			delete(l.cuts, c)
		}
	}
	if err := l.applyCuts(context.Background()); err != nil {
		return err
	}
	return l.save()
}

func (l *Lab) directions() []cut {
	ports := []string{gatewayPort}
	for _, h := range l.hosts {
		ports = append(ports, h.Name)
	}
	var all []cut
	for _, from := range ports {
		for _, to := range ports {
			if from != to {
				all = append(all, cut{from, to})
			}
		}
	}
	return all
}

// applyCuts replaces the switch's table in one transaction, so no packet
// passes in between. The hosts' own tables are not touched. ARP passes always:
// without it a cut in one direction becomes one in both after a minute.
func (l *Lab) applyCuts(ctx context.Context) error {
	var b strings.Builder
	b.WriteString("table bridge lab\ndelete table bridge lab\ntable bridge lab {\n\tset cuts {\n\t\ttype ifname . ifname\n")
	if len(l.cuts) > 0 {
		var pairs []string
		for c := range l.cuts {
			pairs = append(pairs, fmt.Sprintf("%q . %q", c.from, c.to))
		}
		slices.Sort(pairs)
		fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(pairs, ", "))
	}
	b.WriteString("\t}\n\tchain forward {\n\t\ttype filter hook forward priority 0;\n\t\tether type arp accept\n\t\tiifname . oifname @cuts drop\n\t}\n}\n")
	_, err := l.inSwitch(ctx, b.String(), "nft", "-f", "-")
	return err
}

func (l *Lab) addr(host int) string { return fmt.Sprintf("10.213.%d.%d", l.num, host) }

// addr6 is in a subnet of the unique local range that nothing else here uses.
func (l *Lab) addr6(host int) string { return fmt.Sprintf("fd5a:b213:%x::%x", l.num+1, host) }

func linkName(num int) string { return fmt.Sprintf("slab%d", num) }

func linkExists(num int) bool {
	_, err := os.Stat("/sys/class/net/" + linkName(num))
	return err == nil
}

// removeLink takes the lab's link out of this machine. It also goes when the
// switch dies, but that takes the kernel a moment.
func removeLink(num int) error {
	_, err := command(context.Background(), "", "ip", "link", "del", linkName(num))
	if err != nil && strings.Contains(err.Error(), "Cannot find device") {
		return nil
	}
	return err
}

// subnetFree says whether no interface of this machine has an address in the
// subnet of the lab num.
func subnetFree(num int) bool {
	subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, byte(num), 0}), 24)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Overlaps(subnet)
	})
}
