// Package tunnel is the encrypted line between nodes: WireGuard in this
// process, on a TUN device.
//
// The device is persistent: it stays when the process ends, without a carrier,
// so that its addresses and routes stay too and what is sent into it meanwhile
// is lost instead of leaving in the clear. The next process attaches to it.
package tunnel

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
)

// Want is what the tunnel should be.
type Want struct {
	Link       string // name of the TUN device, which outlives this process
	PrivateKey []byte // 32 bytes
	Port       int    // UDP
	MTU        int
	Peers      []Peer // of those with one key, the first counts
}

// Peer is the other end on one node.
type Peer struct {
	PublicKey []byte
	Preshared []byte // 32 bytes
	Endpoint  netip.AddrPort
	Allowed   []netip.Prefix // addresses inside of the tunnel
}

// Tunnel is this node's end of all tunnels. Its methods must not be called at
// the same time as each other.
type Tunnel struct {
	log  *slog.Logger
	want *Want // in its normal form; nil: the tunnel is down
	end  *end  // nil: nothing runs in this process
}

// New returns a Tunnel that is down.
func New(log *slog.Logger) *Tunnel {
	if log == nil {
		log = slog.Default()
	}
	return &Tunnel{log: log}
}

// Apply brings w into effect; nil takes the tunnel down. Sessions with peers
// that stay are not disturbed, not by new preshared keys or addresses either.
func (t *Tunnel) Apply(w *Want) error {
	if w == nil {
		return t.takeDown()
	}
	if err := check(*w); err != nil {
		return err
	}
	if t.want != nil && t.want.Link != w.Link {
		if err := t.takeDown(); err != nil {
			return err
		}
	}
	normal := normalise(*w)
	t.want = &normal
	_, err := t.repair()
	return err
}

// Audit compares the device with what was last applied and repairs it.
func (t *Tunnel) Audit() (repaired []string, err error) {
	if t.want == nil {
		return nil, nil
	}
	return t.repair()
}

// Close ends the tunnel's work and leaves the device where it is, without a
// carrier, so that its addresses and routes stay.
func (t *Tunnel) Close() error {
	t.stop()
	return nil
}

func (t *Tunnel) takeDown() error {
	t.stop()
	if t.want == nil {
		return nil
	}
	if err := Purge(t.want.Link); err != nil {
		return err
	}
	t.want = nil
	return nil
}

func (t *Tunnel) stop() {
	if t.end != nil {
		t.end.close()
		t.end = nil
	}
}

// repair makes what there is equal to what is wanted, and says what differed.
func (t *Tunnel) repair() (differed []string, err error) {
	w := *t.want
	if t.end != nil && !t.end.alive(w.Link) {
		t.stop()
		differed = append(differed, fmt.Sprintf("tunnel device %s is gone", w.Link))
	}
	if t.end == nil {
		if t.end, err = start(w, t.log); err != nil {
			return differed, err
		}
	}
	found, err := t.end.fixLink(w)
	if err != nil {
		return append(differed, found...), err
	}
	more, err := t.end.configure(w)
	return append(append(differed, found...), more...), err
}

func check(w Want) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("tunnel: %s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	switch {
	case w.Link == "" || len(w.Link) > 15:
		return bad("device name %q", w.Link)
	case len(w.PrivateKey) != keySize:
		return bad("private key of %d bytes", len(w.PrivateKey))
	case w.Port < 1 || w.Port > 65535:
		return bad("port %d", w.Port)
	case w.MTU < 576:
		return bad("MTU %d", w.MTU)
	}
	for _, p := range w.Peers {
		switch {
		case len(p.PublicKey) != keySize || len(p.Preshared) != keySize:
			return bad("peer at %s: keys of %d and %d bytes", p.Endpoint, len(p.PublicKey), len(p.Preshared))
		case !p.Endpoint.IsValid():
			return bad("a peer without an endpoint")
		}
	}
	return nil
}

// normalise copies w into the form in which the device gives it back.
func normalise(w Want) Want {
	w.PrivateKey = clamp(w.PrivateKey)
	seen := map[string]bool{}
	if self, err := PublicKey(w.PrivateKey); err == nil {
		seen[string(self)] = true // the device refuses itself as a peer
	}
	given := w.Peers
	w.Peers = nil
	for _, p := range given {
		if seen[string(p.PublicKey)] {
			continue
		}
		seen[string(p.PublicKey)] = true
		p.PublicKey, p.Preshared = slices.Clone(p.PublicKey), slices.Clone(p.Preshared)
		p.Endpoint = netip.AddrPortFrom(p.Endpoint.Addr().Unmap(), p.Endpoint.Port())
		p.Allowed = sorted(p.Allowed)
		w.Peers = append(w.Peers, p)
	}
	return w
}

func sorted(prefixes []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
