package engine

import (
	"testing"

	plugintypes "github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"
)

func TestDescribe(t *testing.T) {
	gpu := swarm.GenericResource{NamedResourceSpec: &swarm.NamedGenericResource{Kind: "gpu", Value: "g1"}}
	got := describe(system.Info{
		Name: "host1", Architecture: "x86_64", OSType: "linux", NCPU: 4, MemTotal: 8 << 30, ServerVersion: "20.10",
		Labels: []string{"disk=ssd", "bare", "a=b=c"}, GenericResources: []swarm.GenericResource{gpu},
		Plugins: system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "overlay"}, Log: []string{"journald"}},
	}, plugintypes.PluginsListResponse{
		{Name: "nfs:1", Enabled: true, Config: plugintypes.PluginConfig{Interface: plugintypes.PluginConfigInterface{
			Types: []plugintypes.PluginInterfaceType{{Prefix: "docker", Capability: "volumedriver"}},
		}}},
		{Name: "off:1", Config: plugintypes.PluginConfig{Interface: plugintypes.PluginConfigInterface{
			Types: []plugintypes.PluginInterfaceType{{Prefix: "docker", Capability: "logdriver"}},
		}}},
	})
	want := swarm.NodeDescription{
		Hostname: "host1", Platform: swarm.Platform{Architecture: "x86_64", OS: "linux"},
		Resources: swarm.Resources{NanoCPUs: 4e9, MemoryBytes: 8 << 30, GenericResources: []swarm.GenericResource{gpu}},
		Engine: swarm.EngineDescription{
			EngineVersion: "20.10", Labels: map[string]string{"disk": "ssd", "a": "b=c"},
			Plugins: []swarm.PluginDescription{
				{Type: "Log", Name: "journald"},
				{Type: "Network", Name: "bridge"},
				{Type: "Network", Name: "overlay"},
				{Type: "Volume", Name: "local"},
				{Type: "Volume", Name: "nfs:1"},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
}

func TestBoundPortsAreNamedOnce(t *testing.T) {
	got := boundPorts(nat.PortMap{
		"80/tcp": {{HostIP: "0.0.0.0", HostPort: "8080"}, {HostIP: "::", HostPort: "8080"}}, "53/udp": {{HostPort: "5353"}}, "22/tcp": nil,
	})
	want := []swarm.PortConfig{
		{Protocol: "udp", TargetPort: 53, PublishedPort: 5353, PublishMode: "host"},
		{Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "host"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

func TestSummaryTellsStateAndHealth(t *testing.T) {
	for _, c := range []struct {
		state, status string
		want          State
		health        Health
	}{
		{"running", "Up 2 minutes", Running, NoHealth},
		{"running", "Up 2 minutes (healthy)", Running, Healthy},
		{"running", "Up 2 minutes (unhealthy)", Running, Unhealthy},
		{"running", "Up 1 second (health: starting)", Running, Starting},
		{"paused", "Up 2 minutes (Paused)", Running, NoHealth},
		{"exited", "Exited (0) 2 minutes ago", Exited, NoHealth},
		{"created", "Created", Created, NoHealth},
		{"dead", "Dead", Removing, NoHealth},
		{"removing", "Removal In Progress", Removing, NoHealth},
	} {
		got := summarize(container.Summary{State: c.state, Status: c.status, Names: []string{"/a"}})
		if got.State != c.want || got.Health != c.health || got.Name != "a" {
			t.Errorf("%s %q: %+v", c.state, c.status, got)
		}
	}
}
