// Package session is the worker's end of the line to the managers: it finds a
// manager that serves, takes in assignments, and delivers what the worker has
// seen.
//
// It holds one session at a time, with any manager. A session is over when it
// breaks or when the manager has been silent for Silence; then the next
// manager is tried at once, over a new connection: TCP would take long to
// notice that a cut has healed. What was reported stays queued until a manager
// says that it is committed. With no manager in reach the worker keeps what it
// has; nothing here ever takes work away from it.
package session

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"sync"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/worker/assignment"
)

const (
	// Silence is how long a manager may say nothing: two lost heartbeats.
	Silence = 2500 * time.Millisecond

	// dialTimeout: a manager whose host does not answer by then is passed over.
	dialTimeout = 500 * time.Millisecond
	// retryMin, with quickFor: for the first seconds after a loss the tries
	// follow each other closely, so that a worker is back within a second after
	// a short cut has healed. 10 s: longer than it takes to be declared down.
	retryMin = 250 * time.Millisecond
	retryMax = 2 * time.Second
	quickFor = 10 * time.Second
	// maxFaults is how many different reasons are logged between two sessions.
	maxFaults = 20
	// describeEvery is how often the node's description is compared.
	describeEvery = 20 * time.Second
	// describeTimeout is how long the engine may take to describe itself.
	describeTimeout = 2 * time.Second
)

// Config is what a Session needs.
type Config struct {
	NodeID string // of this node
	Boot   string // drawn anew by each start of the daemon
	// Addr is host:port of this node's cluster listener; without a host, managers
	// take the address that the connection comes from.
	Addr string
	// Managers are those to try first, asked again before each try. Those that a
	// manager names later are tried as well.
	Managers func() []assignment.Manager
	// Dial opens a connection to a manager's listener. nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// TLS returns the settings for the next connection, with this node's current
	// certificate; it must see to it that the peer is a manager. nil: no TLS,
	// for tests.
	TLS func() (*tls.Config, error)
	// Describe describes the node and its engine.
	Describe func(context.Context) (swarm.NodeDescription, error)
	// Held returns the index up to which the worker has its assignments, 0 for
	// unknown, and the ids of the tasks that it holds.
	Held func() (index uint64, taskIDs []string)
	// Values returns the ids of the secrets and configs that the worker has. nil:
	// it has none.
	Values func() []string
	// TunnelKey is the public key of this node's end of encrypted tunnels.
	TunnelKey []byte
	// Apply takes in assignments. It sees lines with Full, Tasks, Remove, Specs,
	// Values, Forget or Fabric set, or a higher Index, in order, one at a time. Spec
	// of each task is filled in, if a manager has sent it in this session. After an error the session starts over.
	Apply func(assignment.Down) error

	// The rest is optional. The callbacks must not block.
	OnManagers   func([]assignment.Manager)
	OnGossipKeys func([][]byte)
	OnRole       func(swarm.NodeRole) // the role differs from the certificate's
	// OnSession is called with true when a session opens and with false when it
	// ends.
	OnSession func(open bool)
	// OnRefused is called when a manager says why it does not serve this node: an
	// errdefs.ErrPermissionDenied says that the node is not of the cluster (any
	// more), an errdefs.ErrConflict that another daemon has its identity. It is
	// no verdict: a node that has just joined may be refused by a manager that
	// lags behind, so the session tries on.
	OnRefused  func(error)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// Session is the worker's line to the managers.
type Session struct {
	cfg     Config
	metrics metrics
	queue   *queue

	describe chan struct{} // 1: the description has changed
	applied  chan struct{} // 1: so has the index that is in effect

	mu          sync.Mutex
	inEffect    uint64                 // what Applied was last told
	description *swarm.NodeDescription // nil: not known yet
	named       []assignment.Manager   // by a manager

	// Of Run's goroutine.
	next   []assignment.Manager // still to be tried in this round
	index  uint64               // assignments are complete up to here
	faults map[string]bool      // why there has been no session since the last one
}

// New returns a Session that connects once Run is called.
func New(cfg Config) (*Session, error) {
	if cfg.Boot == "" || cfg.Managers == nil || cfg.Describe == nil || cfg.Held == nil || cfg.Apply == nil {
		return nil, errors.New("session: Boot, Managers, Describe, Held and Apply are required")
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	fillCallbacks(&cfg)
	s := &Session{cfg: cfg, queue: newQueue(), describe: make(chan struct{}, 1), applied: make(chan struct{}, 1), faults: map[string]bool{}}
	var err error
	s.metrics, err = newMetrics(cfg.Registerer, s.queue.len)
	return s, err
}

func fillCallbacks(cfg *Config) {
	if cfg.OnManagers == nil {
		cfg.OnManagers = func([]assignment.Manager) {}
	}
	if cfg.OnGossipKeys == nil {
		cfg.OnGossipKeys = func([][]byte) {}
	}
	if cfg.OnRole == nil {
		cfg.OnRole = func(swarm.NodeRole) {}
	}
	if cfg.OnSession == nil {
		cfg.OnSession = func(bool) {}
	}
	if cfg.OnRefused == nil {
		cfg.OnRefused = func(error) {}
	}
}

// Report queues a task's newest status. It never blocks, and replaces what was
// queued of the task before.
func (s *Session) Report(taskID string, status taskstate.Status) { s.queue.put(taskID, status) }

// Applied tells the managers that the line with this index is in effect. It
// never blocks; only the newest one counts.
func (s *Session) Applied(index uint64) {
	s.mu.Lock()
	s.inEffect = index
	s.mu.Unlock()
	wake(s.applied)
}

func (s *Session) appliedIndex() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inEffect
}

// Unsent is how many statuses no manager has committed yet.
func (s *Session) Unsent() int { return s.queue.len() }

// Run keeps a session with some manager until ctx ends.
func (s *Session) Run(ctx context.Context) error {
	s.index, _ = s.cfg.Held()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.keepDescription(ctx) })
	g.Go(func() error { return s.keepSession(ctx) })
	return g.Wait()
}

