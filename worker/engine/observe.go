package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-connections/nat"
)

func observe(got container.InspectResponse) (*Container, error) {
	if got.ContainerJSONBase == nil || got.State == nil || got.Config == nil {
		return nil, fmt.Errorf("inspect container: answer without state: %w", errdefs.ErrInternal)
	}
	c := &Container{
		Summary: Summary{
			ID: got.ID, Name: strings.TrimPrefix(got.Name, "/"), Labels: got.Config.Labels,
			State: stateOf(got.State.Status),
		},
		PID: got.State.Pid, ExitCode: got.State.ExitCode, OOMKilled: got.State.OOMKilled, Err: got.State.Error,
	}
	if got.State.Health != nil && c.State == Running {
		c.Health = healthOf(got.State.Health.Status)
	}
	if got.NetworkSettings != nil {
		c.Ports = boundPorts(got.NetworkSettings.Ports)
		c.Addrs = addrsOf(got.NetworkSettings.Networks)
		c.Partial = partial(c.Labels, len(got.NetworkSettings.Networks))
	}
	return c, nil
}

// addrsOf returns the addresses on each network; a container that does not run
// has none.
func addrsOf(networks map[string]*network.EndpointSettings) map[string][]netip.Addr {
	addrs := map[string][]netip.Addr{}
	for name, ep := range networks {
		if ep == nil {
			continue
		}
		for _, text := range []string{ep.IPAddress, ep.GlobalIPv6Address} {
			if a := addrOf(text); a.IsValid() {
				addrs[name] = append(addrs[name], a)
			}
		}
	}
	return addrs
}

func summarize(c container.Summary) Summary {
	s := Summary{ID: c.ID, Labels: c.Labels, State: stateOf(c.State)}
	if len(c.Names) > 0 {
		s.Name = strings.TrimPrefix(c.Names[0], "/")
	}
	// A list tells the health only in the text that people read.
	switch {
	case s.State != Running:
	case strings.HasSuffix(c.Status, "(health: starting)"):
		s.Health = Starting
	case strings.HasSuffix(c.Status, "(unhealthy)"):
		s.Health = Unhealthy
	case strings.HasSuffix(c.Status, "(healthy)"):
		s.Health = Healthy
	}
	return s
}

func stateOf(s container.ContainerState) State {
	switch s {
	case container.StateCreated:
		return Created
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return Running
	case container.StateRemoving, container.StateDead:
		return Removing
	default:
		return Exited
	}
}

func healthOf(s container.HealthStatus) Health {
	switch s {
	case container.Starting:
		return Starting
	case container.Healthy:
		return Healthy
	case container.Unhealthy:
		return Unhealthy
	default:
		return NoHealth
	}
}

// boundPorts returns each bound port once. A dual-stack host binds it for IPv6
// too, when the engine is to choose it even to another number: what counts then
// is the one for IPv4, which is what the docker command shows first.
func boundPorts(m nat.PortMap) []swarm.PortConfig {
	var ports []swarm.PortConfig
	for port, bindings := range m {
		v4 := slices.ContainsFunc(bindings, isIPv4)
		for _, b := range bindings {
			if v4 && !isIPv4(b) {
				continue
			}
			p := swarm.PortConfig{
				Protocol: swarm.PortConfigProtocol(port.Proto()), TargetPort: uint32(port.Int()),
				PublishedPort: parsePort(b.HostPort), PublishMode: swarm.PortConfigPublishModeHost,
			}
			if p.PublishedPort != 0 && !slices.Contains(ports, p) {
				ports = append(ports, p)
			}
		}
	}
	slices.SortFunc(ports, func(a, b swarm.PortConfig) int {
		if a.TargetPort != b.TargetPort {
			return int(a.TargetPort) - int(b.TargetPort)
		}
		if a.Protocol != b.Protocol {
			return strings.Compare(string(a.Protocol), string(b.Protocol))
		}
		return int(a.PublishedPort) - int(b.PublishedPort)
	})
	return ports
}

func isIPv4(b nat.PortBinding) bool { return !strings.Contains(b.HostIP, ":") }
