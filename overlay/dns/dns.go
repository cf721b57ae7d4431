// Package dns resolves names of services, tasks and attached containers for
// the containers of this node.
//
// Who asks is known by the address that the question comes from, and gets the
// names of its own networks only. What is not ours is forwarded as it came, to
// the resolvers of the host or those of the client; an answer of ours never
// waits for one of theirs. There is no cache: names of ours are in memory, and
// the host's resolver has a cache of its own.
package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Server needs. Zero values take the default named.
type Config struct {
	ResolvConf string                // /etc/resolv.conf: where the host's resolvers are
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// Server answers on one address at a time. It is safe for concurrent use.
type Server struct {
	log     *slog.Logger
	metrics *metrics
	forward *forwarder
	table   atomic.Pointer[Table] // read by every query, without a lock

	mu      sync.Mutex
	sockets *sockets      // nil: not listening
	changed chan struct{} // closed when sockets are others
}

// New returns a server that answers nobody yet.
func New(cfg Config) (*Server, error) {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of dns: %w", err)
	}
	s := &Server{log: cfg.Log, metrics: m, changed: make(chan struct{})}
	s.forward = newForwarder(cfg.ResolvConf, cfg.Log, m)
	s.table.Store(&Table{})
	return s, nil
}

// Set replaces the table.
func (s *Server) Set(t *Table) {
	if t == nil {
		t = &Table{}
	}
	s.table.Store(t)
}

// Listen answers on a free port of addr, UDP and TCP the same one, from now on,
// and returns it. Called again with the same address it does nothing; another
// address replaces it. Questions that come before Run wait in the socket.
func (s *Server) Listen(addr netip.Addr) (netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sockets != nil && s.sockets.at.Addr() == addr {
		return s.sockets.at, nil
	}
	next, err := open(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	s.replaceLocked(next)
	return next.at, nil
}

func (s *Server) replaceLocked(next *sockets) {
	if s.sockets != nil {
		s.sockets.close()
	}
	s.sockets = next
	close(s.changed)
	s.changed = make(chan struct{})
}

// Run serves until ctx ends, and closes what Listen opened.
func (s *Server) Run(ctx context.Context) error {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.replaceLocked(nil)
	}()
	for {
		s.mu.Lock()
		now, changed := s.sockets, s.changed
		s.mu.Unlock()
		s.serveUntil(ctx, now, changed)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// serveUntil serves one pair of sockets, if there is one, until others take
// their place, and waits for all that it started.
func (s *Server) serveUntil(ctx context.Context, now *sockets, changed <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	if now != nil {
		g.Go(func() { s.serve(ctx, now) })
	}
	select {
	case <-changed:
	case <-ctx.Done():
	}
	cancel()
	if now != nil {
		now.close()
	}
	g.Wait()
}