func (s *Session) keepSession(ctx context.Context) error {
	retry := backoff.Backoff{Min: retryMin, Max: retryMax}
	lost := time.Now()
	for ctx.Err() == nil {
		began := time.Now()
		opened, err := s.try(ctx)
		if ctx.Err() != nil {
			break
		}
		s.note(err)
		// One that broke at once is no reason to hurry.
		if opened && time.Since(began) > Silence {
			lost = time.Now()
			retry.Reset()
			continue // at once, with another manager
		}
		if time.Since(lost) < quickFor {
			retry.Reset()
		}
		if retry.Wait(ctx) != nil {
			break
		}
	}
	return ctx.Err()
}

// try has one session with the next manager and reports whether it had opened.
func (s *Session) try(ctx context.Context) (opened bool, err error) {
	m, ok := s.pick()
	if !ok {
		return false, errors.New("no manager is known")
	}
	s.metrics.tries.Inc()
	c := &connection{s: s, log: s.cfg.Log.With("manager", m.Addr)}
	err = c.run(ctx, m.Addr)
	if c.welcome {
		s.metrics.open.Set(0)
		s.cfg.OnSession(false)
	}
	return c.welcome, err
}

// note logs why there is no session, each reason once until there is one.
func (s *Session) note(err error) {
	if err == nil || s.faults[err.Error()] || len(s.faults) >= maxFaults {
		return
	}
	s.faults[err.Error()] = true
	s.cfg.Log.Warn("no session with the managers, trying on", "error", err)
	if _, ok := errors.AsType[*refusedError](err); ok {
		s.cfg.OnRefused(err)
	}
}

// pick returns the next manager to try. Each round tries all that are known,
// in random order.
func (s *Session) pick() (assignment.Manager, bool) {
	if len(s.next) == 0 {
		s.mu.Lock()
		named := s.named
		s.mu.Unlock()
		seen := map[string]bool{}
		for _, m := range append(append([]assignment.Manager(nil), named...), s.cfg.Managers()...) {
			if m.Addr != "" && !seen[m.Addr] {
				seen[m.Addr] = true
				s.next = append(s.next, m)
			}
		}
		rand.Shuffle(len(s.next), func(i, j int) { s.next[i], s.next[j] = s.next[j], s.next[i] })
	}
	if len(s.next) == 0 {
		return assignment.Manager{}, false
	}
	m := s.next[0]
	s.next = s.next[1:]
	return m, true
}

// keepDescription looks every describeEvery whether the description changed.
func (s *Session) keepDescription(ctx context.Context) error {
	tick := time.NewTicker(describeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s.refreshDescription(ctx) {
				wake(s.describe)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refreshDescription reports whether the description is new.
func (s *Session) refreshDescription(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	d, err := s.cfg.Describe(ctx)
	if err != nil {
		s.cfg.Log.Debug("node cannot be described now", "error", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.description != nil && reflect.DeepEqual(*s.description, d) {
		return false
	}
	s.description = &d
	return true
}

// currentDescription returns the newest description, the zero value if the
// engine cannot tell yet.
func (s *Session) currentDescription(ctx context.Context) swarm.NodeDescription {
	s.mu.Lock()
	known := s.description
	s.mu.Unlock()
	if known == nil && !s.refreshDescription(ctx) {
		return swarm.NodeDescription{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.description
}
