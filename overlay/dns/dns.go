// Package dns resolves names of services, tasks and attached containers for
// the containers of this node.
package dns

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// Table is all that is known. It must not be changed once it is set.
type Table struct {
	// Clients are the containers of this node, by each of their addresses on a
	// cluster network. Nobody else is answered.
	Clients map[netip.Addr]*Client
}

// Client is who asks.
type Client struct {
	Zones []*Zone // its networks; the first that knows a name answers
	// Upstreams are asked for all other names; nil: those of this host. A client
	// with networks that are all internal has NoForward.
	Upstreams []netip.AddrPort
	NoForward bool
}

// Zone is the names on one network.
type Zone struct {
	Network string
	// Names are in lower case, without a final dot. A name without addresses
	// exists and has no records.
	Names map[string][]netip.Addr
	// Reverse names the addresses of the network, fully, for PTR.
	Reverse map[netip.Addr]string
	// Subnets are those of the network: nobody else is asked about addresses in them.
	Subnets []netip.Prefix
}

// Config is what a Server needs. Zero values take the default named.
type Config struct {
	ResolvConf string                // /etc/resolv.conf: where the host's resolvers are
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// Server answers on one address at a time. It is safe for concurrent use.
type Server struct{ cfg Config }

// New returns a server that answers nobody yet.
func New(cfg Config) (*Server, error) { return &Server{cfg: cfg}, nil }

// Set replaces the table.
func (s *Server) Set(t *Table) {}

// Listen answers on a free port of addr, UDP and TCP the same one, from now on,
// and returns it. Called again with the same address it does nothing; another
// address replaces it.
func (s *Server) Listen(addr netip.Addr) (netip.AddrPort, error) { return netip.AddrPort{}, nil }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
