package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"shoal/cli/format"
	"shoal/internal/runspec"
)

func (s *shell) serviceList() *command {
	var (
		l listFlags
		f = &flags{}
	)
	l.add(f, "IDs", "id", "label", "mode", "name", "runtime")
	f.toggle(&l.noTrunc, "no-trunc", "Do not truncate output")
	return &command{
		name: "ls", aliases: []string{"list"}, operands: "[OPTIONS]", short: "List services", flags: f, max: 0,
		run: func(ctx context.Context, _ []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			services, err := api.ServiceList(ctx, swarm.ServiceListOptions{Filters: l.filter.Value(), Status: !l.quiet})
			if err != nil {
				return err
			}
			return format.Write(s.out, format.Services(), l.format, l.quiet, format.ServiceRows(services, !l.noTrunc))
		},
	}
}

func (s *shell) servicePs() *command {
	var (
		l listFlags
		f = &flags{}
	)
	l.add(f, "task IDs", "desired-state", "id", "label", "name", "node")
	f.toggle(&l.noTrunc, "no-trunc", "Do not truncate output")
	f.toggle(&l.noResolve, "no-resolve", "Do not map IDs to Names")
	return &command{
		name: "ps", operands: "[OPTIONS] SERVICE [SERVICE...]", short: "List the tasks of one or more services",
		flags: f, min: 1, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error { return s.runServicePs(ctx, &l, args) },
	}
}

func (s *shell) runServicePs(ctx context.Context, l *listFlags, refs []string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	ids, missing, err := serviceIDs(ctx, api, refs)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return errors.Join(missing...)
	}
	filter := l.filter.Value()
	for _, id := range ids {
		filter.Add("service", id)
	}
	if err := resolveSelf(ctx, api, filter); err != nil {
		return err
	}
	tasks, err := api.TaskList(ctx, swarm.TaskListOptions{Filters: filter})
	if err != nil {
		return err
	}
	if err := s.printTasks(ctx, api, tasks, l); err != nil {
		return err
	}
	return errors.Join(missing...)
}

// resolveSelf replaces node=self by the ID of the node that is asked.
func resolveSelf(ctx context.Context, api *client.Client, filter filters.Args) error {
	if !filter.ExactMatch("node", "self") || len(filter.Get("node")) == 0 {
		return nil
	}
	id, err := nodeRef(ctx, api, "self")
	if err != nil {
		return err
	}
	filter.Del("node", "self")
	filter.Add("node", id)
	return nil
}

// serviceIDs finds services by full ID, then name, then prefix of an ID.
func serviceIDs(ctx context.Context, api *client.Client, refs []string) (ids []string, missing []error, err error) {
	byID, byName := filters.NewArgs(), filters.NewArgs()
	for _, ref := range refs {
		byID.Add("id", ref)
		byName.Add("name", ref)
	}
	idList, err := api.ServiceList(ctx, swarm.ServiceListOptions{Filters: byID})
	if err != nil {
		return nil, nil, err
	}
	nameList, err := api.ServiceList(ctx, swarm.ServiceListOptions{Filters: byName})
	if err != nil {
		return nil, nil, err
	}
	for _, ref := range refs {
		id, err := pickService(ref, idList, nameList)
		switch {
		case err != nil:
			return nil, nil, err
		case id == "":
			missing = append(missing, errors.New("no such service: "+ref))
		default:
			ids = append(ids, id)
		}
	}
	return ids, missing, nil
}

func pickService(ref string, idList, nameList []swarm.Service) (string, error) {
	for _, s := range idList {
		if s.ID == ref {
			return s.ID, nil
		}
	}
	for _, s := range nameList {
		if s.Spec.Name == ref {
			return s.ID, nil
		}
	}
	id := ""
	for _, s := range idList {
		if !strings.HasPrefix(s.ID, ref) {
			continue
		}
		if id != "" {
			return "", errors.New("multiple services found with provided prefix: " + ref)
		}
		id = s.ID
	}
	return id, nil
}

func (s *shell) serviceInspect() *command {
	var (
		i inspectFlags
		f = &flags{}
	)
	i.add(f)
	return &command{
		name: "inspect", operands: "[OPTIONS] SERVICE [SERVICE...]", short: "Display detailed information on one or more services",
		flags: f, min: 1, max: -1, completes: "service",
		run: func(ctx context.Context, args []string) error {
			if err := i.check(); err != nil {
				return err
			}
			api, err := s.connect()
			if err != nil {
				return err
			}
			var run *runspec.Spec // of the service that was got last
			get := func(ref string) (any, []byte, error) {
				service, raw, err := api.ServiceInspectWithRaw(ctx, ref, swarm.ServiceInspectOptions{InsertDefaults: true})
				if errdefs.IsNotFound(err) {
					err = fmt.Errorf("Error: no such service: %s", ref)
				}
				if err == nil {
					run, err = runOf(raw)
				}
				return service, raw, err
			}
			network := func(id string) string {
				n, err := api.NetworkInspect(ctx, id, network.InspectOptions{Scope: "swarm"})
				if err != nil || n.Name == "" {
					return id
				}
				return n.Name
			}
			pretty := func(v any) {
				if service, ok := v.(swarm.Service); ok {
					format.PrettyService(s.out, service, time.Now(), network)
					format.PrettyRun(s.out, run)
				}
			}
			return s.inspect(&i, args, get, pretty)
		},
	}
}
