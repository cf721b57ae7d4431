// Package dispatcher is the managers' end of the worker sessions: assignments
// go out, statuses and signs of life come in.
//
// Every manager serves sessions from its own replica (Serve and ServeHTTP) and
// passes what it hears on to the leader. The leader (Run, Report) alone writes
// it down: it owns Node.Status, Node.Description, Node.Addr and Node.Boot, and
// from Accepted on Task.Status, which it takes from the worker that has the
// task. What is planned is pure (plan.go, assignments.go, ledger.go).
//
// A session is opened only when the leader has granted it. So two daemons with
// one node id never both get work, and a manager that is cut off from the
// leader serves nobody: its workers go to another one long before they are
// taken for lost.
package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"shoal/raftstore/state"
)

const (
	// Heartbeat is how often each end of a session says something.
	Heartbeat = time.Second
	// DownAfter is the silence after which a node is down whatever gossip says.
	// A cut or pause of 5 s must move nothing even if finding a new session
	// takes a second, and a real loss must be replaced within 9 s.
	DownAfter = 8 * time.Second
	// DownAfterDead is the silence after which a node is down when gossip calls
	// it dead. Gossip alone never takes a node down.
	DownAfterDead = 7 * time.Second
	// OrphanAfter is how long a node is down before its tasks count as lost.
	OrphanAfter = 24 * time.Hour

	// cloneWindow: a daemon that was heard from this recently is alive, so
	// another one with its node id is a copy and not its successor.
	cloneWindow = 3 * Heartbeat
	// fenceAfter is how long a manager that does not reach the leader keeps its
	// sessions: longer than two elections, and so much shorter than DownAfter
	// that its workers have been heard of through another manager by then.
	fenceAfter = 4 * time.Second
	// openTimeout is how long a worker waits for the leader's grant and for this
	// replica to catch up. It is below the silence that a worker puts up with.
	openTimeout = 2 * time.Second
	// maxChanges is the most that one update may change.
	maxChanges = 2000
	// maxStatuses is the most that go to the leader at a time, and maxText how
	// long a message in one may be: together they stay below the limit of a
	// request body.
	maxStatuses = 1000
	maxText     = 1024
)

// Store is what the dispatcher needs of the replicated state.
type Store interface {
	Changed() <-chan struct{}
	View() *state.View
	Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error
}

// Config is what a Dispatcher needs.
type Config struct {
	NodeID string // of this manager
	Store  Store
	// Identity tells who sent a request: the node id and role ("manager",
	// "worker") of the certificate that the listener has verified.
	Identity func(*http.Request) (nodeID, role string, ok bool)
	// Forward hands a batch to Report of the leader's dispatcher. It is not
	// called while this manager leads.
	Forward func(context.Context, Batch) (Answer, error)
	// Presence reports whether gossip calls a node dead. nil: it never does.
	Presence   func(nodeID string) (dead bool)
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // nil: no metrics
}

// Dispatcher serves the sessions of one manager and, while that manager leads,
// keeps the cluster's nodes.
type Dispatcher struct {
	cfg      Config
	born     time.Time // signs of life are counted from here, by the monotonic clock
	metrics  *metrics
	hub      *hub
	outbox   *outbox
	statuses *statusQueue

	mu   sync.Mutex
	term *term // nil: this manager does not lead
}

// New returns a Dispatcher that serves once Serve runs.
func New(cfg Config) (*Dispatcher, error) {
	if cfg.NodeID == "" || cfg.Store == nil || cfg.Identity == nil || cfg.Forward == nil {
		return nil, errors.New("dispatcher: NodeID, Store, Identity and Forward are required")
	}
	if cfg.Presence == nil {
		cfg.Presence = func(string) bool { return false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	d := &Dispatcher{cfg: cfg, born: time.Now(), hub: newHub(), outbox: newOutbox(), statuses: newStatusQueue()}
	var err error
	d.metrics, err = newMetrics(cfg.Registerer, d.hub.count, d.hub.pullsWaiting)
	return d, err
}

// Serve serves sessions until ctx ends, on every manager, whoever leads. When
// it returns all sessions have been told to end.
func (d *Dispatcher) Serve(ctx context.Context) error {
	d.hub.open(d.cfg.Store.View())
	defer d.hub.close(errStopping)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.fanOut(ctx) })
	g.Go(func() error { return d.reportNodes(ctx) })
	g.Go(func() error { return d.reportStatuses(ctx) })
	return g.Wait()
}

// fanOut brings each change of the state to the sessions that it concerns.
func (d *Dispatcher) fanOut(ctx context.Context) error {
	for {
		changed := d.cfg.Store.Changed()
		d.hub.advance(d.cfg.Store.View())
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send hands a batch to the leader, be it this manager or another.
func (d *Dispatcher) send(ctx context.Context, b Batch) (Answer, error) {
	b.ManagerID = d.cfg.NodeID
	if d.leading() {
		return d.Report(ctx, b)
	}
	return d.cfg.Forward(ctx, b)
}

func (d *Dispatcher) leading() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.term != nil
}
