package lab

import (
	"context"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Managers is how many of n hosts should be managers: an odd number that
// survives one loss from 3 hosts on, and two from 7 on.
func Managers(n int) int {
	switch {
	case n < 3:
		return 1
	case n < 7:
		return 3
	default:
		return 5
	}
}

// FormShoal starts a daemon on every host and makes them one cluster: the
// first managers hosts are managers, h1 the one that starts it.
func (l *Lab) FormShoal(ctx context.Context, managers int, daemonArgs ...string) error {
	g, daemons := errgroup.WithContext(ctx)
	for _, h := range l.hosts {
		g.Go(func() error { return h.StartDaemon(daemons, daemonArgs...) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	first := l.hosts[0]
	if _, err := first.Shoal(ctx, "init", "--advertise-addr", first.Addr); err != nil {
		return err
	}
	return l.joinAll(managers, func(h *Host, role string) error {
		token, err := first.Shoal(ctx, "join-token", "-q", role)
		if err != nil {
			return err
		}
		_, err = h.Shoal(ctx, "join", "--token", strings.TrimSpace(token),
			"--advertise-addr", h.Addr, net.JoinHostPort(first.Addr, ClusterPort))
		return err
	})
}

// FormSwarm makes the engines a Docker Swarm: the baseline for benchmarks.
func (l *Lab) FormSwarm(ctx context.Context, managers int) error {
	first := l.hosts[0]
	if _, err := first.Docker(ctx, "swarm", "init", "--advertise-addr", first.Addr); err != nil {
		return err
	}
	return l.joinAll(managers, func(h *Host, role string) error {
		token, err := first.Docker(ctx, "swarm", "join-token", "-q", role)
		if err != nil {
			return err
		}
		_, err = h.Docker(ctx, "swarm", "join", "--token", strings.TrimSpace(token),
			"--advertise-addr", h.Addr, net.JoinHostPort(first.Addr, ClusterPort))
		return err
	})
}

// joinAll joins every host but the first: managers one by one, because each
// changes the quorum, then the workers together.
func (l *Lab) joinAll(managers int, join func(h *Host, role string) error) error {
	var workers errgroup.Group
	for i, h := range l.hosts[1:] {
		if i+1 < managers {
			if err := join(h, "manager"); err != nil {
				return fmt.Errorf("join %s as manager: %w", h.Name, err)
			}
			continue
		}
		workers.Go(func() error {
			if err := join(h, "worker"); err != nil {
				return fmt.Errorf("join %s as worker: %w", h.Name, err)
			}
			return nil
		})
	}
	return workers.Wait()
}
