//go:build docker

package compat

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"shoal/integration/lab"
)

// sdk is a program that uses Docker's client for Go.
type sdk struct {
	t     *testing.T
	ctx   context.Context
	api   *client.Client // of h1, a manager
	third *client.Client // of h3, which is not in the cluster
	d     *side
	notes []note
}

func goProgram(t *testing.T, d *side) ([]note, error) {
	t.Helper()
	k := &sdk{t: t, ctx: t.Context(), d: d}
	for i, api := range map[int]**client.Client{0: &k.api, 2: &k.third} {
		made, err := client.NewClientWithOpts(client.WithHost("unix://"+d.sockets[i]), client.WithAPIVersionNegotiation())
		if err != nil {
			return nil, err
		}
		defer made.Close()
		*api = made
	}
	begin := time.Now()
	for _, part := range []func() error{k.system, k.containers, k.secrets, k.configs, k.networks, k.services, k.wrongServices, k.jobs, k.nodes, k.swarm} {
		if err := part(); err != nil {
			return k.notes, err
		}
	}
	return k.notes, k.events(begin)
}

// note writes down the answer to a call. An error counts by its kind and its
// text.
func (k *sdk) note(name string, result any, err error, how ...string) {
	k.t.Helper()
	n := newNote(k.t, name, how)
	if err != nil {
		n.err = kindOf(err) + ": " + err.Error()
	} else if text, ok := result.(string); ok {
		n.out = text
	} else if result != nil {
		b, err := json.Marshal(result)
		n.out, n.failure = string(b), err
	}
	k.notes = append(k.notes, n)
}

// await waits for a condition that both clusters come to.
func (k *sdk) await(what string, cond func() (string, bool)) error {
	return lab.WaitFor(k.ctx, patience, k.d.name+": "+what, cond)
}

// kindOf is what programs ask of an error.
func kindOf(err error) string {
	var kinds []string
	for kind, is := range map[string]func(error) bool{
		"NotFound": errdefs.IsNotFound, "Conflict": errdefs.IsConflict, "InvalidArgument": errdefs.IsInvalidArgument,
		"Unavailable": errdefs.IsUnavailable, "PermissionDenied": errdefs.IsPermissionDenied, "Internal": errdefs.IsInternal,
		"NotImplemented": errdefs.IsNotImplemented, "FailedPrecondition": errdefs.IsFailedPrecondition,
		"Unauthorized": errdefs.IsUnauthorized, "Unknown": errdefs.IsUnknown, "NotModified": errdefs.IsNotModified,
	} {
		if is(err) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return strings.Join(kinds, "+")
}

func by(pairs ...string) filters.Args {
	f := filters.NewArgs()
	for i := 0; i+1 < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return f
}

func (k *sdk) system() error {
	ping, err := k.api.Ping(k.ctx)
	k.note("ping", []string{ping.APIVersion, ping.OSType, string(ping.BuilderVersion)}, err)
	ping, err = k.third.Ping(k.ctx)
	k.note("ping outside", []string{ping.APIVersion, ping.OSType, string(ping.BuilderVersion)}, err)
	info, err := k.api.Info(k.ctx)
	info.Swarm.RemoteManagers = nil // which port a manager has is in the table
	k.note("info", info.Swarm, err)
	info, err = k.third.Info(k.ctx)
	k.note("info outside", info.Swarm, err)
	version, err := k.api.ServerVersion(k.ctx)
	k.note("version", []string{version.Version, version.APIVersion, version.Os, version.Arch}, err)
	_, err = k.third.ServiceList(k.ctx, swarm.ServiceListOptions{})
	k.note("services outside", nil, err)
	_, err = k.third.NodeList(k.ctx, swarm.NodeListOptions{})
	k.note("nodes outside", nil, err)
	_, err = k.third.SecretCreate(k.ctx, swarm.SecretSpec{Annotations: swarm.Annotations{Name: "s"}, Data: []byte("x")})
	k.note("secret outside", nil, err)
	_, err = k.third.SwarmInspect(k.ctx)
	k.note("swarm outside", nil, err)
	k.note("leave outside", nil, k.third.SwarmLeave(k.ctx, true))
	return nil
}

// tasks are those of a service, in a fixed order.
func (k *sdk) tasks(service string, more ...string) ([]swarm.Task, error) {
	tasks, err := k.api.TaskList(k.ctx, swarm.TaskListOptions{Filters: by(append([]string{"service", service}, more...)...)})
	slices.SortFunc(tasks, func(a, b swarm.Task) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.DesiredState, b.DesiredState), b.CreatedAt.Compare(a.CreatedAt))
	})
	for i := range tasks { // where a task runs is the scheduler's, and so its address
		tasks[i].NodeID = "ANY"
		for j := range tasks[i].NetworksAttachments {
			tasks[i].NetworksAttachments[j].Addresses = nil
		}
	}
	return tasks, err
}

