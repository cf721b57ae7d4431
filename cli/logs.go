package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

// logsFlags are those of docker service logs and docker logs.
type logsFlags struct {
	container.LogsOptions
	raw, noTrunc, noIDs, noResolve bool
}

func (l *logsFlags) flags() *flags {
	f := &flags{}
	l.Tail = "all"
	f.toggle(&l.Details, "details", "Show extra attributes of each line")
	f.toggle(&l.Follow, "follow,f", "Go on with what is said, and with tasks that come")
	f.toggle(&l.noResolve, "no-resolve", "Show IDs of nodes and tasks instead of names")
	f.toggle(&l.noIDs, "no-task-ids", "Leave the IDs of tasks out of their names")
	f.toggle(&l.noTrunc, "no-trunc", "Show whole IDs")
	f.toggle(&l.raw, "raw", "Show lines as they are, without the names of tasks")
	f.text(&l.Since, "since", "Begin at this time (format: RFC 3339, or a duration ago such as 10m)")
	f.text(&l.Tail, "tail,n", "Begin with so many of the last lines of each task").def("all")
	f.toggle(&l.Timestamps, "timestamps,t", "Show when each line was said")
	f.text(&l.Until, "until", "End at this time (format: as --since)")
	return f
}

func (s *shell) serviceLogs() *command {
	var l logsFlags
	return &command{
		name: "logs", operands: "[OPTIONS] SERVICE|TASK", short: "Show the logs of a service or task", flags: l.flags(), min: 1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error { return s.logs(ctx, &l, args[0], false) },
	}
}

func (s *shell) logsCommand() *command {
	var l logsFlags
	return &command{
		name: "logs", operands: "[OPTIONS] SERVICE|TASK|CONTAINER", short: "Show the logs of a service, task or container, wherever it runs",
		long:  "A task is named by its name, its ID, or its slot: web.1.",
		flags: l.flags(), min: 1, max: 1, completes: "service",
		run: func(ctx context.Context, args []string) error { return s.logs(ctx, &l, args[0], true) },
	}
}

// logs shows what ref says: a service first, then a task, then a container.
func (s *shell) logs(ctx context.Context, l *logsFlags, ref string, containers bool) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	l.ShowStdout, l.ShowStderr = true, true
	service, _, err := api.ServiceInspectWithRaw(ctx, ref, swarm.ServiceInspectOptions{})
	if err == nil {
		return s.swarmLogs(ctx, api, l, hasTTY(service.Spec.TaskTemplate), func(o container.LogsOptions) (io.ReadCloser, error) {
			return api.ServiceLogs(ctx, service.ID, o)
		})
	}
	if !errdefs.IsNotFound(err) {
		return err
	}
	task, _, err := api.TaskInspectWithRaw(ctx, ref)
	if err == nil {
		return s.swarmLogs(ctx, api, l, hasTTY(task.Spec), func(o container.LogsOptions) (io.ReadCloser, error) { return api.TaskLogs(ctx, task.ID, o) })
	}
	if !errdefs.IsNotFound(err) {
		return err
	}
	if containers {
		return s.containerLogs(ctx, api, l, ref)
	}
	return fmt.Errorf("no such task or service: %s", ref)
}

func hasTTY(t swarm.TaskSpec) bool { return t.ContainerSpec != nil && t.ContainerSpec.TTY }

func (s *shell) swarmLogs(ctx context.Context, api *client.Client, l *logsFlags, tty bool, open func(container.LogsOptions) (io.ReadCloser, error)) error {
	if tty && !l.raw {
		return errors.New("its tasks have terminals, whose lines do not tell where they are from: add --raw")
	}
	o := l.LogsOptions
	o.Details = !l.raw || l.Details // they say whose line it is
	stream, err := open(o)
	if err != nil {
		return err
	}
	defer stream.Close()
	switch {
	case tty:
		_, err = io.Copy(s.out, stream)
	case l.raw:
		_, err = stdcopy.StdCopy(s.out, s.err, stream)
	default:
		names := &taskNames{ctx: ctx, api: api, flags: l}
		_, err = stdcopy.StdCopy(&namedLines{s.out, names, l}, &namedLines{s.err, names, l}, stream)
	}
	return err
}

func (s *shell) containerLogs(ctx context.Context, api *client.Client, l *logsFlags, ref string) error {
	c, err := api.ContainerInspect(ctx, ref)
	if err != nil {
		return err
	}
	stream, err := api.ContainerLogs(ctx, ref, l.LogsOptions)
	if err != nil {
		return err
	}
	defer stream.Close()
	if c.Config != nil && c.Config.Tty {
		_, err = io.Copy(s.out, stream)
	} else {
		_, err = stdcopy.StdCopy(s.out, s.err, stream)
	}
	return err
}
