package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"shoal/cli/format"
)

func (s *shell) nodeCommand() *command {
	return &command{
		name: "node", short: "Manage nodes",
		commands: []*command{
			s.nodeAvailability("activate", "Give nodes new tasks again", swarm.NodeAvailabilityActive),
			s.nodeRole("demote", "Make managers workers", swarm.NodeRoleWorker),
			s.nodeDrain(),
			s.nodeInspect(), s.nodeList(),
			s.nodeAvailability("pause", "Give nodes no new tasks; what runs stays", swarm.NodeAvailabilityPause),
			s.nodeRole("promote", "Make workers managers", swarm.NodeRoleManager),
			s.nodePs(), s.nodeRemove(), s.nodeUpdate(),
		},
	}
}

// nodeRef turns "self" into the ID of the node that is asked.
func nodeRef(ctx context.Context, api *client.Client, ref string) (string, error) {
	if ref != "self" {
		return ref, nil
	}
	info, err := api.Info(ctx)
	if err != nil {
		return "", err
	}
	if info.Swarm.NodeID == "" {
		if _, err := api.NodeList(ctx, swarm.NodeListOptions{}); err != nil {
			return "", err // says more than we could
		}
		return "", errors.New("node ID not found in /info")
	}
	return info.Swarm.NodeID, nil
}

func (s *shell) nodeList() *command {
	var (
		l listFlags
		f = &flags{}
	)
	l.add(f, "IDs", "id", "label", "membership", "name", "node.label", "role")
	return &command{
		name: "ls", aliases: []string{"list"}, operands: "[OPTIONS]", short: "List nodes in the cluster", flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			nodes, err := api.NodeList(ctx, swarm.NodeListOptions{Filters: l.filter.Value()})
			if err != nil {
				return err
			}
			var info system.Info
			if len(nodes) > 0 && !l.quiet {
				if info, err = api.Info(ctx); err != nil {
					return err
				}
			}
			return format.Write(s.out, format.Nodes(), l.format, l.quiet, format.NodeRows(nodes, info.Swarm.NodeID, info.Swarm.Cluster))
		},
	}
}

func (s *shell) nodePs() *command {
	var (
		l listFlags
		f = &flags{}
	)
	l.add(f, "task IDs", "desired-state", "id", "label", "name")
	f.toggle(&l.noTrunc, "no-trunc", "Do not truncate output")
	f.toggle(&l.noResolve, "no-resolve", "Do not map IDs to Names")
	return &command{
		name: "ps", operands: "[OPTIONS] [NODE...]", short: "List tasks on one or more nodes, by default the current one",
		flags: f, min: 0, max: -1, completes: "node",
		run: func(ctx context.Context, args []string) error { return s.runNodePs(ctx, &l, args) },
	}
}

func (s *shell) runNodePs(ctx context.Context, l *listFlags, refs []string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		refs = []string{"self"}
	}
	var errs []error
	var tasks []swarm.Task
	for _, ref := range refs {
		found, err := nodeTasks(ctx, api, ref, l)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tasks = append(tasks, found...)
	}
	if len(errs) == 0 || len(tasks) > 0 {
		errs = append(errs, s.printTasks(ctx, api, tasks, l))
	}
	return errors.Join(errs...)
}

func nodeTasks(ctx context.Context, api *client.Client, ref string, l *listFlags) ([]swarm.Task, error) {
	id, err := nodeRef(ctx, api, ref)
	if err != nil {
		return nil, err
	}
	node, _, err := api.NodeInspectWithRaw(ctx, id)
	if err != nil {
		return nil, err
	}
	filter := l.filter.Value().Clone()
	filter.Add("node", node.ID)
	return api.TaskList(ctx, swarm.TaskListOptions{Filters: filter})
}

func (s *shell) nodeInspect() *command {
	var (
		i inspectFlags
		f = &flags{}
	)
	i.add(f)
	return &command{
		name: "inspect", operands: "[OPTIONS] self|NODE [NODE...]", short: "Display detailed information on one or more nodes",
		flags: f, min: 1, max: -1, completes: "node",
		run: func(ctx context.Context, args []string) error {
			if err := i.check(); err != nil {
				return err
			}
			api, err := s.connect()
			if err != nil {
				return err
			}
			get := func(ref string) (any, []byte, error) {
				id, err := nodeRef(ctx, api, ref)
				if err != nil {
					return nil, nil, err
				}
				node, raw, err := api.NodeInspectWithRaw(ctx, id)
				if errdefs.IsNotFound(err) {
					err = fmt.Errorf("Error: no such node: %s", ref)
				}
				return node, raw, err
			}
			return s.inspect(&i, args, get, func(v any) {
				if node, ok := v.(swarm.Node); ok {
					format.PrettyNode(s.out, node)
				}
			})
		},
	}
}

func (s *shell) nodeRemove() *command {
	var (
		force bool
		f     = &flags{}
	)
	f.toggle(&force, "force,f", "Remove nodes although they are up or managers")
	return &command{
		name: "rm", aliases: []string{"remove"}, operands: "[OPTIONS] NODE [NODE...]", short: "Remove one or more nodes from the cluster",
		flags: f, min: 1, max: -1, completes: "node",
		run: func(ctx context.Context, args []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			var errs []error
			for _, arg := range args {
				if err := api.NodeRemove(ctx, arg, swarm.NodeRemoveOptions{Force: force}); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintln(s.out, arg)
			}
			return errors.Join(errs...)
		},
	}
}
