package node

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"shoal/internal/durable"
	"shoal/worker"
)

// Config is what a node needs to run. Zero values take the default named.
type Config struct {
	StateDir      string // /var/lib/shoal
	Socket        string // /run/shoal/shoal.sock
	Engine        string // unix:///var/run/docker.sock
	ListenAddr    string // 0.0.0.0:2377
	AdvertiseAddr string // chosen from the interfaces
	GossipPort    int    // 7946
	MetricsAddr   string // none
	Version       string
	Log           *slog.Logger // slog.Default()
	// WorkerEngine runs the tasks instead of Engine, in tests.
	WorkerEngine worker.Engine
}

// withDefaults fills in what is missing and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	c.StateDir = cmp.Or(c.StateDir, "/var/lib/shoal")
	c.Socket = cmp.Or(c.Socket, "/run/shoal/shoal.sock")
	c.Engine = cmp.Or(c.Engine, "unix:///var/run/docker.sock")
	c.GossipPort = cmp.Or(c.GossipPort, 7946)
	c.Version = cmp.Or(c.Version, "dev")
	c.Log = cmp.Or(c.Log, slog.Default())
	if path, ok := strings.CutPrefix(c.Engine, "unix://"); !ok || !filepath.IsAbs(path) {
		return c, invalid("engine %q: want unix:// and the absolute path of the Docker Engine's socket", c.Engine)
	}
	if c.GossipPort < 1 || c.GossipPort > 65535 {
		return c, invalid("gossip port %d: want 1 to 65535", c.GossipPort)
	}
	return c, nil
}

func (c Config) engineSocket() string { return strings.TrimPrefix(c.Engine, "unix://") }

// Places below StateDir.
func (c Config) certDir() string   { return filepath.Join(c.StateDir, "certificates") }
func (c Config) raftDir() string   { return filepath.Join(c.StateDir, "raft") }
func (c Config) workerDir() string { return filepath.Join(c.StateDir, "worker") }
func (c Config) record() string    { return filepath.Join(c.StateDir, "node.json") }
func (c Config) dataKey() string   { return filepath.Join(c.StateDir, "data.key") }

// fileDir is where the secrets and configs of a node's tasks are, beside the
// socket: on a tmpfs, which goes with the host's power.
func (c Config) fileDir(nodeID string) string {
	return filepath.Join(filepath.Dir(c.Socket), "files", nodeID)
}

// unfinished is there while an init or join has not come to its end: what else
// is there without a record is debris then, and no loss.
func (c Config) unfinished() string { return filepath.Join(c.StateDir, "unfinished") }

// begin makes room for a new membership.
func (c Config) begin() error {
	if err := c.wipe(); err != nil {
		return err
	}
	return durable.Write(c.unfinished(), nil)
}

// leftovers is what there is of a membership without its record.
func (c Config) leftovers() (found []string) {
	for _, path := range []string{c.raftDir(), c.workerDir(), c.certDir(), c.dataKey()} {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// wipe forgets the cluster that this node was in. The lock stays.
func (c Config) wipe() error {
	for _, path := range []string{c.record(), c.raftDir(), c.workerDir(), c.certDir(), c.dataKey(), c.unfinished()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove cluster state: %w", err)
		}
	}
	return nil
}
