package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// clusterFlags are what init can say about the cluster.
type clusterFlags struct {
	history, maxSnapshots, snapshotInterval int64
	heartbeat, certExpiry                   time.Duration
	autolock, force                         bool
	poolSize, dataPort                      int64
	pools                                   cidrs
	mesh                                    meshPool
}

// initRequest is Docker's, and what shoal alone has.
type initRequest struct {
	swarm.InitRequest
	MeshPool string `json:",omitempty"`
}

// memberFlags are what init and join say about this node.
type memberFlags struct {
	daemonFlags
	availability string
	dataAddr     string
	f            *flags
}

func (m *memberFlags) add(f *flags) {
	m.stateDir, m.engine, m.gossipPort = defaultStateDir, defaultEngine, defaultGossipPort
	m.f = f
	f.add(&address{p: &m.listen, port: "2377"}, "address", "listen-addr", "Address of the cluster listener (format: IP[:PORT])").def("the daemon's, " + defaultListenAddr)
	f.add(&address{p: &m.advertise, port: "2377", asGiven: true}, "address", "advertise-addr", "Address other nodes reach this one at (format: IP|INTERFACE[:PORT])")
	f.choice(&m.availability, "availability", "Availability of the node", "active", "pause", "drain").def("active")
	f.text(&m.dataAddr, "data-path-addr", "Address or interface of the traffic between containers (format: IP|INTERFACE)")
	m.local(f)
}

func (s *shell) initCommand() *command {
	var (
		m memberFlags
		c clusterFlags
		f = &flags{}
	)
	m.add(f)
	f.toggle(&c.force, "force-new-cluster", "Refused: recovery of a cluster that lost its managers is not there yet")
	f.toggle(&c.autolock, "autolock", "Lock managers that restart until an unlock key is given")
	f.add(&integer{p: &c.dataPort, min: 1024, max: 49151}, "port", "data-path-port", "Port of the traffic between containers (1024 to 49151)").def("4789")
	f.add(&c.pools, "cidr", "default-addr-pool", "Address pool of the cluster's networks, repeatable (format: CIDR)")
	f.add(&integer{p: &c.poolSize, min: 1, max: 29}, "bits", "default-addr-pool-mask-length", "Prefix length of each network from the pools").def("24")
	f.add(&c.mesh, "cidr", "mesh-pool", "Address pool of the nodes' own networks, a /24 for each node (format: CIDR)").def("10.252.0.0/14")
	f.add(&integer{p: &c.history, min: 0, max: math.MaxInt32}, "int", "task-history-limit", "Ended tasks kept per slot").def("5")
	f.add(&span{p: &c.heartbeat, least: time.Second}, "duration", "dispatcher-heartbeat", "Heartbeat period of the nodes").def("chosen by the server")
	f.add(&span{p: &c.certExpiry, least: time.Hour}, "duration", "cert-expiry", "Validity of node certificates").def("2160h0m0s")
	f.add(&integer{p: &c.snapshotInterval, min: 1, max: math.MaxInt64}, "int", "snapshot-interval", "Log entries between Raft snapshots").def("10000")
	f.add(&integer{p: &c.maxSnapshots, min: 0, max: math.MaxInt32}, "int", "max-snapshots", "Additional Raft snapshots to keep").def("0")
	return &command{
		name: "init", operands: "[OPTIONS]", short: "Make this node the first manager of a new cluster",
		long:  "Starts the daemon first when none answers: as shoal.service where systemd runs, else in the background.",
		flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error { return s.runInit(ctx, &m, &c) },
	}
}

func (s *shell) runInit(ctx context.Context, m *memberFlags, c *clusterFlags) error {
	if c.force {
		return errors.New("--force-new-cluster is not supported: shoal cannot rebuild a cluster from one manager's state yet; restart a majority of the managers instead")
	}
	if err := s.ensureDaemon(ctx, m.daemonFlags, m.f); err != nil {
		return err
	}
	var id string
	err := s.postJSON(ctx, "/swarm/init", initRequest{MeshPool: string(c.mesh), InitRequest: swarm.InitRequest{
		ListenAddr: m.listen, AdvertiseAddr: m.advertise, DataPathAddr: m.dataAddr, DataPathPort: uint32(c.dataPort), //nolint:gosec // bounded by its flag
		Spec: c.spec(m.f), AutoLockManagers: c.autolock, Availability: swarm.NodeAvailability(m.availability),
		DefaultAddrPool: c.pools, SubnetSize: uint32(c.poolSize), //nolint:gosec // bounded by its flag
	}}, &id)
	if err != nil {
		if strings.Contains(err.Error(), "address to advertise") || strings.Contains(err.Error(), "could not find the system's IP address") {
			return fmt.Errorf("%w - specify one with --advertise-addr", err)
		}
		return err
	}
	fmt.Fprintf(s.out, "Swarm initialized: current node (%s) is now a manager.\n\n", id)
	if err := s.printJoin(ctx, id, "worker"); err != nil && !errors.Is(err, errNoManager) {
		return err
	}
	fmt.Fprintln(s.out, "To add a manager to this swarm, run 'shoal join-token manager' and follow the instructions.")
	return nil
}

func (c *clusterFlags) spec(f *flags) swarm.Spec {
	var spec swarm.Spec
	if f.changed("task-history-limit") {
		spec.Orchestration.TaskHistoryRetentionLimit = &c.history
	}
	if f.changed("dispatcher-heartbeat") {
		spec.Dispatcher.HeartbeatPeriod = c.heartbeat
	}
	if f.changed("cert-expiry") {
		spec.CAConfig.NodeCertExpiry = c.certExpiry
	}
	if f.changed("max-snapshots") {
		keep := uint64(c.maxSnapshots) //nolint:gosec // bounded by its flag
		spec.Raft.KeepOldSnapshots = &keep
	}
	if f.changed("snapshot-interval") {
		spec.Raft.SnapshotInterval = uint64(c.snapshotInterval) //nolint:gosec // bounded by its flag
	}
	spec.EncryptionConfig.AutoLockManagers = c.autolock
	return spec
}

// cidrs is a list of address pools.
type cidrs []string

// Set implements value.
func (c *cidrs) Set(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return errors.New(`must be a CIDR such as "10.10.0.0/16"`)
	}
	*c = append(*c, p.Masked().String())
	return nil
}

func (c *cidrs) String() string { return strings.Join(*c, ", ") }

// meshPool is the one pool that nodes take a /24 each from.
type meshPool string

// Set implements value.
func (m *meshPool) Set(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 22 {
		return errors.New(`must be an IPv4 CIDR from /8 to /22 such as "10.252.0.0/14"`)
	}
	*m = meshPool(p.Masked().String())
	return nil
}

func (m *meshPool) String() string { return string(*m) }
