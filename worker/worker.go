// Package worker makes a machine run what the managers assign to it: a session
// brings the assignments, an executor carries them out on the engine, on
// networks that package network keeps ready, and what is held is kept on disk,
// so that a daemon that comes back goes on before any manager answers.
package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"shoal/internal/taskstate"
	"shoal/overlay"
	"shoal/overlay/tunnel"
	"shoal/worker/assignment"
	"shoal/worker/engine"
	"shoal/worker/executor"
	"shoal/worker/file"
	"shoal/worker/network"
	"shoal/worker/session"
)

// Config is what a Worker needs. Zero values take the default named.
type Config struct {
	Dir       string // required; made with mode 0700, holds the last assignments
	Key       []byte // required; 32 bytes, what is on disk is sealed with it
	NodeID    string // required
	ClusterID string // required
	// FileDir is where the secrets and configs of tasks are, on a tmpfs that is
	// mounted there: files in Dir.
	FileDir string
	// Session says how to reach the managers and whom to tell what they say. The
	// worker fills in NodeID, Describe, Held, Apply, Log and Registerer. Managers
	// that were heard of in an earlier life are tried besides Session.Managers.
	Session session.Config
	// EngineHost is where the Docker Engine listens: unix:///var/run/docker.sock.
	EngineHost string
	// Engine is used instead of the one at EngineHost, in tests.
	Engine Engine
	// TunnelKey is the private key, 32 bytes, of this node's end of encrypted
	// tunnels; nil: one that is drawn anew by each start.
	TunnelKey []byte
	// Plane is used instead of the kernel's data plane, in tests. With Engine and
	// without Plane there is none: the kernel is left alone.
	Plane      network.Plane
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// Engine is all that a worker needs of a Docker Engine.
type Engine interface {
	executor.Engine
	network.Engine
}

// Worker is the worker's side of a node.
type Worker struct {
	cfg      Config
	log      *slog.Logger
	vault    *vault
	held     *held
	values   *values
	engine   Engine
	network  *network.Network
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
	w := &Worker{cfg: cfg, log: cfg.Log, engine: cfg.Engine, close: func() error { return nil }, values: newValues(), presence: newPresence()}
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
	last := w.remembered()
	w.held = newHeld(last)
	if err := w.join(last.Fabric); err != nil {
		return nil, err
	}
	files, err := file.New(cmp.Or(cfg.FileDir, filepath.Join(cfg.Dir, "files")))
	if err != nil {
		return nil, err
	}
	if w.executor, err = executor.New(executor.Config{
		Engine: w.engine, NodeID: cfg.NodeID, ClusterID: cfg.ClusterID, Network: w.network, Report: w.report, OnEngine: w.onEngine,
		Values: w.values, Files: files,
		Offline: os.Getenv("DOCKER_SERVICE_PREFER_OFFLINE_IMAGE") == "1",
		Log:     cfg.Log, Registerer: cfg.Registerer,
	}); err != nil {
		return nil, err
	}
	w.session, err = session.New(w.sessionConfig())
	return w, err
}

// join makes the worker's part in the networks of the cluster, from what it knew
// of them.
func (w *Worker) join(known *assignment.Known) error {
	cfg := w.cfg
	key := cfg.TunnelKey
	if len(key) == 0 {
		key = make([]byte, 32)
		rand.Read(key) // never fails
	}
	if len(key) != 32 {
		return fmt.Errorf("tunnel key has %d bytes, want 32: %w", len(key), errdefs.ErrInvalidArgument)
	}
	public, err := tunnel.PublicKey(key)
	if err != nil {
		return fmt.Errorf("tunnel key: %w", err)
	}
	w.cfg.Session.TunnelKey = public
	plane := cfg.Plane
	switch {
	case plane != nil:
	case cfg.Engine != nil:
		plane = noPlane{}
	default:
		plane, err = overlay.New(overlay.Config{NodeID: cfg.NodeID, TunnelKey: key, Log: cfg.Log, Registerer: cfg.Registerer})
		if err != nil {
			return err
		}
	}
	w.network, err = network.New(network.Config{
		Engine: w.engine, Plane: plane, NodeID: cfg.NodeID, ClusterID: cfg.ClusterID, Known: known, Applied: w.applied,
		IPv6: kernelHasIPv6(), Log: cfg.Log, Registerer: cfg.Registerer,
	})
	return err
}

func kernelHasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

func (w *Worker) sessionConfig() session.Config {
	c := w.cfg.Session
	c.NodeID, c.Log, c.Registerer = w.cfg.NodeID, w.log, w.cfg.Registerer
	c.Describe, c.Held, c.Apply, c.Values = w.engine.Describe, w.held.index, w.apply, w.values.ids
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
	group.Go(func() error { return w.network.Run(ctx) })
	group.Go(func() error { return w.executor.Run(ctx) })
	group.Go(func() error { return w.presence.while(ctx, w.log, w.session.Run) })
	group.Go(func() error { return w.remember(ctx) })
	return group.Wait()
}

// apply takes in what a manager assigns. Networks and values come first: tasks
// are made from what is known of them.
func (w *Worker) apply(down assignment.Down) error {
	w.values.apply(down)
	w.network.Apply(down.Fabric, down.Index)
	tasks, complete := w.held.apply(down)
	if changesTasks(down) {
		w.executor.Set(tasks, complete)
	}
	return nil
}

func (w *Worker) applied(index uint64) { w.session.Applied(index) }

func (w *Worker) onEngine(up bool) {
	w.presence.set(up)
	w.network.SetEngine(up)
}

// NetworkReady makes a cluster network ready on this node, for a container that
// is no task, and returns the id of the engine's half. This node must have an
// attachment to it.
func (w *Worker) NetworkReady(ctx context.Context, networkID string) (engineNetworkID string, err error) {
	return w.network.Ready(ctx, networkID)
}

// GatewayReady is NetworkReady for the gateway network of this node.
func (w *Worker) GatewayReady(ctx context.Context) (engineNetworkID string, err error) {
	return w.network.GatewayReady(ctx)
}

// AuditNetworks compares the kernel with what the managers say of networks,
// repairs what differs and tells it, one line each.
func (w *Worker) AuditNetworks(ctx context.Context) (compared int, differences []string, err error) {
	return w.network.Audit(ctx)
}

// report passes on what the executor saw.
func (w *Worker) report(taskID string, s taskstate.Status) {
	w.held.setStatus(taskID, s)
	w.session.Report(taskID, s)
}

// Purge stops and removes all containers of a cluster, then its networks on the
// engine and in the kernel, and the files of its tasks, for a node that leaves
// it: also one whose worker cannot start any more. Engine is used instead of the
// one at engineHost, and the kernel is left alone, if it is not nil. No worker
// may run.
func Purge(ctx context.Context, engineHost string, eng Engine, clusterID, fileDir string) error {
	files, err := file.New(fileDir)
	if err != nil {
		return err
	}
	if eng != nil {
		return errors.Join(purgeEngine(ctx, eng, clusterID), files.Close())
	}
	docker, err := engine.New(engine.Config{Host: engineHost})
	if err != nil {
		return errors.Join(err, files.Close())
	}
	defer docker.Close() //nolint:errcheck // nothing is written to its connections then
	// What is in the kernel and in memory goes even if the engine does not answer.
	return errors.Join(purgeEngine(ctx, docker, clusterID), overlay.Purge(), files.Close())
}

func purgeEngine(ctx context.Context, eng Engine, clusterID string) error {
	if err := executor.Purge(ctx, eng, clusterID); err != nil {
		return err
	}
	return network.Purge(ctx, eng, clusterID)
}
