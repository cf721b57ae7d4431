// Package node is the long-running process of a machine: it holds the node's
// identity, the cluster's one listener, the local socket, and runs the roles
// that the node has. It composes manager, worker and gossip and decides
// nothing about the cluster itself.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shoal/internal/backoff"
)

// Node is one machine, in a cluster or not.
type Node struct {
	cfg      Config
	log      *slog.Logger
	engine   *engineProxy
	registry *prometheus.Registry

	joined chan *member // from Init and Join to the supervisor
	change sync.Mutex   // one of init, join and leave at a time

	mu     sync.Mutex
	member *member // nil: in no cluster
	err    error   // why the member does not run at the moment
}

// Run runs the node until ctx ends. Containers are left as they are.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	lock, err := prepare(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	n := &Node{cfg: cfg, log: cfg.Log, engine: newEngineProxy(cfg), registry: newRegistry(cfg.Version), joined: make(chan *member, 1)}
	defer n.engine.close()
	if err := n.resume(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.serveSocket(ctx) })
	g.Go(func() error { return n.serveMetrics(ctx) })
	g.Go(func() error { return n.supervise(ctx) })
	n.log.Info("shoal is up", "version", cfg.Version, "socket", cfg.Socket, "state", cfg.StateDir)
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// prepare makes the state directory and locks it: two daemons on one
// directory would be two nodes with one identity.
func prepare(cfg Config) (*os.File, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := os.Chmod(cfg.StateDir, 0o700); err != nil { //nolint:gosec // a directory
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.StateDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, failed("state directory %s is in use by another shoal daemon", cfg.StateDir)
	}
	return lock, nil
}

// resume takes up the membership that is on disk. What an interrupted init or
// join has left behind is removed: it never got as far as a record.
func (n *Node) resume() error {
	_, unfinished := os.Lstat(n.cfg.unfinished())
	r, err := loadRecord(n.cfg.record())
	if errdefs.IsNotFound(err) {
		found := n.cfg.leftovers()
		if unfinished == nil || len(found) == 0 {
			return n.cfg.wipe()
		}
		return failed("%s is missing, but this node was in a cluster: restore it from a backup, or remove %s to start without that cluster", n.cfg.record(), strings.Join(found, ", "))
	}
	if err != nil {
		return fmt.Errorf("%w: restore it from a backup, or remove what is in %s and join again", err, n.cfg.StateDir)
	}
	if err := os.RemoveAll(n.cfg.unfinished()); err != nil {
		return err
	}
	n.sayIgnored(r)
	n.start(newMember(n, r, nil))
	return nil
}

// sayIgnored tells of flags that do not count, because the request to init or
// join said otherwise.
func (n *Node) sayIgnored(r *record) {
	if n.cfg.ListenAddr == "" && n.cfg.AdvertiseAddr == "" || r.Asked != nil && *r.Asked == (asked{}) {
		return
	}
	a, err := n.addresses("", "")
	if err != nil || n.cfg.ListenAddr != "" && a.listen != r.Listen || n.cfg.AdvertiseAddr != "" && a.advertise != r.Advertise {
		n.log.Warn("this node keeps the addresses that it was told to have when it joined: leave the cluster and join again to change them",
			"listen", r.Listen, "advertise", r.Advertise, "listen-addr", n.cfg.ListenAddr, "advertise-addr", n.cfg.AdvertiseAddr)
	}
}

// start makes m the node's membership. The supervisor runs it.
func (n *Node) start(m *member) {
	n.mu.Lock()
	n.member, n.err = m, nil
	n.mu.Unlock()
	n.joined <- m
}

// supervise runs the memberships of this node, one after the other.
func (n *Node) supervise(ctx context.Context) error {
	for {
		select {
		case m := <-n.joined:
			n.keepRunning(ctx, m)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keepRunning runs m until it leaves or ctx ends. A member that fails, on a
// listener that is taken or an expired certificate, is tried again.
func (n *Node) keepRunning(ctx context.Context, m *member) {
	defer close(m.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(m.left, cancel)
	defer stop()
	wait := backoff.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second}
	said := ""
	for {
		started := time.Now()
		err := m.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errReaddressed) {
			continue
		}
		n.setError(err)
		if time.Since(started) > time.Minute {
			wait.Reset()
			said = ""
		}
		if text := fmt.Sprint(err); text != said {
			said = text // once for a reason: it may take hours until someone comes
			n.log.Error("node stopped, trying again until it can start", "error", err)
		}
		if wait.Wait(ctx) != nil {
			return
		}
	}
}

func (n *Node) setError(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

// current returns the membership, nil if there is none, and its last failure.
func (n *Node) current() (*member, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.member, n.err
}

// stop ends the membership and waits until nothing of it runs.
func (n *Node) stop(m *member) {
	m.leave()
	<-m.done
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.member == m {
		n.member, n.err = nil, nil
	}
}

// state is what `docker info` and the ping header say of this node.
func (n *Node) state() swarm.LocalNodeState {
	m, err := n.current()
	switch {
	case m == nil:
		return swarm.LocalNodeStateInactive
	case err != nil:
		return swarm.LocalNodeStateError
	case !m.isReady():
		return swarm.LocalNodeStatePending
	}
	return swarm.LocalNodeStateActive
}
