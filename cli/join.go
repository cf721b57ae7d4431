package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/docker/docker/api/types/swarm"

	"shoal/cli/format"
)

func (s *shell) joinCommand() *command {
	var (
		m     memberFlags
		token string
		f     = &flags{}
	)
	m.add(f)
	f.text(&token, "token", "Join token, from 'shoal join-token worker' or 'manager' on a manager")
	return &command{
		name: "join", operands: "[OPTIONS] HOST:PORT", short: "Join this node to a cluster, as the worker or manager that the token says",
		long:  "HOST:PORT is any manager. Starts the daemon first when none answers: as shoal.service where systemd runs, else in the background.",
		flags: f, min: 1, max: 1,
		run: func(ctx context.Context, args []string) error { return s.runJoin(ctx, &m, token, args[0]) },
	}
}

func (s *shell) runJoin(ctx context.Context, m *memberFlags, token, remote string) error {
	if token == "" {
		return badFlag("token", token, "is required; a manager prints one with 'shoal join-token worker'")
	}
	// Tokens are SHMTKN-1-<50 base36>-<25 base36>; they are secrets, so most of
	// a wrong one is not shown.
	if !regexp.MustCompile(`^SHMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$`).MatchString(token) {
		return badFlag("token", format.Ellipsis(token, len("SHMTKN-1-")+1), `must look like "SHMTKN-1-<50 characters>-<25 characters>"; copy all of it`)
	}
	addr := remote
	if err := (&address{p: &addr, port: "2377"}).Set(remote); err != nil {
		return fmt.Errorf("invalid manager address %q: %w", remote, err)
	}
	if err := s.ensureDaemon(ctx, m.daemonFlags, m.f); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := api.SwarmJoin(ctx, swarm.JoinRequest{
		ListenAddr: m.listen, AdvertiseAddr: m.advertise, DataPathAddr: m.dataAddr,
		RemoteAddrs: []string{addr}, JoinToken: token, Availability: swarm.NodeAvailability(m.availability),
	}); err != nil {
		return err
	}
	info, err := api.Info(ctx)
	if err != nil {
		return err
	}
	role := "worker"
	if info.Swarm.ControlAvailable {
		role = "manager"
	}
	fmt.Fprintf(s.out, "This node joined a swarm as a %s.\n", role)
	return nil
}

func (s *shell) leaveCommand() *command {
	var (
		force bool
		f     = &flags{}
	)
	f.toggle(&force, "force,f", "Leave although this node is a manager, ignoring warnings")
	return &command{
		name: "leave", operands: "[OPTIONS]", short: "Take this node out of its cluster; its tasks move elsewhere", flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			if err := api.SwarmLeave(ctx, force); err != nil {
				return err
			}
			fmt.Fprintln(s.out, "Node left the swarm.")
			return nil
		},
	}
}

func (s *shell) joinTokenCommand() *command {
	var (
		quiet, rotate bool
		f             = &flags{}
	)
	f.toggle(&quiet, "quiet,q", "Only display the token")
	f.toggle(&rotate, "rotate", "Replace the token; the old one lets nobody in any more")
	return &command{
		name: "join-token", operands: "[OPTIONS] (worker|manager)", short: "Show or replace the token that lets nodes join", flags: f, min: 1, max: 1,
		completes: "worker manager",
		run: func(ctx context.Context, args []string) error {
			return s.runJoinToken(ctx, args[0], quiet, rotate)
		},
	}
}

func (s *shell) runJoinToken(ctx context.Context, role string, quiet, rotate bool) error {
	if role != "worker" && role != "manager" {
		return fmt.Errorf("unknown role %q: must be \"worker\" or \"manager\"", role)
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	if rotate {
		err := reread(func() error {
			sw, err := api.SwarmInspect(ctx)
			if err != nil {
				return err
			}
			return api.SwarmUpdate(ctx, sw.Version, sw.Spec, swarm.UpdateFlags{RotateWorkerToken: role == "worker", RotateManagerToken: role == "manager"})
		})
		if err != nil {
			return err
		}
		if !quiet {
			fmt.Fprintf(s.out, "Successfully rotated %s join token.\n\n", role)
		}
	}
	if quiet {
		sw, err := api.SwarmInspect(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, tokenOf(sw, role))
		return nil
	}
	info, err := api.Info(ctx)
	if err != nil {
		return err
	}
	return s.printJoin(ctx, info.Swarm.NodeID, role)
}

func tokenOf(sw swarm.Swarm, role string) string {
	if role == "manager" {
		return sw.JoinTokens.Manager
	}
	return sw.JoinTokens.Worker
}

// errNoManager: a node that is no manager has no address for others to join at.
var errNoManager = errors.New("this node has no manager address to join; ask another manager")

// printJoin prints the command that joins another node through this one.
func (s *shell) printJoin(ctx context.Context, nodeID, role string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	node, _, err := api.NodeInspectWithRaw(ctx, nodeID)
	if err != nil {
		return err
	}
	sw, err := api.SwarmInspect(ctx)
	if err != nil {
		return err
	}
	if node.ManagerStatus == nil {
		return errNoManager
	}
	fmt.Fprintf(s.out, "To add a %s to this swarm, run the following command:\n\n    shoal join --token %s %s\n\n", role, tokenOf(sw, role), node.ManagerStatus.Addr)
	return nil
}
