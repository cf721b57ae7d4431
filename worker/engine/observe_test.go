package engine

import (
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"
)

func TestBoundPorts(t *testing.T) {
	bound := func(target, published uint32) swarm.PortConfig {
		return swarm.PortConfig{Protocol: "tcp", TargetPort: target, PublishedPort: published, PublishMode: swarm.PortConfigPublishModeHost}
	}
	for name, c := range map[string]struct {
		bindings []nat.PortBinding
		want     []swarm.PortConfig
	}{
		"both stacks":                {[]nat.PortBinding{{HostIP: "0.0.0.0", HostPort: "8080"}, {HostIP: "::", HostPort: "8080"}}, []swarm.PortConfig{bound(80, 8080)}},
		"both stacks, other numbers": {[]nat.PortBinding{{HostIP: "::", HostPort: "32781"}, {HostIP: "0.0.0.0", HostPort: "32780"}}, []swarm.PortConfig{bound(80, 32780)}},
		"IPv6 only":                  {[]nat.PortBinding{{HostIP: "::", HostPort: "32781"}}, []swarm.PortConfig{bound(80, 32781)}},
		"two of the user's":          {[]nat.PortBinding{{HostIP: "0.0.0.0", HostPort: "5006"}, {HostIP: "0.0.0.0", HostPort: "5005"}}, []swarm.PortConfig{bound(80, 5005), bound(80, 5006)}},
		"not bound":                  {nil, nil},
	} {
		if diff := cmp.Diff(c.want, boundPorts(nat.PortMap{"80/tcp": c.bindings})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
