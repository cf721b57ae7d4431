package executor

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

func node() Node {
	return Node{ID: testNode, Hostname: "host1", Platform: swarm.Platform{Architecture: "x86_64", OS: "linux"}}
}

func TestTemplates(t *testing.T) {
	task := aTask("t1", taskstate.Running)
	task.Spec.ServiceLabels = map[string]string{"tier": "front", "a.b": "dotted"}
	for text, want := range map[string]string{
		"plain {} text":                                         "plain {} text",
		"{{.Service.ID}}/{{.Service.Name}}":                     "svc/web",
		"{{.Service.Labels.tier}}":                              "front",
		`{{index .Service.Labels "a.b"}}`:                       "dotted",
		"{{.Node.ID}} {{.Node.Hostname}}":                       "node1 host1",
		"{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}": "linux/x86_64",
		"{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}":            "t1 web.1.t1 1",
		`{{join "-" .Service.Name .Task.Slot}}`:                 "web-1",
	} {
		if got, err := scopeOf(task, node()).expand(text); err != nil || got != want {
			t.Errorf("%s: %q, err %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"{{", "{{.Nope}}", "{{.Service.Labels.nope}}", "{{.Node.Labels}}", `{{env "HOME"}}`} {
		if got, err := scopeOf(task, node()).expand(text); err == nil {
			t.Errorf("%s: %q, want an error", text, got)
		}
	}
	task.Slot = 0
	if got, err := scopeOf(task, node()).expand("{{.Task.Name}} {{.Task.Slot}}"); err != nil || got != "web.node1.t1 node1" {
		t.Errorf("task without slot: %q, err %v", got, err)
	}
}

// fullTask sets every field that reaches a container.
func fullTask() assignment.Task {
	grace := 2500 * time.Millisecond
	task := with(aTask("t1", taskstate.Running), func(c *swarm.ContainerSpec) {
		*c = swarm.ContainerSpec{
			Image: "nginx", Labels: map[string]string{"a": "b", "com.docker.swarm.task.id": "forged"},
			Command: []string{"/run"}, Args: []string{"x"}, Hostname: "{{.Service.Name}}-{{.Task.Slot}}",
			Env: []string{"A={{.Node.Hostname}}", "B", "{{C}}=d"}, Dir: "/srv", User: "7", Groups: []string{"8"},
			Privileges: &swarm.Privileges{
				SELinuxContext:  &swarm.SELinuxContext{User: "u", Role: "r", Type: "t", Level: "l"},
				Seccomp:         &swarm.SeccompOpts{Mode: swarm.SeccompModeCustom, Profile: []byte("{}")},
				AppArmor:        &swarm.AppArmorOpts{Mode: swarm.AppArmorModeDisabled},
				NoNewPrivileges: true,
			},
			Init: new(true), StopSignal: "SIGINT", TTY: true, OpenStdin: true, ReadOnly: true, StopGracePeriod: &grace,
			Mounts: []mount.Mount{
				{Type: mount.TypeBind, Source: "/data/{{.Task.Slot}}", Target: "/data", ReadOnly: true},
				{Type: mount.TypeVolume, Source: "v-{{.Task.Slot}}", Target: "/v", VolumeOptions: &mount.VolumeOptions{
					NoCopy: true, Labels: map[string]string{"l": "{{.Task.ID}}"},
					DriverConfig: &mount.Driver{Name: "d", Options: map[string]string{"o": "{{.Node.ID}}"}},
				}},
			},
			Healthcheck: &container.HealthConfig{Test: []string{"CMD", "x"}, Interval: time.Second},
			Hosts:       []string{"10.0.0.1 one uno", "alone"},
			DNSConfig:   &swarm.DNSConfig{Nameservers: []string{"1.1.1.1"}, Search: []string{"s"}, Options: []string{"o"}},
			Isolation:   container.IsolationDefault, Sysctls: map[string]string{"k": "v"},
			CapabilityAdd: []string{"CAP_NET_ADMIN"}, CapabilityDrop: []string{"ALL"},
			Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}, OomScoreAdj: 5,
		}
	})
	task.GenericResources = []swarm.GenericResource{
		{NamedResourceSpec: &swarm.NamedGenericResource{Kind: "gpu", Value: "g1"}},
		{NamedResourceSpec: &swarm.NamedGenericResource{Kind: "gpu", Value: "g2"}},
		{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "ssd", Value: 3}},
	}
	task.Spec.HostPorts = []swarm.PortConfig{
		{TargetPort: 80, PublishedPort: 8080}, {TargetPort: 80, PublishedPort: 8081}, {TargetPort: 53, Protocol: "udp"},
	}
	task.Spec.Task.Resources = &swarm.ResourceRequirements{
		Limits:       &swarm.Limit{NanoCPUs: 5e8, MemoryBytes: 64 << 20, Pids: 9},
		Reservations: &swarm.Resources{MemoryBytes: 1 << 30},
	}
	task.Spec.Task.LogDriver = &swarm.Driver{Name: "none"}
	return task
}

func TestContainerSpecCarriesEveryField(t *testing.T) {
	got, err := containerSpec(fullTask(), testCluster, node(), "1.41")
	if err != nil {
		t.Fatal(err)
	}
	want := engine.Spec{
		Name: "web.1.t1",
		Config: &container.Config{
			Image: "nginx:latest", Entrypoint: []string{"/run"}, Cmd: []string{"x"}, Hostname: "web-1",
			Env: []string{"A=host1", "B", "{{C}}=d", "DOCKER_RESOURCE_GPU=g1,g2", "DOCKER_RESOURCE_SSD=3"},
			Labels: map[string]string{
				"a": "b", "com.docker.swarm.task": "", "com.docker.swarm.task.id": "t1", "com.docker.swarm.task.name": "web.1.t1",
				"com.docker.swarm.node.id": "node1", "com.docker.swarm.service.id": "svc", "com.docker.swarm.service.name": "web",
				ClusterLabel: testCluster, TaskLabel: "t1",
			},
			WorkingDir: "/srv", User: "7", Tty: true, OpenStdin: true, StopSignal: "SIGINT", StopTimeout: new(2),
			ExposedPorts: nat.PortSet{"80/tcp": {}, "53/udp": {}},
			Healthcheck:  &container.HealthConfig{Test: []string{"CMD", "x"}, Interval: time.Second},
		},
		HostConfig: &container.HostConfig{
			GroupAdd: []string{"8"}, ReadonlyRootfs: true, Init: new(true), OomScoreAdj: 5, Isolation: container.IsolationDefault,
			Sysctls: map[string]string{"k": "v"}, CapAdd: []string{"CAP_NET_ADMIN"}, CapDrop: []string{"ALL"},
			ExtraHosts: []string{"one:10.0.0.1", "uno:10.0.0.1"}, DNS: []string{"1.1.1.1"}, DNSSearch: []string{"s"}, DNSOptions: []string{"o"},
			SecurityOpt: []string{
				"label=user:u", "label=role:r", "label=level:l", "label=type:t", "seccomp={}", "apparmor=unconfined", "no-new-privileges=true",
			},
			RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
			LogConfig:     container.LogConfig{Type: "none"},
			PortBindings:  nat.PortMap{"80/tcp": {{HostPort: "8080"}, {HostPort: "8081"}}, "53/udp": {{}}},
			Mounts: []mount.Mount{
				{Type: mount.TypeBind, Source: "/data/1", Target: "/data", ReadOnly: true},
				{Type: mount.TypeVolume, Source: "v-1", Target: "/v", VolumeOptions: &mount.VolumeOptions{
					NoCopy: true, Labels: map[string]string{"l": "t1"},
					DriverConfig: &mount.Driver{Name: "d", Options: map[string]string{"o": "node1"}},
				}},
			},
			Resources: container.Resources{
				NanoCPUs: 5e8, Memory: 64 << 20, PidsLimit: new(int64(9)),
				Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("container (-want +got):\n%s", diff)
	}
}

func TestContainerSpecLeavesTheAssignmentAlone(t *testing.T) {
	task, untouched := fullTask(), fullTask()
	for range 2 {
		if _, err := containerSpec(task, testCluster, node(), "1.41"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(untouched, task); diff != "" {
		t.Errorf("assignment changed:\n%s", diff)
	}
}

func TestImageNames(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for in, want := range map[string]string{
		"nginx": "nginx:latest", "nginx:1": "nginx:1", "docker.io/library/nginx": "nginx:latest", "a.b/c": "a.b/c:latest",
		"nginx" + digest: "nginx" + digest, "nginx:1" + digest: "nginx:1" + digest, digest[1:]: digest[1:],
	} {
		if got := imageName(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestWhatCannotBeDoneIsRefused(t *testing.T) {
	amount := func(m mount.Mount) func(*swarm.ContainerSpec) {
		return func(c *swarm.ContainerSpec) { c.Mounts = []mount.Mount{m} }
	}
	for _, c := range []struct {
		want   string // in the message
		change func(*swarm.ContainerSpec)
		from   string // version that can; empty: none
	}{
		{"Healthcheck.StartInterval needs engine API 1.44 or later, this node's engine has 1.41", func(c *swarm.ContainerSpec) {
			c.Healthcheck = &container.HealthConfig{StartInterval: 1}
		}, "1.44"},
		{"CreateMountpoint needs engine API 1.42", amount(mount.Mount{Type: mount.TypeBind, Source: "/a", Target: "/b", BindOptions: &mount.BindOptions{CreateMountpoint: true}}), "1.42"},
		{"ReadOnlyNonRecursive needs engine API 1.44", amount(mount.Mount{Type: mount.TypeBind, Source: "/a", Target: "/b", BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}}), "1.44"},
		{"ReadOnlyForceRecursive needs engine API 1.44", amount(mount.Mount{Type: mount.TypeBind, Source: "/a", Target: "/b", BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}}), "1.44"},
		{"Subpath needs engine API 1.45", amount(mount.Mount{Type: mount.TypeVolume, Source: "v", Target: "/b", VolumeOptions: &mount.VolumeOptions{Subpath: "s"}}), "1.45"},
		{"TmpfsOptions.Options needs engine API 1.46", amount(mount.Mount{Type: mount.TypeTmpfs, Target: "/b", TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"exec"}}}}), "1.46"},
		{"image needs engine API 1.48", amount(mount.Mount{Type: mount.TypeImage, Source: "i", Target: "/b"}), "1.48"},
		{"must be an absolute path: data", amount(mount.Mount{Type: mount.TypeBind, Source: "data", Target: "/b"}), ""},
		{"must be an absolute path: b", amount(mount.Mount{Type: mount.TypeVolume, Source: "v", Target: "b"}), ""},
		{"must not be an absolute path: /v", amount(mount.Mount{Type: mount.TypeVolume, Source: "/v", Target: "/b"}), ""},
		{"source must be empty", amount(mount.Mount{Type: mount.TypeTmpfs, Source: "x", Target: "/b"}), ""},
		{"invalid mount type: odd", amount(mount.Mount{Type: "odd", Target: "/b"}), ""},
		{"cluster volumes", amount(mount.Mount{Type: mount.TypeCluster, Source: "x", Target: "/b"}), ""},
		{"Hostname: template", func(c *swarm.ContainerSpec) { c.Hostname = "{{.Nope}}" }, ""},
		{"image required", func(c *swarm.ContainerSpec) { c.Image = "" }, ""},
	} {
		task := with(aTask("t1", taskstate.Running), c.change)
		_, err := containerSpec(task, testCluster, node(), "1.41")
		if err == nil || !strings.Contains(err.Error(), c.want) || !errdefs.IsInvalidArgument(err) && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("want %q, got %v", c.want, err)
		}
		if c.from == "" {
			continue
		}
		if _, err := containerSpec(task, testCluster, node(), c.from); err != nil {
			t.Errorf("with API %s: %v", c.from, err)
		}
	}
}

func TestNetworksThatEveryEngineHas(t *testing.T) {
	task := aTask("t1", taskstate.Running)
	task.Spec.Task.Networks = []swarm.NetworkAttachmentConfig{{Target: "host"}}
	if got, err := containerSpec(task, testCluster, node(), "1.41"); err != nil || got.HostConfig.NetworkMode != "host" {
		t.Errorf("host network: %+v, err %v", got.HostConfig, err)
	}
	task.Spec.Task.Networks[0].Target = "overlay1"
	if _, err := containerSpec(task, testCluster, node(), "1.41"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("overlay network without an address: %v, want a refusal", err)
	}
	task.Networks = []assignment.TaskNetwork{{NetworkID: "overlay1"}}
	if got, err := containerSpec(task, testCluster, node(), "1.41"); err != nil || got.HostConfig.NetworkMode != "" {
		t.Errorf("overlay network: %+v, err %v", got.HostConfig, err)
	}
	task.Spec.Task.Networks[0].Target = "host"
	if _, err := containerSpec(task, testCluster, node(), "1.41"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("host and overlay network: %v, want a refusal", err)
	}
}

func TestResolverOfTheClusterIsFirst(t *testing.T) {
	spec, err := containerSpec(fullTask(), testCluster, node(), "1.41")
	if err != nil {
		t.Fatal(err)
	}
	a := engine.Attachment{
		Endpoints: []engine.Endpoint{{NetworkID: "n", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.5")}}},
		DNS:       []netip.Addr{netip.MustParseAddr("10.0.1.1")},
	}
	got := attached(spec, a)
	if diff := cmp.Diff([]string{"10.0.1.1", "1.1.1.1"}, got.HostConfig.DNS); diff != "" || len(got.Endpoints) != 1 {
		t.Errorf("endpoints %+v, resolvers (-want +got):\n%s", got.Endpoints, diff)
	}
	if diff := cmp.Diff([]string{"1.1.1.1"}, spec.HostConfig.DNS); diff != "" {
		t.Errorf("the spec was changed:\n%s", diff)
	}
}
