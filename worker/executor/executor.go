// Package executor carries out one node's assignments: it makes a container
// for each task, watches it, and reports what it sees.
//
// next, in plan.go, decides what a task needs and is pure; the rest takes that
// step and looks again. A container is found by its labels, so a daemon that
// comes back goes on with what runs. The executor never trusts what it
// remembers: events and a list every few seconds tell it where to look, and
// only a look changes what it knows.
//
// All state belongs to the goroutine of Run. Others leave word in the inbox.
package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// Engine is what an executor needs of a Docker Engine: engine.Engine and
// engine.Fake are some.
type Engine interface {
	Describe(ctx context.Context) (swarm.NodeDescription, error)
	APIVersion(ctx context.Context) (string, error)
	Image(ctx context.Context, ref string) (engine.Image, error)
	Pull(ctx context.Context, ref, auth, platform string, answered func()) error
	Create(ctx context.Context, s engine.Spec) (string, error)
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string, opts engine.StopOptions) error
	Remove(ctx context.Context, id string) error
	Inspect(ctx context.Context, id string) (*engine.Container, error)
	List(ctx context.Context, label, value string) ([]engine.Summary, error)
	Watch(ctx context.Context, label, value string, notify func(engine.Event)) error
	Connect(ctx context.Context, containerID string, ep engine.Endpoint) error
}

// Network joins tasks to the networks of the cluster: network.Network is one.
type Network interface {
	// Attach makes the networks of a task ready on this node and returns what its
	// container is to be connected to. It may take its time.
	Attach(ctx context.Context, t assignment.Task) (engine.Attachment, error)
}

// Config is what an Executor needs. Zero values take the default named.
type Config struct {
	Engine    Engine // required
	NodeID    string // required
	ClusterID string // required
	// Network: nil refuses tasks that are on networks of the cluster.
	Network Network
	// Values and Files: nil refuses tasks that have secrets or configs.
	Values Values
	Files  Files
	// Report is told each new status of a task, in order and from one
	// goroutine. It must not block. Required.
	Report func(taskID string, s taskstate.Status)
	// OnEngine is told when the engine begins and ceases to answer; optional. It
	// must not block.
	OnEngine func(up bool)
	// Backlog counts the connections that wait to be accepted in the network
	// namespace of a process: as the kernel says.
	Backlog func(pid int) (int, error)
	// Offline uses the images that are there and never asks a registry.
	Offline    bool
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

const (
	// auditPeriod is how often all containers are compared with what is
	// known, for the events that were lost.
	auditPeriod                                 = 10 * time.Second
	parallelPulls, parallelLooks, parallelStops = 3, 16, 64
	// withdrawTime is how long a task that is to stop waits for all nodes to
	// send it nothing new. 10s: nodes that do not answer are down, and not waited
	// for, by 8 s.
	withdrawTime = 10 * time.Second
	// settleTime is how long it runs on once they do, for packets that are under
	// way. 1s: half of what Swarm waits, which knows nothing of the others.
	settleTime = time.Second
)

// Executor runs the tasks of a node.
type Executor struct {
	cfg     Config
	log     *slog.Logger
	puller  *puller
	slots   map[op]*semaphore.Weighted
	inbox   inbox
	metrics *metrics

	// Below: Run's alone.
	tasks    map[string]*task
	complete bool // the assignments were known in full at least once
	synced   bool // the engine answers and its containers have been seen
	lost     bool // the engine does not answer, and that has been said
	listing  bool // a list is under way
	relist   bool // and another one must follow it
	host     host
	steps    *errgroup.Group
}

// host is what containers are made from besides their task.
type host struct {
	node       Node
	apiVersion string
}

// New returns an executor; Run makes it work.
func New(cfg Config) (*Executor, error) {
	if cfg.Engine == nil || cfg.NodeID == "" || cfg.ClusterID == "" || cfg.Report == nil {
		return nil, fmt.Errorf("executor needs an engine, a node id, a cluster id and a report: %w", errdefs.ErrInvalidArgument)
	}
	if cfg.OnEngine == nil {
		cfg.OnEngine = func(bool) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Backlog == nil {
		cfg.Backlog = backlog
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	return &Executor{
		cfg: cfg, log: cfg.Log, metrics: m, tasks: map[string]*task{}, inbox: newInbox(),
		puller: newPuller(cfg.Engine, cfg.Log, cfg.Offline, parallelPulls),
		slots:  newSlots(),
	}, nil
}

// newSlots returns how many steps of each kind are taken at a time.
func newSlots() map[op]*semaphore.Weighted {
	// The engine starts containers in parallel up to a point: what is beyond
	// twice its processors only makes each of them slower.
	busy := semaphore.NewWeighted(int64(min(max(2*runtime.NumCPU(), 8), 16)))
	return map[op]*semaphore.Weighted{
		prepare: busy, start: busy, remove: busy,
		look: semaphore.NewWeighted(parallelLooks), stop: semaphore.NewWeighted(parallelStops),
	}
}

// Set gives the executor its tasks. If complete, these are all: any other task
// is stopped and removed, and so is any container of this cluster that no task
// accounts for. If not, tasks that are not among them go on.
//
// It does not wait for anything to be done.
func (e *Executor) Set(tasks []assignment.Task, complete bool) { e.inbox.set(tasks, complete) }

// Run carries the tasks out until ctx ends. Containers are left running.
func (e *Executor) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	e.steps = group
	group.Go(func() error { return e.watch(ctx) })
	group.Go(func() error { return e.loop(ctx) })
	err := group.Wait()
	e.puller.flying.Wait()
	return err
}

// watch tells the inbox what the engine tells, for as long as there is one.
func (e *Executor) watch(ctx context.Context) error {
	// 1s: to ask a local socket costs next to nothing.
	wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for {
		err := e.cfg.Engine.Watch(ctx, ClusterLabel, e.cfg.ClusterID, func(ev engine.Event) {
			if ev.Resync {
				wait.Reset()
				e.cfg.OnEngine(true)
				e.inbox.connect()
				return
			}
			e.inbox.touch(ev.Labels[TaskLabel])
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.cfg.OnEngine(false)
		e.inbox.disconnect(err)
		if err := wait.Wait(ctx); err != nil {
			return err
		}
	}
}

// loop waits for news, takes them in and takes the steps that follow.
func (e *Executor) loop(ctx context.Context) error {
	audit := time.NewTicker(auditPeriod)
	defer audit.Stop()
	for {
		select {
		case <-e.inbox.wake:
		case <-audit.C:
			if e.synced {
				e.list(ctx, false)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		touched := e.take(ctx, e.inbox.empty())
		if !e.synced {
			continue
		}
		for id := range touched {
			if t := e.tasks[id]; t != nil {
				e.advance(ctx, t)
			}
		}
	}
}

// temporary reports whether a step that ended with err may succeed later.
func temporary(err error) bool {
	return errdefs.IsUnavailable(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