// awaitRunning waits until n tasks of a service run, and no other.
func (k *sdk) awaitRunning(service string, n int, also func(swarm.Task) bool) error {
	return k.await(fmt.Sprintf("%d tasks of %s", n, service), func() (string, bool) {
		tasks, err := k.tasks(service)
		var saw []string
		running, others := 0, 0
		for _, task := range tasks {
			saw = append(saw, fmt.Sprint(task.Slot, task.DesiredState, task.Status.State, task.Status.Err))
			switch {
			case task.DesiredState == swarm.TaskStateRunning && task.Status.State == swarm.TaskStateRunning && (also == nil || also(task)):
				running++
			case task.DesiredState == swarm.TaskStateRunning || task.Status.State == swarm.TaskStateRunning:
				others++
			}
		}
		return fmt.Sprint(saw, err), err == nil && running == n && others == 0
	})
}

// lines demultiplexes a log: each line with its stream in front.
func lines(r io.ReadCloser, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer r.Close()
	var stdout, stderr bytes.Buffer
	_, err = stdcopy.StdCopy(&stdout, &stderr, r)
	return fmt.Sprintf("stdout %s\nstderr %s", stdout.String(), stderr.String()), err
}

func (k *sdk) containers() error {
	config := &container.Config{Image: "web:1", Cmd: []string{"/bin/echo", "one", "two"}, Labels: map[string]string{"a": "b"}}
	made, err := k.api.ContainerCreate(k.ctx, config, nil, nil, nil, "plain")
	k.note("container create", made, err)
	_, err = k.api.ContainerCreate(k.ctx, config, nil, nil, nil, "plain")
	k.note("container create again", nil, err)
	k.note("container start", nil, k.api.ContainerStart(k.ctx, "plain", container.StartOptions{}))
	done, failed := k.api.ContainerWait(k.ctx, "plain", container.WaitConditionNotRunning)
	select {
	case end := <-done:
		k.note("container wait", end, nil)
	case err := <-failed:
		k.note("container wait", nil, err)
	}
	said, err := lines(k.api.ContainerLogs(k.ctx, "plain", container.LogsOptions{ShowStdout: true, ShowStderr: true}))
	k.note("container logs", said, err)
	list, err := k.api.ContainerList(k.ctx, container.ListOptions{All: true, Filters: by("label", "a=b")})
	k.note("container list", list, err, "shape")
	k.note("container remove", nil, k.api.ContainerRemove(k.ctx, "plain", container.RemoveOptions{}))
	k.note("container remove again", nil, k.api.ContainerRemove(k.ctx, "plain", container.RemoveOptions{}))
	_, err = k.api.ContainerInspect(k.ctx, "plain")
	k.note("container inspect", nil, err)
	_, err = lines(k.api.ContainerLogs(k.ctx, "plain", container.LogsOptions{ShowStdout: true}))
	k.note("container logs of none", nil, err)
	return nil
}

func (k *sdk) events(begin time.Time) error {
	ctx, cancel := context.WithTimeout(k.ctx, patience)
	defer cancel()
	messages, failed := k.api.Events(ctx, events.ListOptions{
		Since: seconds(begin), Until: seconds(time.Now()), Filters: by("type", "service", "type", "secret", "type", "config"),
	})
	var got []string
	for {
		select {
		case m := <-messages:
			if name := m.Actor.Attributes["name"]; !strings.Contains(name, "_") { // not one by chance
				got = append(got, fmt.Sprintln(m.Type, m.Action, name, m.Scope))
			}
		case err := <-failed:
			slices.Sort(got) // and how often is a matter of time
			k.note("events", strings.Join(slices.Compact(got), ""), nil)
			k.note("events end", nil, err)
			return nil
		}
	}
}

func seconds(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
