package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/network"

	"shoal/cli/format"
)

func (s *shell) networkCommand() *command {
	return &command{
		name: "network", short: "Manage networks",
		commands: []*command{
			s.networkConnect(), s.networkCreate(), s.networkDisconnect(), s.networkInspect(), s.networkList(), s.networkPrune(), s.networkRemove(),
		},
	}
}

func (s *shell) networkList() *command {
	var (
		l listFlags
		f = &flags{}
	)
	l.add(f, "IDs", "dangling", "driver", "id", "label", "name", "scope", "type")
	f.toggle(&l.noTrunc, "no-trunc", "Do not truncate output")
	return &command{
		name: "ls", aliases: []string{"list"}, operands: "[OPTIONS]", short: "List networks of the cluster and of this node's engine", flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			networks, err := api.NetworkList(ctx, network.ListOptions{Filters: l.filter.Value()})
			if err != nil {
				return err
			}
			return format.Write(s.out, format.Networks(), l.format, l.quiet, format.NetworkRows(networks, !l.noTrunc))
		},
	}
}

func (s *shell) networkInspect() *command {
	var (
		i       inspectFlags
		verbose bool
		f       = &flags{}
	)
	f.add((*templateValue)(&i.format), "string", "format,f", "Print with TEMPLATE (Go template) or \"json\"")
	f.toggle(&verbose, "verbose,v", "Print services and tasks too")
	return &command{
		name: "inspect", operands: "[OPTIONS] NETWORK [NETWORK...]", short: "Display detailed information on one or more networks",
		flags: f, min: 1, max: -1, completes: "network",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			get := func(ref string) (any, []byte, error) {
				n, raw, err := api.NetworkInspectWithRaw(ctx, ref, network.InspectOptions{Verbose: verbose})
				if errdefs.IsNotFound(err) {
					err = fmt.Errorf("Error: no such network: %s", ref)
				}
				return n, raw, err
			}
			return s.inspect(&i, args, get, nil)
		},
	}
}

func (s *shell) networkRemove() *command {
	var (
		force bool
		f     = &flags{}
	)
	f.toggle(&force, "force,f", "Do not fail if a network does not exist")
	return &command{
		name: "rm", aliases: []string{"remove"}, operands: "[OPTIONS] NETWORK [NETWORK...]", short: "Remove one or more networks",
		flags: f, min: 1, max: -1, completes: "network",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			var errs []error
			for _, arg := range args {
				err := api.NetworkRemove(ctx, arg)
				switch {
				case force && errdefs.IsNotFound(err):
				case err != nil:
					errs = append(errs, err)
				default:
					fmt.Fprintln(s.out, arg)
				}
			}
			return errors.Join(errs...)
		},
	}
}

func (s *shell) networkPrune() *command {
	var (
		force  bool
		filter = opts.NewFilterOpt()
		f      = &flags{}
	)
	f.toggle(&force, "force,f", "Do not ask")
	f.add(&filterValue{&filter, []string{"label", "label!", "until"}}, "filter", "filter", "Remove only those that match label, label!, until (format: KEY=VALUE)")
	return &command{
		name: "prune", operands: "[OPTIONS]", short: "Remove all networks of the cluster and of this node's engine that nothing is on",
		flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			if !force && !s.confirm("WARNING! This will remove all networks that no service and no container is on.\nAre you sure you want to continue?") {
				return errors.New("network prune has been cancelled")
			}
			api, err := s.connect()
			if err != nil {
				return err
			}
			report, err := api.NetworksPrune(ctx, filter.Value())
			if err != nil {
				return err
			}
			if len(report.NetworksDeleted) > 0 {
				fmt.Fprintf(s.out, "Deleted Networks:\n%s\n\n", strings.Join(report.NetworksDeleted, "\n"))
			}
			return nil
		},
	}
}

// confirm asks a question that is answered with y.
func (s *shell) confirm(question string) bool {
	fmt.Fprint(s.out, question+" [y/N] ")
	answer, _ := bufio.NewReader(s.in).ReadString('\n') // no answer is no
	fmt.Fprintln(s.out)
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

func (s *shell) networkConnect() *command {
	var (
		ip      string
		aliases []string
		f       = &flags{}
	)
	f.add(opts.NewListOptsRef(&aliases, validateKey), "list", "alias", "Name of the container on this network, repeatable")
	f.add(&ipv4{&ip}, "ip", "ip", "IPv4 address of the container")
	return &command{
		name: "connect", operands: "[OPTIONS] NETWORK CONTAINER", short: "Connect a container of this node to a network",
		flags: f, min: 2, max: 2, completes: "network",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			return api.NetworkConnect(ctx, args[0], args[1], &network.EndpointSettings{
				IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: ip}, Aliases: aliases,
			})
		},
	}
}

func (s *shell) networkDisconnect() *command {
	var (
		force bool
		f     = &flags{}
	)
	f.toggle(&force, "force,f", "Disconnect also a container that does not answer")
	return &command{
		name: "disconnect", operands: "[OPTIONS] NETWORK CONTAINER", short: "Disconnect a container of this node from a network",
		flags: f, min: 2, max: 2, completes: "network",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			return api.NetworkDisconnect(ctx, args[0], args[1], force)
		},
	}
}
