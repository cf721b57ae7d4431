// Package worker makes a machine run what the managers assign to it: a session
// brings the assignments, an executor carries them out on the engine, and what
// is held is kept on disk, so that a daemon that comes back goes on before any
// manager answers.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
	"shoal/worker/executor"
	"shoal/worker/session"
)

// Config is what a Worker needs. Zero values take the default named.
type Config struct {
	Dir       string // required; made with mode 0700, holds the last assignments
	Key       []byte // required; 32 bytes, what is on disk is sealed with it
	NodeID    string // required
	ClusterID string // required
	TunnelKey []byte // 32 bytes: private key of the node's end of tunnels
	// Session says how to reach the managers and whom to tell what they say. The
	// worker fills in NodeID, Describe, Held, Apply, Log and Registerer. Managers
	// that were heard of in an earlier life are tried besides Session.Managers.
	Session session.Config
	// EngineHost is where the Docker Engine listens: unix:///var/run/docker.sock.
	EngineHost string
	// Engine is used instead of the one at EngineHost, in tests.
	Engine     executor.Engine
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// Worker is the worker's side of a node.
type Worker struct {
	cfg      Config
	log      *slog.Logger
	vault    *vault
	held     *held
	engine   executor.Engine
	executor *executor.Executor
	session  *session.Session
	presence *presence
	close    func() error // of the engine
}

// New returns a worker that holds what it held when it last ran.
func New(cfg Config) (*Worker, error) {
	if cfg.Dir == "" || cfg.NodeID == "" || cfg.ClusterID == "" {
		return nil, fmt.Errorf("worker needs a directory, a node id and a cluster id: %w", errdefs.ErrInvalidArgument)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	w := &Worker{cfg: cfg, log: cfg.Log, engine: cfg.Engine, close: func() error { return nil }, presence: newPresence()}
	var err error
	if w.vault, err = openVault(cfg.Dir, cfg.Key, cfg.ClusterID, cfg.NodeID); err != nil {
		return nil, err
	}
	if w.engine == nil {
		docker, err := engine.New(engine.Config{Host: cfg.EngineHost})
		if err != nil {
			return nil, err
		}
		w.engine, w.close = docker, docker.Close
	}
	w.held = newHeld(w.remembered())
	if w.executor, err = executor.New(executor.Config{
		Engine: w.engine, NodeID: cfg.NodeID, ClusterID: cfg.ClusterID, Report: w.report, OnEngine: w.presence.set,
		Offline: os.Getenv("DOCKER_SERVICE_PREFER_OFFLINE_IMAGE") == "1",
		Log:     cfg.Log, Registerer: cfg.Registerer,
	}); err != nil {
		return nil, err
	}
	w.session, err = session.New(w.sessionConfig())
	return w, err
}

func (w *Worker) sessionConfig() session.Config {
	c := w.cfg.Session
	c.NodeID, c.Log, c.Registerer = w.cfg.NodeID, w.log, w.cfg.Registerer
	c.Describe, c.Held, c.Apply = w.engine.Describe, w.held.index, w.apply
	given, told := c.Managers, c.OnManagers
	c.Managers = func() []assignment.Manager {
		managers := w.held.managers()
		if given != nil {
			managers = append(managers, given()...)
		}
		return managers
	}
	c.OnManagers = func(m []assignment.Manager) {
		w.held.setManagers(m)
		if told != nil {
			told(m)
		}
	}
	return c
}

// remembered returns what is on disk. A file that cannot be read is as none:
// the managers know it all.
func (w *Worker) remembered() memory {
	m, err := w.vault.load()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.log.Error("last assignments are lost, waiting for a manager", "error", err)
	}
	return m
}

// Run works until ctx ends. Containers are left running.
func (w *Worker) Run(ctx context.Context) error {
	defer w.close() //nolint:errcheck // nothing is written to the engine's connections then
	w.executor.Set(w.held.tasks(), false)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.executor.Run(ctx) })
	group.Go(func() error { return w.presence.while(ctx, w.log, w.session.Run) })
	group.Go(func() error { return w.remember(ctx) })
	return group.Wait()
}

// apply takes in what a manager assigns.
func (w *Worker) apply(down assignment.Down) error {
	tasks, complete := w.held.apply(down)
	w.executor.Set(tasks, complete)
	return nil
}

// report passes on what the executor saw.
func (w *Worker) report(taskID string, s taskstate.Status) {
	w.held.setStatus(taskID, s)
	w.session.Report(taskID, s)
}

// Purge stops and removes all containers of a cluster, for a node that leaves
// it: also one whose worker cannot start any more. Engine is used instead of
// the one at engineHost if it is not nil. No worker may run.
func Purge(ctx context.Context, engineHost string, eng executor.Engine, clusterID string) error {
	if eng == nil {
		docker, err := engine.New(engine.Config{Host: engineHost})
		if err != nil {
			return err
		}
		defer docker.Close() //nolint:errcheck // nothing is written to its connections then
		eng = docker
	}
	return executor.Purge(ctx, eng, clusterID)
}
