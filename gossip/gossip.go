// Package gossip says which nodes are there and alive, and at which address.
//
// It wraps memberlist and is the only package that knows it. What it says is a
// hint, one of two witnesses (the other is the worker's session): nothing here
// may move a task by itself. It carries presence, address and one opaque piece
// of metadata; it does not know what that means.
//
// Everything on the wire is sealed with the cluster's gossip keys and labelled
// with the cluster id, so that two clusters never merge.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/backoff"
)

const (
	// KeySize is the length of a gossip key: AES-256.
	KeySize = 32
	// MaxMeta is what memberlist can carry per node.
	MaxMeta = memberlist.MetaMaxSize

	// suspicionMult 6 instead of the LAN profile's 4: a node has six seconds to
	// answer before it is called dead. After a pause of five seconds, of which
	// the first passes before anybody suspects, two are left for its protest to
	// get around; 4 would leave none.
	suspicionMult = 6
	// retransmitMult 6 instead of 4: a node that wakes up spends its first
	// messages, the protest among them, on stale probes.
	retransmitMult = 6
	// reclaim lets a node that died come back under another address.
	reclaim = 30 * time.Second
	// rejoin is how often, at the least, a seed that is not seen alive is tried
	// although others are: the halves of a healed partition find each other.
	rejoin = 30 * time.Second
	// leaveTimeout bounds the goodbye.
	leaveTimeout = 2 * time.Second
)

// Config is what New needs. Zero values take the default named.
type Config struct {
	NodeID        string   // required
	BindAddr      string   // IP; 0.0.0.0
	BindPort      int      // 0: any free one
	AdvertiseAddr string   // IP; the bind address, or a private one of this host
	AdvertisePort int      // the bind port
	Keys          [][]byte // required: 32 bytes each, the first encrypts
	Label         string   // required: the cluster id
	Meta          []byte   // at most MaxMeta bytes
	Log           *slog.Logger
	Transport     memberlist.Transport  // the network; tests give their own
	Registerer    prometheus.Registerer // nil: no metrics
}

// Gossip is this node's view of who is there.
type Gossip struct {
	nodeID  string
	addr    string
	log     *slog.Logger
	keys    keys
	list    *memberlist.Memberlist
	members *members
	leave   atomic.Bool
	rejoins prometheus.Counter
}

// New binds the gossip port and starts to answer. Run must be called, with an
// ended context if need be, to release what New has taken.
func New(config Config) (*Gossip, error) {
	if err := validate(config); err != nil {
		return nil, err
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	ring, err := newKeys(config.Keys)
	if err != nil {
		return nil, err
	}
	g := &Gossip{nodeID: config.NodeID, log: config.Log, keys: ring, members: newMembers()}
	settings, refused, err := g.settings(config)
	if err != nil {
		return nil, err
	}
	if g.list, err = memberlist.Create(settings); err != nil {
		return nil, errors.Join(fmt.Errorf("start gossip: %w", err), settings.Transport.Shutdown())
	}
	g.addr = g.list.LocalNode().Address()
	if err := g.register(config.Registerer, refused); err != nil {
		return nil, errors.Join(err, g.list.Shutdown())
	}
	return g, nil
}

func validate(c Config) error {
	switch {
	case c.NodeID == "":
		return fmt.Errorf("gossip without a node id: %w", errdefs.ErrInvalidArgument)
	case c.Label == "":
		return fmt.Errorf("gossip without a label: %w", errdefs.ErrInvalidArgument)
	case len(c.Meta) > MaxMeta:
		return fmt.Errorf("gossip metadata of %d bytes, at most %d fit: %w", len(c.Meta), MaxMeta, errdefs.ErrInvalidArgument)
	case c.BindAddr != "" && net.ParseIP(c.BindAddr) == nil:
		return fmt.Errorf("gossip bind address %q is no IP address: %w", c.BindAddr, errdefs.ErrInvalidArgument)
	case c.AdvertiseAddr != "" && net.ParseIP(c.AdvertiseAddr) == nil:
		return fmt.Errorf("gossip advertise address %q is no IP address: %w", c.AdvertiseAddr, errdefs.ErrInvalidArgument)
	}
	return nil
}

// settings is memberlist's LAN profile, Lifeguard on, with what is ours.
func (g *Gossip) settings(c Config) (*memberlist.Config, prometheus.Counter, error) {
	s := memberlist.DefaultLANConfig()
	s.Name = c.NodeID
	s.Label = c.Label
	s.Keyring = g.keys.ring
	s.SuspicionMult = suspicionMult
	s.RetransmitMult = retransmitMult
	s.DeadNodeReclaimTime = reclaim
	s.Delegate = carrier{c.Meta}
	s.Events = g.members
	log := newLibraryLog(c.Log)
	s.Logger = slog.NewLogLogger(log, slog.LevelInfo)
	s.AdvertiseAddr, s.AdvertisePort = c.AdvertiseAddr, c.AdvertisePort
	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "shoal_gossip_refused_streams_total", Help: "Incoming streams closed because too many were open.",
	})
	if s.Transport = c.Transport; s.Transport != nil {
		return s, refused, nil
	}
	if c.BindAddr == "" {
		c.BindAddr = net.IPv4zero.String()
	}
	bounded, err := listen(c.BindAddr, c.BindPort, log, refused)
	if err != nil {
		return nil, nil, err
	}
	s.Transport = bounded
	s.BindAddr, s.BindPort = c.BindAddr, bounded.GetAutoBindPort()
	if s.AdvertisePort == 0 {
		s.AdvertisePort = s.BindPort
	}
	return s, refused, nil
}

