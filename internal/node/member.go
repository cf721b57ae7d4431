package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"shoal/gossip"
	"shoal/internal/pki"
	"shoal/manager"
	"shoal/worker"
)

// member is this node's part in a cluster, from init or join until it leaves.
// It runs what every node runs, and a manager while the node's certificate
// says that it is one.
type member struct {
	node       *Node
	cfg        Config
	log        *slog.Logger
	credential atomic.Pointer[pki.Credential] // nil before the first run
	record     atomic.Pointer[record]
	founding   *manager.Founding // of the cluster that this node starts; nil: it exists

	left  context.Context // ends when the node is to leave
	leave context.CancelFunc
	done  chan struct{} // closed when nothing of the member runs any more
	ready chan struct{} // closed when the node has first been let in

	mu       sync.Mutex       // also of changes to record
	inCharge *manager.Manager // nil unless this node is a manager now
	session  bool             // a manager serves this node
	key      []byte
	metrics  prometheus.Gatherers
	// attachments are of one run; networkReady makes the engine's half of a
	// cluster network and gatewayReady this node's own network, nil before the
	// worker is there.
	attachments  *attachments
	networkReady func(ctx context.Context, networkID string) (engineNetworkID string, err error)
	gatewayReady func(ctx context.Context) (engineNetworkID string, err error)

	// Of one run.
	doors   *doors
	gossip  *gossip.Gossip
	worker  *worker.Worker
	renewer *pki.Renewer
}

func newMember(n *Node, r *record, founding *manager.Founding) *member {
	m := &member{
		node: n, cfg: n.cfg, founding: founding, log: n.log,
		done: make(chan struct{}), ready: make(chan struct{}),
	}
	m.record.Store(r)
	m.left, m.leave = context.WithCancel(context.Background())
	return m
}

func (m *member) isReady() bool {
	select {
	case <-m.ready:
		return true
	default:
		return false
	}
}

// manager returns the manager of this node, nil while it is none.
func (m *member) manager() *manager.Manager {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inCharge
}

// managers is the newest list of managers, this node included if it is one.
func (m *member) managers() []pki.Manager {
	return slices.Clone(m.record.Load().Managers)
}

// role is what the certificate of this node says it is.
func (m *member) role() pki.Role {
	if c := m.credential.Load(); c != nil {
		return c.Identity().Role
	}
	return ""
}

// run takes part in the cluster until ctx ends or something essential fails.
func (m *member) run(ctx context.Context) error {
	if err := m.load(); err != nil {
		return err
	}
	m.readdress()
	listener, err := net.Listen("tcp", m.record.Load().Listen)
	if err != nil {
		return fmt.Errorf("cluster listener: %w", err)
	}
	if err := m.build(listener); err != nil {
		return errors.Join(err, listener.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		m.attachments.Run, m.attachments.Watch, m.doors.Run, m.worker.Run, m.renewer.Run, m.manage, m.serveRPC, m.serveJoin, m.serveTCP, m.watchAddress,
		func(ctx context.Context) error { return m.gossip.Run(ctx, m.gossipSeeds) },
	} {
		g.Go(func() error { return run(ctx) })
	}
	return g.Wait()
}

// load reads what is on disk: the data key and the certificate.
func (m *member) load() error {
	key, err := loadDataKey(m.cfg.dataKey())
	if err != nil {
		return err
	}
	credential, err := pki.LoadCredential(m.cfg.certDir())
	if err != nil {
		return err
	}
	m.credential.Store(credential)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.key, m.session = key, false
	return m.ensureTunnelKeyLocked()
}

// ensureTunnelKeyLocked makes the tunnel key of a membership that began with a
// version of shoal which had none.
func (m *member) ensureTunnelKeyLocked() error {
	if len(m.record.Load().TunnelKey) > 0 {
		return nil
	}
	next := *m.record.Load()
	if err := next.makeTunnelKey(m.key); err != nil {
		return err
	}
	m.record.Store(&next)
	return next.save(m.cfg.record())
}

// manage runs the manager while this node is one.
func (m *member) manage(ctx context.Context) error {
	for {
		changed := m.credential.Load().Changed()
		if m.role() == pki.RoleManager {
			if err := m.runManager(ctx); err != nil {
				return err
			}
			continue
		}
		// A demotion that was cut short may have left it.
		if err := m.forgetLog(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runManager returns nil when the node is no manager any more.
func (m *member) runManager(ctx context.Context) error {
	if err := m.checkLog(); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	mgr, err := manager.New(manager.Config{
		Dir: m.cfg.raftDir(), Addr: m.record.Load().Advertise, Key: m.key, Credential: m.credential.Load(),
		Raft: share(m.doors.byProtocol[protocolRaft]), Dial: m.dial, DialNode: m.dialNode, DialPeer: m.dialNodeID,
		Dead:         func(id string) bool { return m.gossip.Presence(id).Presence == gossip.Dead },
		Distribution: m.node.engine.distribution,
		Founding:     m.founding, Log: m.log, Registerer: registry,
	})
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	m.setManager(mgr, registry)
	defer m.setManager(nil, nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return mgr.Run(gctx) })
	g.Go(func() error { return m.watchManager(gctx, mgr) })
	g.Go(func() error {
		if err := m.demoted(gctx); err != nil {
			return err
		}
		cancel()
		return nil
	})
	err = g.Wait()
	if m.role() != pki.RoleManager && errors.Is(err, context.Canceled) {
		return m.forgetLog()
	}
	return err
}

// demoted returns nil once the certificate says that this is no manager.
func (m *member) demoted(ctx context.Context) error {
	for {
		changed := m.credential.Load().Changed()
		if m.role() != pki.RoleManager {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watchManager notices when the manager can first answer.
func (m *member) watchManager(ctx context.Context, mgr *manager.Manager) error {
	for {
		changed, leader := mgr.Changed(), mgr.LeaderChanged()
		m.checkReady()
		if mgr.Ready() == nil {
			m.noteLog()
		}
		select {
		case <-changed:
		case <-leader:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *member) setManager(mgr *manager.Manager, metrics *prometheus.Registry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inCharge = mgr
	m.metrics = m.metrics[:1]
	if metrics != nil {
		m.metrics = append(m.metrics, metrics)
	}
}

func (m *member) onSession(open bool) {
	m.mu.Lock()
	m.session = open
	m.mu.Unlock()
	m.checkReady()
}

// checkReady says that the node is in the cluster once a manager serves it
// and, on a manager, its own part can answer.
func (m *member) checkReady() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.session || m.role() == pki.RoleManager && (m.inCharge == nil || m.inCharge.Ready() != nil) {
		return
	}
	if !m.isReady() {
		close(m.ready)
	}
	m.node.setError(nil) // what was wrong before is not any more
}
