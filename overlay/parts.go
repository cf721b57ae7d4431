package overlay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"

	"shoal/overlay/dns"
	"shoal/overlay/filter"
	"shoal/overlay/link"
	"shoal/overlay/tunnel"
	"shoal/worker/assignment"
)

// parts are the four that do the work, in the order that is safe: what keeps
// packets out comes before the devices that they come in by, the way to an
// endpoint before the rules that send something there.
type parts struct {
	cfg    Config
	links  *link.Links
	filter *filter.Filter
	tunnel *tunnel.Tunnel
	names  *dns.Server
	namer  *namer

	began   bool        // filter is what this process has made it
	last    filter.Want // in effect
	taken   []string    // as last found
	waiting bool        // links had to leave something out
}

// finding is what came of a round through all parts.
type finding struct {
	compared   int
	repaired   []string
	waiting    []string
	taken      []string // published ports that foreign processes hold
	newlyTaken []string
}

func newParts(cfg Config) (*parts, error) {
	links, err := link.New(cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("overlay links: %w", err)
	}
	rules, err := filter.New(cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("overlay filter: %w", err)
	}
	names, err := dns.New(dns.Config{Log: cfg.Log, Registerer: cfg.Registerer})
	if err != nil {
		return nil, fmt.Errorf("overlay resolver: %w", err)
	}
	return &parts{cfg: cfg, links: links, filter: rules, tunnel: tunnel.New(cfg.Log), names: names, namer: &namer{}}, nil
}

// apply brings a fabric into effect.
func (p *parts) apply(k assignment.Known) (f finding, err error) {
	at := facts{nodeID: p.cfg.NodeID, key: p.cfg.TunnelKey, mtu: UnderlayMTU(k.Peers[p.cfg.NodeID].Addr), v6: HasIPv6(), routers: routerLinks()}
	w := plan(k, at)
	guard := guarding(p.last, w.filter)
	if !p.began { // an earlier process has left devices and rules: they serve on
		guard = w.filter
		guard.Resolver, _ = p.listen(k) // its address may be there already
	}
	began := p.began
	if !reflect.DeepEqual(guard, p.last) {
		if err := p.setFilter(guard, &f); err != nil {
			return f, err
		}
	}
	if err := p.setTunnel(w.tunnel, began); err != nil {
		return f, fmt.Errorf("tunnel: %w", err)
	}
	if err := p.setLinks(w.link, &f); err != nil {
		return f, err
	}
	if w.filter.Resolver, err = p.listen(k); err != nil {
		return f, err
	}
	p.names.Set(p.namer.table(k, p.cfg.NodeID))
	return f, p.setFilter(w.filter, &f)
}

// setTunnel also removes the device of an earlier process, which this one does
// not know of.
func (p *parts) setTunnel(w *tunnel.Want, began bool) error {
	if err := p.tunnel.Apply(w); err != nil || w != nil || began {
		return err
	}
	return tunnel.Purge(TunnelLink)
}

// setLinks also looks whether what was waited for has come.
func (p *parts) setLinks(w link.Want, f *finding) error {
	got, err := p.links.Apply(w)
	if err == nil && p.waiting {
		got, err = p.links.Audit()
	}
	f.compared += got.Compared
	f.repaired, f.waiting = append(f.repaired, got.Repaired...), append(f.waiting, got.Waiting...)
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	p.waiting = len(got.Waiting) > 0
	return nil
}

// listen has the resolver answer at this node's mesh address.
func (p *parts) listen(k assignment.Known) (netip.AddrPort, error) {
	for _, subnet := range k.Peers[p.cfg.NodeID].Mesh {
		if subnet.Addr().Is4() {
			_, _, self := MeshAddrs(subnet)
			at, err := p.names.Listen(self)
			if err != nil {
				return at, fmt.Errorf("resolver: %w", err)
			}
			return at, nil
		}
	}
	return netip.AddrPort{}, nil
}

// guarding is what the filter does before devices change: it serves as before
// and keeps out what is to be kept out before and after.
func guarding(before, after filter.Want) filter.Want {
	w := before
	w.MeshBridge, w.MeshLink, w.TunnelLink = after.MeshBridge, after.MeshLink, after.TunnelLink
	w.Port, w.SealedPort, w.Peers = after.Port, after.SealedPort, after.Peers
	w.VNIs = bothOf(before.VNIs, after.VNIs)
	w.MeshPools, w.Homes = after.MeshPools, after.Homes
	return w
}

func bothOf(a, b []uint32) []uint32 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func (p *parts) setFilter(w filter.Want, f *finding) error {
	got, err := p.filter.Apply(w)
	if err != nil {
		p.last, p.began = filter.Want{}, false
		return fmt.Errorf("filter: %w", err)
	}
	p.last, p.began = w, true
	p.take(got, f)
	return nil
}

func (p *parts) take(got filter.Result, f *finding) {
	f.compared += got.Compared
	f.repaired = append(f.repaired, got.Repaired...)
	f.taken = got.Taken
	for _, port := range got.Taken {
		if !slices.Contains(p.taken, port) {
			f.newlyTaken = append(f.newlyTaken, port)
		}
	}
	p.taken = got.Taken
}

// audit compares everything with what was last applied. An error of one part
// does not keep the others from being looked at. Before anything was applied, it
// touches nothing: what an earlier process has left serves on.
func (p *parts) audit() (f finding, err error) {
	if !p.began {
		return f, nil
	}
	rules, filterErr := p.filter.Audit()
	p.take(rules, &f)
	repaired, tunnelErr := p.tunnel.Audit()
	f.repaired = append(f.repaired, repaired...)
	links, linkErr := p.links.Audit()
	f.compared += links.Compared
	f.repaired, f.waiting = append(f.repaired, links.Repaired...), append(f.waiting, links.Waiting...)
	p.waiting = len(links.Waiting) > 0
	return f, errors.Join(filterErr, tunnelErr, linkErr)
}

func (p *parts) close(log *slog.Logger) {
	if err := errors.Join(p.filter.Close(), p.tunnel.Close()); err != nil {
		log.Warn("data plane did not close cleanly", "error", err)
	}
}
