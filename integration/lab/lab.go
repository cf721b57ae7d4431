// Package lab gives tests and people a small data centre on one machine.
//
// A lab is a set of hosts on one switch. Each host is a process tree in its
// own PID, network, mount, UTS and IPC namespaces with its own Docker Engine,
// /run and address; its disk is a directory. Hosts can be switched off and on,
// cut from each other in either direction, and their processes killed, paused
// and restarted.
//
// Nothing has a name outside the lab except one network link (slabN, through
// which the test process reaches the hosts), one cgroup and one directory, so
// whatever kills the test process kills the lab with it: the first process of
// each host dies with its parent, and takes everything in the host along.
// What a dead lab leaves in the file system is removed by Sweep.
//
// It shells out to iproute2, nftables, util-linux and docker, and needs root.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Config says what lab to build.
type Config struct {
	// Dir holds the hosts' disks, sockets and logs, and is removed by Close.
	// Keep it short: socket paths end at 107 bytes. Default /tmp/shoal-lab-N.
	Dir string
	// Hosts is how many hosts the lab has: 1 to MaxHosts.
	Hosts int
	// Shoal is the absolute path of the shoal binary that StartDaemon runs.
	Shoal string
	// EngineArgs are more arguments for every dockerd.
	EngineArgs []string
	// NoEngines leaves the engines to the caller: hosts come up without.
	NoEngines bool
	// Detach lets the lab outlive this process, until Open and Close.
	Detach bool
	// Log receives what the lab does; slog.Default when nil.
	Log *slog.Logger
}

// MaxHosts is the most hosts one lab can have: its subnet is a /24.
const MaxHosts = 200

// Lab is a running lab.
type Lab struct {
	cfg   Config
	num   int // names the link, the subnet and the cgroup
	sw    *tree
	hosts []*Host
	log   *slog.Logger
	reap  sync.WaitGroup // one goroutine per child process

	mu   sync.Mutex
	cuts map[cut]bool
}

// New builds a lab and waits until every engine answers. After an error
// nothing is left of it.
func New(ctx context.Context, cfg Config) (*Lab, error) {
	if cfg.Hosts < 1 || cfg.Hosts > MaxHosts {
		return nil, fmt.Errorf("lab of %d hosts: want 1 to %d", cfg.Hosts, MaxHosts)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root: it makes namespaces")
	}
	l := &Lab{cfg: cfg, log: cfg.Log, cuts: map[cut]bool{}}
	if l.log == nil {
		l.log = slog.Default()
	}
	if _, err := Sweep(); err != nil {
		return nil, err
	}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	if err := l.startSwitch(ctx); err != nil {
		return err
	}
	if l.cfg.Dir == "" {
		l.cfg.Dir = defaultDir(l.num)
	}
	if err := claimDir(l.cfg.Dir); err != nil {
		l.cfg.Dir = "" // not ours: Close must not remove it
		return err
	}
	for i := range l.cfg.Hosts {
		l.hosts = append(l.hosts, newHost(l, i+1))
	}
	if err := l.save(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range l.hosts {
		g.Go(func() error {
			if err := h.PowerOn(ctx); err != nil || l.cfg.NoEngines {
				return err
			}
			return h.StartEngine(ctx)
		})
	}
	return g.Wait()
}

// claimDir makes dir, which may exist only if it is empty.
func claimDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); !errors.Is(err, io.EOF) {
		return fmt.Errorf("lab directory %s is not empty: is a lab still up there? shoallab down removes it", dir)
	}
	return nil
}

// Hosts are all hosts in order of their number.
func (l *Lab) Hosts() []*Host { return l.hosts }

// Host is the i-th host, counted from 1 as in its name.
func (l *Lab) Host(i int) *Host { return l.hosts[i-1] }

// Dir is the directory of the lab.
func (l *Lab) Dir() string { return l.cfg.Dir }

// GatewayAddr is the address at which the hosts reach this process.
func (l *Lab) GatewayAddr() string { return l.addr(gatewayHost) }

// GatewayAddr6 is the same over IPv6.
func (l *Lab) GatewayAddr6() string { return l.addr6(gatewayHost) }

// Close ends every process of the lab and removes all its traces. It may be
// called more than once.
func (l *Lab) Close() error {
	var g errgroup.Group
	for _, h := range l.hosts {
		g.Go(h.tree.kill)
	}
	errs := []error{g.Wait()}
	if l.sw != nil {
		errs = append(errs, l.sw.kill(), removeLink(l.num))
		errs = append(errs, removeCgroups(l.num))
	}
	l.reap.Wait()
	if l.cfg.Dir != "" {
		errs = append(errs, os.RemoveAll(l.cfg.Dir))
	}
	return errors.Join(errs...)
}

func defaultDir(num int) string {
	return filepath.Join(os.TempDir(), labName(num))
}

func labName(num int) string { return fmt.Sprintf("shoal-lab-%d", num) }