func (g *Gossip) register(r prometheus.Registerer, refused prometheus.Counter) error {
	g.rejoins = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "shoal_gossip_joins_total", Help: "Attempts to join seeds that are not seen alive.",
	})
	if r == nil {
		return nil
	}
	alive := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "shoal_gossip_members", Help: "Nodes seen alive, this one included.",
	}, func() float64 { return float64(g.members.alive()) })
	health := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "shoal_gossip_health_score", Help: "How badly this node keeps up with gossip; 0 is well.",
	}, func() float64 { return float64(g.list.GetHealthScore()) })
	return errors.Join(r.Register(g.rejoins), r.Register(refused), r.Register(alive), r.Register(health))
}

// Run keeps this node in touch with the others until ctx ends. seeds are
// host:port of nodes that should be there, asked for anew each time.
//
// At the end the node falls silent without a goodbye unless Leave was called:
// a daemon that restarts must not look as if its node were gone.
func (g *Gossip) Run(ctx context.Context, seeds func() []string) error {
	defer g.stop()
	// 500ms: nodes that start together first find each other in small groups.
	pause := backoff.Backoff{Min: 500 * time.Millisecond, Max: rejoin}
	for ctx.Err() == nil {
		changed := g.Changed()
		missing := g.missing(seeds())
		var wait time.Duration
		switch alone := g.members.alive() <= 1; {
		case alone:
			g.join(ctx, missing)
			wait = pause.Next()
		case len(missing) > 0:
			g.join(ctx, missing[:1]) // one at a time: they may all be gone for good
			wait = pause.Next()
		default:
			pause.Reset()
			wait = rejoin/2 + rand.N(rejoin/2)
		}
		if left := g.sleep(ctx, changed, wait); left {
			pause.Reset()
		}
	}
	return ctx.Err()
}

// sleep waits. Being left alone, but no other change, ends it early.
func (g *Gossip) sleep(ctx context.Context, changed <-chan struct{}, wait time.Duration) (left bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for before := g.members.alive(); ; before = g.members.alive() {
		select {
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		case <-changed:
			changed = g.Changed()
			if before > 1 && g.members.alive() <= 1 {
				return true
			}
		}
	}
}

// missing are the seeds not seen alive, in random order.
func (g *Gossip) missing(seeds []string) []string {
	known := g.members.aliveAddrs()
	known[g.addr] = true
	var missing []string
	for _, seed := range seeds {
		if !known[seed] {
			missing = append(missing, seed)
		}
	}
	rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	return missing
}

// join tries seeds until one answers: it knows the rest.
func (g *Gossip) join(ctx context.Context, seeds []string) {
	for _, seed := range seeds {
		if ctx.Err() != nil {
			return
		}
		g.rejoins.Inc()
		_, err := g.list.Join([]string{seed})
		if err == nil {
			g.log.Debug("gossip joined", "seed", seed)
			return
		}
		g.log.Debug("gossip seed does not answer", "seed", seed, "error", err)
	}
}

// Leave makes Run say goodbye when it ends: the others call this node dead at
// once instead of waiting for signs of life.
func (g *Gossip) Leave() { g.leave.Store(true) }

func (g *Gossip) stop() {
	if g.leave.Load() {
		if err := g.list.Leave(leaveTimeout); err != nil {
			g.log.Debug("gossip goodbye not heard", "error", err)
		}
	}
	if err := g.list.Shutdown(); err != nil {
		g.log.Warn("gossip not stopped", "error", err)
	}
}

// Addr is the host:port at which the others reach this node's gossip.
func (g *Gossip) Addr() string { return g.addr }

// Port is the port of Addr.
func (g *Gossip) Port() int {
	_, text, _ := net.SplitHostPort(g.addr)
	port, _ := strconv.Atoi(text)
	return port
}

// Presence says what gossip knows of a node: Unknown if nothing.
func (g *Gossip) Presence(nodeID string) Member { return g.members.get(nodeID) }

// Members are all nodes that gossip knows, dead ones too, in order of id.
func (g *Gossip) Members() []Member {
	all := g.members.all()
	slices.SortFunc(all, func(a, b Member) int {
		if a.NodeID < b.NodeID {
			return -1
		}
		return 1
	})
	return all
}

// Changed is closed at the next change of any Member; take it before reading.
func (g *Gossip) Changed() <-chan struct{} { return g.members.wait() }

// SetKeys replaces the key ring. The first key encrypts, all decrypt. To rotate
// without losing a message a new key is handed out behind the old one first,
// and moved to the front once every node has it.
func (g *Gossip) SetKeys(next [][]byte) error { return g.keys.set(next) }
