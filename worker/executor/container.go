package executor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-connections/nat"

	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// The labels by which a worker finds its containers again, and Swarm's, which
// other tools look for.
const (
	ClusterLabel = "shoal.cluster.id"
	TaskLabel    = "shoal.task.id"
	swarmLabels  = "com.docker.swarm."
)

// containerSpec turns an assigned task into the container that runs it. What
// the engine cannot do is an error that names the field, never left out.
func containerSpec(t assignment.Task, clusterID string, n Node, apiVersion string) (engine.Spec, error) {
	c, err := checkTask(t)
	if err != nil {
		return engine.Spec{}, err
	}
	if c, err = scopeOf(t, n).expandSpec(c); err != nil {
		return engine.Spec{}, err
	}
	if err := checkMounts(c.Mounts); err != nil {
		return engine.Spec{}, err
	}
	if err := errors.Join(checkVersion(c, apiVersion), checkRun(t.Spec.Run, apiVersion)); err != nil {
		return engine.Spec{}, err
	}
	ports := portBindings(t.Spec.HostPorts)
	config := &container.Config{
		Labels: labels(t, c, clusterID, n.ID), StopSignal: c.StopSignal, StopTimeout: stopTimeout(c),
		Tty: c.TTY, OpenStdin: c.OpenStdin, User: c.User, Hostname: c.Hostname, WorkingDir: c.Dir,
		Env: append(c.Env, resourceEnv(t.GenericResources)...), Image: imageName(c.Image),
		Healthcheck: c.Healthcheck, ExposedPorts: exposed(ports),
		Entrypoint: c.Command, Cmd: c.Args, // without a command the image's entrypoint takes the arguments
	}
	s := engine.Spec{Name: containerName(t, n.ID), Config: config, HostConfig: hostConfig(t.Spec, c, ports)}
	extend(&s, t.Spec.Run)
	return s, nil
}

// checkTask returns the container spec of a task that this worker can run.
func checkTask(t assignment.Task) (*swarm.ContainerSpec, error) {
	if t.Spec == nil {
		return nil, refused("task %s came without the spec of revision %d", t.ID, t.Revision)
	}
	spec := t.Spec.Task
	if spec.Runtime != "" && spec.Runtime != swarm.RuntimeContainer || spec.ContainerSpec == nil {
		return nil, refused("runtime %q: this node runs containers only", spec.Runtime)
	}
	c := spec.ContainerSpec
	if c.Image == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("dockerexec: image required")
	}
	for _, network := range spec.Networks {
		if predefined(network.Target) && len(spec.Networks)+len(t.Networks) > 1 {
			return nil, refused("network %s cannot be combined with others", network.Target)
		}
		if !predefined(network.Target) && len(t.Networks) == 0 {
			return nil, refused("network %s is not available on this node", network.Target)
		}
	}
	return c, nil
}

// attached is a container that is connected as a says. Names are asked of the
// cluster's resolver first: those that the user names are only asked when that
// one does not answer.
func attached(s engine.Spec, a engine.Attachment) engine.Spec {
	s.Endpoints = a.Endpoints
	if len(a.DNS) == 0 {
		return s
	}
	host := *s.HostConfig
	host.DNS = nil
	for _, addr := range a.DNS {
		host.DNS = append(host.DNS, addr.String())
	}
	host.DNS = append(host.DNS, s.HostConfig.DNS...)
	s.HostConfig = &host
	return s
}

// predefined networks exist on each engine by themselves.
func predefined(name string) bool { return name == "bridge" || name == "host" || name == "none" }

// imageName completes a name with the tag latest; ids stay as they are.
func imageName(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}

func labels(t assignment.Task, c *swarm.ContainerSpec, clusterID, nodeID string) map[string]string {
	l := maps.Clone(c.Labels)
	if l == nil {
		l = map[string]string{}
	}
	maps.Copy(l, map[string]string{
		swarmLabels + "task": "", swarmLabels + "task.id": t.ID, swarmLabels + "task.name": containerName(t, nodeID),
		swarmLabels + "node.id": nodeID, swarmLabels + "service.id": t.ServiceID, swarmLabels + "service.name": t.ServiceName,
		ClusterLabel: clusterID, TaskLabel: t.ID,
	})
	return l
}

// stopTimeout makes the grace period a property of the container, so that it
// holds for docker stop too, and after its assignment is gone.
func stopTimeout(c *swarm.ContainerSpec) *int {
	if c.StopGracePeriod == nil {
		return nil
	}
	seconds := int(*c.StopGracePeriod / time.Second)
	return &seconds
}

// resourceEnv tells the container which generic resources it was given.
func resourceEnv(claimed []swarm.GenericResource) []string {
	values := map[string][]string{}
	for _, r := range claimed {
		switch {
		case r.NamedResourceSpec != nil:
			values[r.NamedResourceSpec.Kind] = append(values[r.NamedResourceSpec.Kind], r.NamedResourceSpec.Value)
		case r.DiscreteResourceSpec != nil:
			d := r.DiscreteResourceSpec
			values[d.Kind] = append(values[d.Kind], strconv.FormatInt(d.Value, 10))
		}
	}
	var env []string
	for _, kind := range slices.Sorted(maps.Keys(values)) {
		env = append(env, "DOCKER_RESOURCE_"+strings.ToUpper(kind)+"="+strings.Join(values[kind], ","))
	}
	return env
}

func portBindings(ports []swarm.PortConfig) nat.PortMap {
	bindings := nat.PortMap{}
	for _, p := range ports {
		proto := strings.ToLower(string(p.Protocol))
		if proto == "" {
			proto = "tcp"
		}
		port := nat.Port(fmt.Sprintf("%d/%s", p.TargetPort, proto))
		var b nat.PortBinding // no port: the engine picks a free one
		if p.PublishedPort != 0 {
			b.HostPort = strconv.FormatUint(uint64(p.PublishedPort), 10)
		}
		bindings[port] = append(bindings[port], b)
	}
	return bindings
}

func exposed(bindings nat.PortMap) nat.PortSet {
	set := nat.PortSet{}
	for port := range bindings {
		set[port] = struct{}{}
	}
	return set
}
