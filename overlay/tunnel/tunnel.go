// Package tunnel is the encrypted line between nodes: WireGuard in this
// process, on a TUN device.
package tunnel

import (
	"log/slog"
	"net/netip"
)

// Want is what the tunnel should be.
type Want struct {
	Link       string // name of the TUN device, which outlives this process
	PrivateKey []byte // 32 bytes
	Port       int    // UDP
	MTU        int
	Peers      []Peer
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
type Tunnel struct{ log *slog.Logger }

// New returns a Tunnel that is down.
func New(log *slog.Logger) *Tunnel { return &Tunnel{log: log} }

// Apply brings w into effect; nil takes the tunnel down.
func (t *Tunnel) Apply(w *Want) error { return nil }

// Audit compares the device with what was last applied and repairs it.
func (t *Tunnel) Audit() (repaired []string, err error) { return nil, nil }

// Close ends the tunnel's work and leaves the device where it is, without a
// carrier, so that its addresses and routes stay.
func (t *Tunnel) Close() error { return nil }

// Purge removes the device.
func Purge(link string) error { return nil }

// PublicKey belongs to a private key.
func PublicKey(private []byte) ([]byte, error) { return nil, nil }
