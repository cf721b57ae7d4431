package api_test

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// badCluster is what bad input meets: two managers of three reachable, so that
// none can be demoted, and a worker.
func badCluster(t *testing.T) *harness {
	cluster := &state.Cluster{ClusterInfo: swarm.ClusterInfo{ID: "c1", Spec: defaultSwarmSpec()}}
	web, webRev := statetest.Service("web", 1)
	agent, agentRev := statetest.Service("agent", 0, statetest.Global)
	web2, web2Rev := statetest.Service("wec", 1)
	h := newHarness(t, cluster, web, webRev, agent, agentRev, web2, web2Rev,
		statetest.Node("m1", statetest.Manager), statetest.Node("m2", statetest.Manager), statetest.Node("m3", statetest.Manager, statetest.Down),
		statetest.Node("w1"), statetest.Node("w2"), statetest.Task("t1", "web", 1, "w1"), statetest.Task("t2", "web", 1, ""))
	h.peers = []api.Peer{{NodeID: "m1", Leader: true, Reachable: true}, {NodeID: "m2", Reachable: true}, {NodeID: "m3"}}
	return h
}

func defaultSwarmSpec() swarm.Spec {
	return swarm.Spec{
		Annotations:   swarm.Annotations{Name: "default", Labels: map[string]string{}},
		Orchestration: swarm.OrchestrationConfig{TaskHistoryRetentionLimit: new(int64(5))},
		Raft:          swarm.RaftConfig{SnapshotInterval: 10000, KeepOldSnapshots: new(uint64(0)), LogEntriesForSlowFollowers: 500, ElectionTick: 10, HeartbeatTick: 1},
		Dispatcher:    swarm.DispatcherConfig{HeartbeatPeriod: 5 * time.Second},
		CAConfig:      swarm.CAConfig{NodeCertExpiry: 90 * 24 * time.Hour},
	}
}

// badSpec is one thing that is wrong with a service's spec.
type badSpec struct {
	name    string
	change  func(*swarm.ServiceSpec)
	status  int
	message string
}

func ctr(change func(*swarm.ContainerSpec)) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { change(s.TaskTemplate.ContainerSpec) }
}

func mnt(m mount.Mount) func(*swarm.ServiceSpec) {
	return ctr(func(c *swarm.ContainerSpec) { c.Mounts = []mount.Mount{m} })
}

func env(kv string) func(*swarm.ServiceSpec) {
	return ctr(func(c *swarm.ContainerSpec) { c.Env = []string{kv} })
}

func port(p swarm.PortConfig) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{p}} }
}

func health(h container.HealthConfig) func(*swarm.ServiceSpec) {
	return ctr(func(c *swarm.ContainerSpec) { c.Healthcheck = &h })
}

func limits(l swarm.Limit) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &l} }
}

func reserve(r swarm.Resources) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &r}
	}
}

func discrete(kind string, value int64) swarm.GenericResource {
	return swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: kind, Value: value}}
}

func restart(p swarm.RestartPolicy) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.RestartPolicy = &p }
}

func update(u swarm.UpdateConfig) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.UpdateConfig = &u }
}

func rollback(u swarm.UpdateConfig) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.RollbackConfig = &u }
}

func placement(p swarm.Placement) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.Placement = &p }
}

func spread(descriptor string) func(*swarm.ServiceSpec) {
	return placement(swarm.Placement{Preferences: []swarm.PlacementPreference{{Spread: &swarm.SpreadOver{SpreadDescriptor: descriptor}}}})
}

func constraint(text string) func(*swarm.ServiceSpec) {
	return placement(swarm.Placement{Constraints: []string{"node.role==worker", text}})
}

func privileges(p swarm.Privileges) func(*swarm.ServiceSpec) {
	return ctr(func(c *swarm.ContainerSpec) { c.Privileges = &p })
}

func networks(n ...swarm.NetworkAttachmentConfig) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.Networks = n }
}

func badSpecs() []badSpec {
	const rpcInvalid = "rpc error: code = InvalidArgument desc = "
	host := swarm.PortConfigPublishModeHost
	return []badSpec{
		{"name with a dot", func(s *swarm.ServiceSpec) { s.Name = "a.b" }, 400, rpcInvalid + "name must be valid as a DNS name component"},
		{"name with a blank", func(s *swarm.ServiceSpec) { s.Name = "a b" }, 400, "name must be valid as a DNS name component"},
		{"name begins with dash", func(s *swarm.ServiceSpec) { s.Name = "-a" }, 400, "name must be valid as a DNS name component"},
		{"name ends with underscore", func(s *swarm.ServiceSpec) { s.Name = "a_" }, 400, "name must be valid as a DNS name component"},
		{"name not ASCII", func(s *swarm.ServiceSpec) { s.Name = "grüß" }, 400, "name must be valid as a DNS name component"},
		{"name too long", func(s *swarm.ServiceSpec) { s.Name = strings.Repeat("a", 64) }, 400, "name must be 63 characters or fewer"},
		{"label without key", func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"": "x"} }, 400, "Labels: a label needs a key"},
		{"container label without key", ctr(func(c *swarm.ContainerSpec) { c.Labels = map[string]string{" ": "x"} }), 400, "ContainerSpec.Labels: a label needs a key"},
		{"no container spec", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec = nil }, 400, "mismatched Runtime and *Spec fields"},
		{"two task specs", func(s *swarm.ServiceSpec) { s.TaskTemplate.PluginSpec = &swarm.RuntimeSpec{} }, 400, "mismatched Runtime and *Spec fields"},
		{"unknown runtime", func(s *swarm.ServiceSpec) { s.TaskTemplate.Runtime = "vm" }, 400, "unsupported runtime"},
		{"attachment runtime", func(s *swarm.ServiceSpec) { s.TaskTemplate.Runtime = swarm.RuntimeNetworkAttachment }, 400, "unsupported runtime"},
		{"attachment spec", func(s *swarm.ServiceSpec) { s.TaskTemplate.NetworkAttachmentSpec = &swarm.NetworkAttachmentSpec{} }, 400, "unsupported runtime"},
		{"plugin", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Runtime, s.TaskTemplate.PluginSpec, s.TaskTemplate.ContainerSpec = swarm.RuntimePlugin, &swarm.RuntimeSpec{}, nil
		}, 501, "TaskTemplate.PluginSpec: not supported"},
		{"two modes", func(s *swarm.ServiceSpec) { s.Mode.Global = &swarm.GlobalService{} }, 400, "must specify only one service mode"},
		{"too many replicas", func(s *swarm.ServiceSpec) { *s.Mode.Replicated.Replicas = math.MaxUint64 }, 400, "Number of replicas must be non-negative"},
		{"replicated job", func(s *swarm.ServiceSpec) { s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{}} }, 501, "Mode.ReplicatedJob: not supported"},
		{"global job", func(s *swarm.ServiceSpec) { s.Mode = swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}} }, 501, "Mode.GlobalJob: not supported"},

		{"no image", ctr(func(c *swarm.ContainerSpec) { c.Image = "" }), 400, rpcInvalid + "ContainerSpec: image reference must be provided"},
		{"image with blanks", ctr(func(c *swarm.ContainerSpec) { c.Image = "we b" }), 400, `ContainerSpec: "we b" is not a valid repository/tag`},
		{"image in capitals", ctr(func(c *swarm.ContainerSpec) { c.Image = "WEB:1" }), 400, "is not a valid repository/tag"},
		{"image with a short digest", ctr(func(c *swarm.ContainerSpec) { c.Image = "web@sha256:12" }), 400, "is not a valid repository/tag"},
		{"image with an empty tag", ctr(func(c *swarm.ContainerSpec) { c.Image = "web:" }), 400, "is not a valid repository/tag"},
		{"env without name", env("=x"), 400, `invalid environment variable: "=x" (Env[0])`},
		{"empty env", env(""), 400, "invalid environment variable"},
		{"env with zero byte", env("A=\x00"), 400, "invalid environment variable"},
		{"command with zero byte", ctr(func(c *swarm.ContainerSpec) { c.Command = []string{"a\x00"} }), 400, "cannot hold a zero byte"},
		{"relative dir", ctr(func(c *swarm.ContainerSpec) { c.Dir = "work" }), 400, "the working directory 'work' is invalid, it needs to be an absolute path"},
		{"stop signal", ctr(func(c *swarm.ContainerSpec) { c.StopSignal = "SIGFOO" }), 400, "invalid signal: SIGFOO"},
		{"stop signal number", ctr(func(c *swarm.ContainerSpec) { c.StopSignal = "65" }), 400, "invalid signal: 65"},
		{"real time signal", ctr(func(c *swarm.ContainerSpec) { c.StopSignal = "RTMIN+x" }), 400, "invalid signal: RTMIN+x"},
		{"negative grace period", ctr(func(c *swarm.ContainerSpec) { c.StopGracePeriod = new(-time.Second) }), 400, "StopGracePeriod cannot be negative"},
		{"isolation", ctr(func(c *swarm.ContainerSpec) { c.Isolation = "hyperv" }), 400, `invalid Isolation: "hyperv"`},
		{"empty group", ctr(func(c *swarm.ContainerSpec) { c.Groups = []string{""} }), 400, "a group in Groups is empty"},
		{"hostname", ctr(func(c *swarm.ContainerSpec) { c.Hostname = "a b" }), 400, `invalid Hostname "a b"`},
		{"long hostname", ctr(func(c *swarm.ContainerSpec) { c.Hostname = strings.Repeat("h", 65) }), 400, "invalid Hostname"},
		{"host without name", ctr(func(c *swarm.ContainerSpec) { c.Hosts = []string{"1.2.3.4"} }), 400, `invalid Hosts[0] "1.2.3.4", expected`},
		{"host in docker order", ctr(func(c *swarm.ContainerSpec) { c.Hosts = []string{"1.1.1.1 a", "name 1.2.3.4"} }), 400, `invalid Hosts[1] "name 1.2.3.4"`},
		{"name server", ctr(func(c *swarm.ContainerSpec) { c.DNSConfig = &swarm.DNSConfig{Nameservers: []string{"dns"}} }), 400, "DNSConfig.Nameservers[0]: dns is not an ip address"},
		{"empty search domain", ctr(func(c *swarm.ContainerSpec) { c.DNSConfig = &swarm.DNSConfig{Search: []string{""}} }), 400, "DNSConfig.Search is empty"},
		{"sysctl", ctr(func(c *swarm.ContainerSpec) { c.Sysctls = map[string]string{"": "1"} }), 400, "invalid Sysctls key"},
		{"capability to add", ctr(func(c *swarm.ContainerSpec) { c.CapabilityAdd = []string{"CAP_FLY"} }), 400, `invalid CapabilityAdd: unknown capability: "CAP_FLY"`},
		{"capability to drop", ctr(func(c *swarm.ContainerSpec) { c.CapabilityDrop = []string{""} }), 400, "invalid CapabilityDrop"},
		{"ulimit name", ctr(func(c *swarm.ContainerSpec) { c.Ulimits = []*container.Ulimit{{Name: "joy", Soft: 1, Hard: 1}} }), 400, "invalid Ulimits[0]: invalid ulimit type: joy"},
		{"ulimit order", ctr(func(c *swarm.ContainerSpec) { c.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}} }), 400, "invalid Ulimits[0]"},
		{"ulimit twice", ctr(func(c *swarm.ContainerSpec) {
			c.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 1}, {Name: "nofile", Soft: 1, Hard: 1}}
		}), 400, "nofile is given twice"},
		{"ulimit null", ctr(func(c *swarm.ContainerSpec) { c.Ulimits = []*container.Ulimit{nil} }), 400, "Ulimits[0] is null"},
		{"oom score", ctr(func(c *swarm.ContainerSpec) { c.OomScoreAdj = 1001 }), 400, "invalid OomScoreAdj 1001"},
		{"secrets", ctr(func(c *swarm.ContainerSpec) { c.Secrets = []*swarm.SecretReference{{}} }), 501, "ContainerSpec.Secrets: not supported"},
		{"configs", ctr(func(c *swarm.ContainerSpec) { c.Configs = []*swarm.ConfigReference{{}} }), 501, "ContainerSpec.Configs: not supported"},
		{"credential spec", privileges(swarm.Privileges{CredentialSpec: &swarm.CredentialSpec{File: "x"}}), 501, "CredentialSpec: not supported"},
		{"seccomp mode", privileges(swarm.Privileges{Seccomp: &swarm.SeccompOpts{Mode: "strict"}}), 400, `invalid Privileges.Seccomp.Mode "strict"`},
		{"seccomp without profile", privileges(swarm.Privileges{Seccomp: &swarm.SeccompOpts{Mode: "custom"}}), 400, "Seccomp.Profile must be valid JSON"},
		{"seccomp profile unused", privileges(swarm.Privileges{Seccomp: &swarm.SeccompOpts{Mode: "default", Profile: []byte("{}")}}), 400, "Seccomp.Profile needs mode custom"},
		{"apparmor mode", privileges(swarm.Privileges{AppArmor: &swarm.AppArmorOpts{Mode: "custom"}}), 400, `invalid Privileges.AppArmor.Mode "custom"`},

		{"health type", health(container.HealthConfig{Test: []string{"RUN", "x"}}), 400, `unknown type "RUN" in Test of HealthConfig`},
		{"health interval", health(container.HealthConfig{Interval: 1}), 400, "Interval in HealthConfig cannot be less than 1ms"},
		{"health timeout", health(container.HealthConfig{Timeout: -time.Second}), 400, "Timeout in HealthConfig cannot be less than 1ms"},
		{"health start period", health(container.HealthConfig{StartPeriod: 10}), 400, "StartPeriod in HealthConfig cannot be less than 1ms"},
		{"health start interval", health(container.HealthConfig{StartInterval: 10}), 400, "StartInterval in HealthConfig cannot be less than 1ms"},
		{"health retries", health(container.HealthConfig{Retries: -1}), 400, "Retries in HealthConfig cannot be negative"},

		{"hostname template", ctr(func(c *swarm.ContainerSpec) { c.Hostname = "{{.Node.Nope}}" }), 400, "expanding hostname failed"},
		{"env template syntax", env("A={{.Node"), 400, "expanding env failed"},
		{"env template field", env("A={{.Node.Labels.x}}"), 400, "expanding env failed"},
		{"env template label", env("A={{.Service.Labels.nope}}"), 400, "expanding env failed"},
		{"env template function", env("A={{env \"B\"}}"), 400, "expanding env failed"},
		{"env template defines", env(`A={{define "x"}}{{template "x"}}{{end}}{{template "x"}}`), 400, "a template cannot define others"},
		{"env template recursion", env(`A={{template "expansion"}}`), 400, "is not allowed"},
		{"env template loop", env(`A={{if true}}{{range .Service.Name}}x{{end}}{{end}}`), 400, "is not allowed"},
		{"env template width", env(`A={{printf "%999999d" 1}}`), 400, "width in format"},
		{"env template doubling", env(`A={{printf "%999d" 1 ` + strings.Repeat(`| printf "%[1]s%[1]s" `, 20) + `}}`), 400, "the result is longer than 65536 bytes"},
		{"env template too long", env(`A={{.Node.ID}}` + strings.Repeat("x", 16<<10)), 400, "the template is longer than 16384 bytes"},
		{"mount template", mnt(mount.Mount{Type: mount.TypeVolume, Source: "{{.Nope}}", Target: "/a"}), 400, "expanding mounts failed"},
		{"volume label template", mnt(mount.Mount{Type: mount.TypeVolume, Source: "aa", Target: "/a", VolumeOptions: &mount.VolumeOptions{Labels: map[string]string{"a": "{{.X}}"}}}), 400, "expanding mounts failed"},

		{"mount type", mnt(mount.Mount{Type: "nfs", Target: "/a"}), 400, `invalid MountType: "nfs"`},
		{"image mount", mnt(mount.Mount{Type: mount.TypeImage, Source: "web:1", Target: "/a"}), 400, `invalid MountType: "image"`},
		{"no mount type", mnt(mount.Mount{Target: "/a"}), 400, `invalid MountType: ""`},
		{"cluster mount", mnt(mount.Mount{Type: mount.TypeCluster, Source: "v", Target: "/a"}), 501, "Mounts[0].Type cluster: not supported"},
		{"npipe mount", mnt(mount.Mount{Type: mount.TypeNamedPipe, Source: "v", Target: "/a"}), 501, "Mounts[0].Type npipe: not supported"},
		{"mount without target", mnt(mount.Mount{Type: mount.TypeVolume, Source: "vv"}), 400, "field Target must not be empty"},
		{"relative target", mnt(mount.Mount{Type: mount.TypeVolume, Source: "vv", Target: "a"}), 400, "invalid mount path: 'a' mount path must be absolute"},
		{"root target", mnt(mount.Mount{Type: mount.TypeVolume, Source: "vv", Target: "/a/.."}), 400, "destination can't be '/'"},
		{"same target twice", ctr(func(c *swarm.ContainerSpec) {
			c.Mounts = []mount.Mount{{Type: mount.TypeTmpfs, Target: "/a"}, {Type: mount.TypeTmpfs, Target: "/a/"}}
		}), 400, "ContainerSpec: duplicate mount point: /a/"},
		{"bind without source", mnt(mount.Mount{Type: mount.TypeBind, Target: "/a"}), 400, "field Source must not be empty"},
		{"bind of relative source", mnt(mount.Mount{Type: mount.TypeBind, Source: "x", Target: "/a"}), 400, "invalid mount path: 'x' mount path must be absolute"},
		{"propagation", mnt(mount.Mount{Type: mount.TypeBind, Source: "/x", Target: "/a", BindOptions: &mount.BindOptions{Propagation: "up"}}), 400, `invalid MountPropagation: "up"`},
		{"consistency", mnt(mount.Mount{Type: mount.TypeBind, Source: "/x", Target: "/a", Consistency: "maybe"}), 400, `invalid Consistency: "maybe"`},
		{"volume name", mnt(mount.Mount{Type: mount.TypeVolume, Source: "/x", Target: "/a"}), 400, "includes invalid characters for a local volume name"},
		{"anonymous read-only volume", mnt(mount.Mount{Type: mount.TypeVolume, Target: "/a", ReadOnly: true}), 400, "must not set ReadOnly mode when using anonymous volumes"},
		{"subpath of anonymous volume", mnt(mount.Mount{Type: mount.TypeVolume, Target: "/a", VolumeOptions: &mount.VolumeOptions{Subpath: "x"}}), 400, "must not set Subpath when using anonymous volumes"},
		{"subpath upwards", mnt(mount.Mount{Type: mount.TypeVolume, Source: "vv", Target: "/a", VolumeOptions: &mount.VolumeOptions{Subpath: "../x"}}), 400, "subpath must be a relative path within the volume"},
		{"bind options of a volume", mnt(mount.Mount{Type: mount.TypeVolume, Source: "vv", Target: "/a", BindOptions: &mount.BindOptions{}}), 400, "field BindOptions must not be specified"},
		{"volume options of a bind", mnt(mount.Mount{Type: mount.TypeBind, Source: "/v", Target: "/a", VolumeOptions: &mount.VolumeOptions{}}), 400, "field VolumeOptions must not be specified"},
		{"tmpfs options of a bind", mnt(mount.Mount{Type: mount.TypeBind, Source: "/v", Target: "/a", TmpfsOptions: &mount.TmpfsOptions{}}), 400, "field TmpfsOptions must not be specified"},
		{"tmpfs with source", mnt(mount.Mount{Type: mount.TypeTmpfs, Source: "x", Target: "/a"}), 400, "field Source must not be specified"},
		{"tmpfs size", mnt(mount.Mount{Type: mount.TypeTmpfs, Target: "/a", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: -1}}), 400, "invalid SizeBytes -1"},
		{"tmpfs mode", mnt(mount.Mount{Type: mount.TypeTmpfs, Target: "/a", TmpfsOptions: &mount.TmpfsOptions{Mode: 0o10000}}), 400, "invalid Mode 10000"},
		{"tmpfs option", mnt(mount.Mount{Type: mount.TypeTmpfs, Target: "/a", TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"a", "b", "c"}}}}), 400, "invalid tmpfs option"},

		{"cpu limit", limits(swarm.Limit{NanoCPUs: 999999}), 400, "invalid cpu value 0.000999999: Must be at least 0.001 (Resources.Limits.NanoCPUs)"},
		{"negative cpu", limits(swarm.Limit{NanoCPUs: -1}), 400, "invalid cpu value"},
		{"memory limit", limits(swarm.Limit{MemoryBytes: 4<<20 - 1}), 400, "invalid memory value 4194303: Must be at least 4MiB"},
		{"pids limit", limits(swarm.Limit{Pids: -1}), 400, "invalid pids value -1"},
		{"cpu reservation", reserve(swarm.Resources{NanoCPUs: 1}), 400, "Resources.Reservations.NanoCPUs"},
		{"memory reservation", reserve(swarm.Resources{MemoryBytes: -1}), 400, "Resources.Reservations.MemoryBytes"},
		{"named resource", reserve(swarm.Resources{GenericResources: []swarm.GenericResource{{NamedResourceSpec: &swarm.NamedGenericResource{Kind: "GPU", Value: "a"}}}}), 400, "GenericResources[0]: named resources are what nodes have"},
		{"resource without kind", reserve(swarm.Resources{GenericResources: []swarm.GenericResource{{}}}), 400, "GenericResources[0]: a DiscreteResourceSpec with a Kind is missing"},
		{"resource of nothing", reserve(swarm.Resources{GenericResources: []swarm.GenericResource{discrete("GPU", 0)}}), 400, "invalid value 0 of GPU"},
		{"resource twice", reserve(swarm.Resources{GenericResources: []swarm.GenericResource{discrete("GPU", 1), discrete("GPU", 1)}}), 400, "GenericResources[1]: GPU is asked for twice"},
		{"restart condition", restart(swarm.RestartPolicy{Condition: "always"}), 400, `invalid RestartCondition: "always"`},
		{"restart delay", restart(swarm.RestartPolicy{Delay: new(-time.Second)}), 400, "TaskSpec: restart-delay cannot be negative"},
		{"restart window", restart(swarm.RestartPolicy{Window: new(-time.Second)}), 400, "TaskSpec: restart-window cannot be negative"},
		{"constraint operator", constraint("node.role=worker"), 500, "rpc error: code = Unknown desc = constraint expected one operator from ==, !="},
		{"constraint without operator", constraint("ssd"), 500, "constraint expected one operator from ==, !="},
		{"constraint key", constraint("no de==x"), 500, "rpc error: code = Unknown"},
		{"preference without spread", placement(swarm.Placement{Preferences: []swarm.PlacementPreference{{}}}), 400, "Placement.Preferences[0].Spread: missing"},
		{"preference", spread("node.role"), 400, `invalid descriptor "node.role"`},
		{"preference without key", spread("node.labels."), 400, "invalid descriptor"},
		{"log driver without name", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.LogDriver = &swarm.Driver{Options: map[string]string{"a": "b"}}
		}, 400, "driver name: if driver is specified name is required"},

		{"update action", update(swarm.UpdateConfig{FailureAction: "panic"}), 400, "unrecognized update failure action panic"},
		{"update order", update(swarm.UpdateConfig{Order: "both"}), 400, "unrecognized update order both"},
		{"update delay", update(swarm.UpdateConfig{Delay: -1}), 400, "TaskSpec: update-delay cannot be negative"},
		{"update monitor", update(swarm.UpdateConfig{Monitor: -1}), 400, "TaskSpec: update-monitor cannot be negative"},
		{"update ratio", update(swarm.UpdateConfig{MaxFailureRatio: 1.5}), 400, "update-maxfailureratio cannot be less than 0 or bigger than 1"},
		{"rollback ratio", rollback(swarm.UpdateConfig{MaxFailureRatio: -0.5}), 400, "(RollbackConfig.MaxFailureRatio)"},
		{"rollback order", rollback(swarm.UpdateConfig{Order: "x"}), 400, "unrecognized update order x"},

		{"endpoint mode", func(s *swarm.ServiceSpec) { s.EndpointSpec = &swarm.EndpointSpec{Mode: "anycast"} }, 400, `invalid resolution mode: "anycast"`},
		{"port protocol", port(swarm.PortConfig{Protocol: "icmp", TargetPort: 1, PublishMode: host}), 400, `EndpointSpec.Ports[0].Protocol: "icmp"`},
		{"port mode", port(swarm.PortConfig{TargetPort: 1, PublishMode: "direct"}), 400, `EndpointSpec.Ports[0].PublishMode: "direct"`},
		{"no target port", port(swarm.PortConfig{PublishedPort: 1, PublishMode: host}), 400, "EndpointSpec.Ports[0].TargetPort: 0"},
		{"target port", port(swarm.PortConfig{TargetPort: 65536, PublishMode: host}), 400, "EndpointSpec.Ports[0].TargetPort: 65536"},
		{"published port", port(swarm.PortConfig{TargetPort: 1, PublishedPort: 70000, PublishMode: host}), 400, "EndpointSpec.Ports[0].PublishedPort: 70000"},
		{"ingress port", port(swarm.PortConfig{TargetPort: 80}), 501, "publish with mode=host: the routing mesh comes with overlay networks"},
		{"port twice", func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{
				{TargetPort: 1, PublishedPort: 5, PublishMode: host}, {Protocol: "tcp", TargetPort: 2, PublishedPort: 5, PublishMode: host},
			}}
		}, 400, "EndpointSpec: duplicate published ports provided"},
		{"dnsrr with ingress port", func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Mode: "dnsrr", Ports: []swarm.PortConfig{{TargetPort: 1}}}
		}, 400, "port published with ingress mode can't be used with dnsrr mode"},
		{"overlay network", networks(swarm.NetworkAttachmentConfig{Target: "back"}), 501, "TaskTemplate.Networks[0].Target back: not supported"},
		{"network without target", networks(swarm.NetworkAttachmentConfig{}), 400, "TaskTemplate.Networks[0].Target: it is empty"},
		{"two networks", networks(swarm.NetworkAttachmentConfig{Target: "bridge"}, swarm.NetworkAttachmentConfig{Target: "host"}), 501, "TaskTemplate.Networks: not supported"},
		{"network alias", networks(swarm.NetworkAttachmentConfig{Target: "bridge", Aliases: []string{"x"}}), 501, "TaskTemplate.Networks[0].Aliases"},
		{"network option", networks(swarm.NetworkAttachmentConfig{Target: "host", DriverOpts: map[string]string{"x": "y"}}), 501, "TaskTemplate.Networks[0].DriverOpts"},
		{"legacy networks", func(s *swarm.ServiceSpec) { s.Networks = []swarm.NetworkAttachmentConfig{{Target: "bridge"}} }, 501, "Networks: not supported"},
		{"port on host network", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "host"}}
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{TargetPort: 1, PublishMode: host}}}
		}, 400, "tasks on network host cannot publish ports"},
	}
}

func TestBadSpecsAreRefused(t *testing.T) {
	h := badCluster(t)
	before := h.hash()
	web := h.service("web")
	for _, c := range badSpecs() {
		create := webSpec("new", 1)
		c.change(&create)
		h.refused(c.name+", create", "POST", "/services/create", create, nil, c.status, c.message)
		if strings.HasPrefix(c.name, "name ") {
			continue // an update with another name is a renaming
		}
		change := webSpec("web", 1)
		c.change(&change)
		status, message := c.status, c.message
		h.refused(c.name+", update", "POST", "/services/web/update?version="+web.Version.String(), change, nil, status, message)
	}
	if after := h.hash(); after != before {
		t.Error("a refused request changed the state")
	}
}

// refused sends a request and expects a refusal in Docker's form.
func (h *harness) refused(name, method, path string, body any, headers []string, status int, message string) {
	h.Helper()
	gotStatus, text := h.call(method, path, body, headers...)
	if gotStatus != status || !strings.Contains(text, strings.ReplaceAll(strings.ReplaceAll(message, `\`, `\\`), `"`, `\"`)) || !strings.HasPrefix(text, `{"message":"`) {
		h.Errorf("%s: %s %s: %d %s; want %d and %q", name, method, path, gotStatus, strings.TrimSpace(text), status, message)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	h := badCluster(t)
	before := h.hash()
	version := func(name string) string { return "version=" + h.service(name).Version.String() }
	node := func(id string) string {
		return "/nodes/" + id + "/update?version=" + h.store.View().Node(id).Version.String()
	}
	cluster := "/swarm/update?version=" + h.store.View().Cluster().Version.String()
	web, webUpdate := webSpec("web", 1), "/services/web/update?"+version("web")
	worker := swarm.NodeSpec{Role: swarm.NodeRoleWorker, Availability: swarm.NodeAvailabilityActive}
	swarmSpec := func(change func(*swarm.Spec)) swarm.Spec {
		s := defaultSwarmSpec()
		change(&s)
		return s
	}
	type headers = []string
	for _, c := range []struct {
		name, method, path string
		body               any
		headers            []string
		status             int
		message            string
	}{
		{"too new", "GET", "/v1.99/services", nil, nil, 400, "client version 1.99 is too new. Maximum supported API version is 1.47"},
		{"too old", "GET", "/v1.12/services", nil, nil, 400, "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"plain text body", "POST", "/services/create", "x", headers{"Content-Type: text/plain"}, 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"no content type", "POST", "/services/create", "{}", headers{"Content-Type: "}, 400, "must be 'application/json'"},
		{"not JSON", "POST", "/services/create", "{nope", nil, 400, "invalid JSON: invalid character"},
		{"blank body", "POST", "/services/create", " ", nil, 400, "invalid JSON: got EOF while reading request body"},
		{"cut body", "POST", "/services/create", `{"Name":"x"`, nil, 400, "invalid JSON: unexpected EOF"},
		{"more than JSON", "POST", "/services/create", `{"Name":"x"}{}`, nil, 400, "unexpected content after JSON"},
		{"array body", "POST", "/services/create", "[]", nil, 400, "invalid JSON: json: cannot unmarshal array"},
		{"wrong type", "POST", "/services/create", `{"Name":1}`, nil, 400, "invalid JSON: json: cannot unmarshal number"},
		{"negative replicas", "POST", "/services/create", `{"Mode":{"Replicated":{"Replicas":-1}}}`, nil, 400, "invalid JSON: json: cannot unmarshal number -1"},
		{"unknown field", "POST", "/services/create", `{"Name":"x","Replicas":3}`, nil, 400, `unknown field "Replicas"`},
		{"unknown inner field", "POST", "/services/create", `{"TaskTemplate":{"Resources":{"SwapBytes":3}}}`, nil, 400, `unknown field "SwapBytes"`},
		{"huge body", "POST", "/services/create", `{"Name":"` + strings.Repeat("x", 5<<20) + `"}`, nil, 400, "the body is larger than 4194304 bytes"},
		{"empty object", "POST", "/services/create", "{}", nil, 400, "mismatched Runtime and *Spec fields"},
		{"no body", "POST", "/services/create", nil, nil, 400, "mismatched Runtime and *Spec fields"},
		{"auth not base64", "POST", "/services/create", web, headers{"X-Registry-Auth: %%%"}, 400, "invalid X-Registry-Auth header"},
		{"auth not JSON", "POST", "/services/create", web, headers{"X-Registry-Auth: aGVsbG8="}, 400, "invalid X-Registry-Auth header"},
		{"request id", "POST", "/services/create", webSpec("new", 1), headers{"X-Shoal-Request: a b"}, 400, "invalid X-Shoal-Request header"},
		{"long request id", "POST", "/services/create", webSpec("new", 1), headers{"X-Shoal-Request: " + strings.Repeat("a", 65)}, 400, "invalid X-Shoal-Request header"},
		{"name taken", "POST", "/services/create", web, nil, 409, "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists"},

		{"no version", "POST", "/services/web/update", web, nil, 400, "invalid service version ''"},
		{"bad version", "POST", "/services/web/update?version=x", web, nil, 400, "invalid service version 'x'"},
		{"negative version", "POST", "/services/web/update?version=-1", web, nil, 400, "invalid service version '-1'"},
		{"stale version", "POST", "/services/web/update?version=1", web, nil, 500, "rpc error: code = Unknown desc = update out of sequence"},
		{"update of nothing", "POST", "/services/nope/update?version=1", web, nil, 404, "service nope not found"},
		{"ambiguous update", "POST", "/services/we/update?version=1", web, nil, 400, "service we is ambiguous (2 matches found)"},
		{"renaming", "POST", webUpdate, webSpec("web2", 1), nil, 501, "rpc error: code = Unimplemented desc = renaming services is not supported"},
		{"update without name", "POST", webUpdate, webSpec("", 1), nil, 501, "renaming services is not supported"},
		{"mode change", "POST", "/services/agent/update?" + version("agent"), webSpec("agent", 1), nil, 501, "service mode change is not allowed"},
		{"no rollback", "POST", webUpdate + "&rollback=previous", web, nil, 400, "rpc error: code = FailedPrecondition desc = service web does not have a previous spec"},
		{"unknown rollback", "POST", webUpdate + "&rollback=next", web, nil, 500, "unrecognized rollback option next"},
		{"unknown auth source", "POST", webUpdate + "&registryAuthFrom=me", web, nil, 400, "invalid registryAuthFrom"},
		{"no previous auth", "POST", webUpdate + "&registryAuthFrom=previous-spec", web, nil, 500, "service does not have a previous spec"},
		{"unknown service", "GET", "/services/nope", nil, nil, 404, "service nope not found"},
		{"bad insertDefaults", "GET", "/services/web?insertDefaults=maybe", nil, nil, 400, "invalid value for insertDefaults: maybe"},
		{"bad status", "GET", "/services?status=maybe", nil, nil, 400, "invalid value for status: maybe"},
		{"removal of nothing", "DELETE", "/services/nope", nil, nil, 404, "service nope not found"},
		{"ambiguous removal", "DELETE", "/services/we", nil, nil, 400, "service we is ambiguous (2 matches found)"},
		{"service logs", "GET", "/services/web/logs?stdout=1", nil, nil, 501, "service logs: not supported"},

		{"service filter", "GET", `/services?filters={"color":["red"]}`, nil, nil, 400, "invalid filter 'color'"},
		{"filter not JSON", "GET", "/services?filters=x", nil, nil, 400, "invalid filter"},
		{"filter of numbers", "GET", `/services?filters={"name":[1]}`, nil, nil, 400, "invalid filter"},
		{"node filter", "GET", `/nodes?filters={"color":["red"]}`, nil, nil, 400, "invalid filter 'color'"},
		{"role filter", "GET", `/nodes?filters={"role":["boss"]}`, nil, nil, 500, "Invalid role filter: 'boss'"},
		{"membership filter", "GET", `/nodes?filters={"membership":["maybe"]}`, nil, nil, 500, "Invalid membership filter: 'maybe'"},
		{"task filter", "GET", `/tasks?filters={"color":["red"]}`, nil, nil, 400, "invalid filter 'color'"},
		{"desired-state filter", "GET", `/tasks?filters={"desired-state":["joy"]}`, nil, nil, 500, "Invalid desired-state filter: 'joy'"},
		{"tasks of no service", "GET", `/tasks?filters={"service":["nope"]}`, nil, nil, 404, "service nope not found"},
		{"tasks of no node", "GET", `/tasks?filters={"node":["nope"]}`, nil, nil, 404, "node nope not found"},
		{"secret filter", "GET", `/secrets?filters={"color":["red"]}`, nil, nil, 400, "invalid filter 'color'"},
		{"unknown task", "GET", "/tasks/nope", nil, nil, 404, "task nope not found"},
		{"ambiguous task", "GET", "/tasks/t", nil, nil, 400, "task t is ambiguous (2 matches found)"},
		{"task logs", "GET", "/tasks/t1/logs", nil, nil, 501, "task logs: not supported"},

		{"unknown node", "GET", "/nodes/nope", nil, nil, 404, "node nope not found"},
		{"ambiguous node", "GET", "/nodes/m", nil, nil, 400, "node m is ambiguous (3 matches found)"},
		{"node without version", "POST", "/nodes/w1/update", worker, nil, 400, "invalid node version ''"},
		{"stale node version", "POST", "/nodes/w1/update?version=1", worker, nil, 500, "update out of sequence"},
		{"update of no node", "POST", "/nodes/nope/update?version=1", worker, nil, 404, "node nope not found"},
		{"role", "POST", node("w1"), swarm.NodeSpec{Role: "boss", Availability: "active"}, nil, 400, `invalid Role: "boss"`},
		{"no role", "POST", node("w1"), swarm.NodeSpec{Availability: "active"}, nil, 400, `invalid Role: ""`},
		{"availability", "POST", node("w1"), swarm.NodeSpec{Role: "worker", Availability: "busy"}, nil, 400, `invalid Availability: "busy"`},
		{"no availability", "POST", node("w1"), swarm.NodeSpec{Role: "worker"}, nil, 400, `invalid Availability: ""`},
		{"node label", "POST", node("w1"), `{"Role":"worker","Availability":"active","Labels":{"":"x"}}`, nil, 400, "a label needs a key"},
		{"node field", "POST", node("w1"), `{"Role":"worker","Availability":"active","Zone":"x"}`, nil, 400, `unknown field "Zone"`},
		{"demotion without quorum", "POST", node("m2"), worker, nil, 400, "can't remove member from the raft: this would result in a loss of quorum"},
		{"removal of a ready node", "DELETE", "/nodes/w1", nil, nil, 400, "rpc error: code = FailedPrecondition desc = node w1 is not down and can't be removed"},
		{"removal without force", "DELETE", "/nodes/w1?force=0", nil, nil, 400, "is not down and can't be removed"},
		{"removal of a manager", "DELETE", "/nodes/m3?force=1", nil, nil, 400, "node m3 is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"},
		{"removal of no node", "DELETE", "/nodes/nope", nil, nil, 404, "node nope not found"},

		{"swarm without version", "POST", "/swarm/update", defaultSwarmSpec(), nil, 400, "invalid swarm version ''"},
		{"stale swarm version", "POST", "/swarm/update?version=9999", defaultSwarmSpec(), nil, 500, "update out of sequence"},
		{"swarm name", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Name = "other" }), nil, 400, "modification of cluster name is not allowed"},
		{"no swarm name", "POST", cluster, "{}", nil, 400, "modification of cluster name is not allowed"},
		{"certificate expiry", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.CAConfig.NodeCertExpiry = time.Minute }), nil, 400, "minimum certificate expiry time is: 1h0m0s"},
		{"heartbeat", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Dispatcher.HeartbeatPeriod = -1 }), nil, 400, "heartbeat time period cannot be a negative duration"},
		{"other heartbeat", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Dispatcher.HeartbeatPeriod = time.Second }), nil, 501, "Dispatcher.HeartbeatPeriod: not supported"},
		{"snapshot interval", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.SnapshotInterval = 1 }), nil, 501, "Raft.SnapshotInterval: not supported"},
		{"old snapshots", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.KeepOldSnapshots = new(uint64(3)) }), nil, 501, "Raft.KeepOldSnapshots: not supported"},
		{"log entries", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.LogEntriesForSlowFollowers = 3 }), nil, 501, "Raft.LogEntriesForSlowFollowers: not supported"},
		{"election tick", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.ElectionTick = 3 }), nil, 501, "Raft.ElectionTick: not supported"},
		{"heartbeat tick", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.Raft.HeartbeatTick = 3 }), nil, 501, "Raft.HeartbeatTick: not supported"},
		{"external CA", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.CAConfig.ExternalCAs = []*swarm.ExternalCA{{}} }), nil, 501, "CAConfig.ExternalCAs: not supported"},
		{"own CA", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.CAConfig.SigningCAKey = "x" }), nil, 501, "SigningCAKey: not supported"},
		{"CA rotation", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.CAConfig.ForceRotate = 1 }), nil, 501, "CAConfig.ForceRotate: not supported"},
		{"autolock", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.EncryptionConfig.AutoLockManagers = true }), nil, 501, "AutoLockManagers: not supported"},
		{"default log driver", "POST", cluster, swarmSpec(func(s *swarm.Spec) { s.TaskDefaults.LogDriver = &swarm.Driver{Name: "syslog"} }), nil, 501, "TaskDefaults.LogDriver: not supported"},
		{"rotation", "POST", cluster + "&rotateWorkerToken=maybe", defaultSwarmSpec(), nil, 400, "invalid value for rotateWorkerToken: maybe"},
		{"manager rotation", "POST", cluster + "&rotateManagerToken=2", defaultSwarmSpec(), nil, 400, "invalid value for rotateManagerToken: 2"},
		{"unlock key rotation", "POST", cluster + "&rotateManagerUnlockKey=true", defaultSwarmSpec(), nil, 501, "rotateManagerUnlockKey: not supported"},
		{"unlock key rotation value", "POST", cluster + "&rotateManagerUnlockKey=x", defaultSwarmSpec(), nil, 400, "invalid value for rotateManagerUnlockKey: x"},

		{"secret", "POST", "/secrets/create", swarm.SecretSpec{}, nil, 501, "secrets: not supported"},
		{"config", "POST", "/configs/create", swarm.ConfigSpec{}, nil, 501, "configs: not supported"},
		{"unknown secret", "GET", "/secrets/x", nil, nil, 404, "secret x not found"},
		{"removal of no config", "DELETE", "/configs/x", nil, nil, 404, "config x not found"},
		{"update of no secret", "POST", "/secrets/x/update?version=1", swarm.SecretSpec{}, nil, 404, "secret x not found"},
		{"why nothing", "GET", "/shoal/v1/why/nope", nil, nil, 404, "no task or service nope"},
		{"why ambiguous", "GET", "/shoal/v1/why/t", nil, nil, 400, "task t is ambiguous (2 matches found)"},
	} {
		h.refused(c.name, c.method, c.path, c.body, c.headers, c.status, c.message)
	}
	if after := h.hash(); after != before || len(h.rotated) != 0 {
		t.Errorf("a refused request changed the state, or rotated %v", h.rotated)
	}
}

func TestLastManagerIsNotDemoted(t *testing.T) {
	h := newHarness(t, statetest.Node("m1", statetest.Manager), statetest.Node("w1"))
	h.peers = []api.Peer{{NodeID: "m1", Leader: true, Reachable: true}}
	n := h.store.View().Node("m1")
	h.refused("last manager", "POST", "/nodes/m1/update?version="+n.Version.String(),
		swarm.NodeSpec{Role: swarm.NodeRoleWorker, Availability: swarm.NodeAvailabilityActive}, nil,
		http.StatusBadRequest, "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm")
}

func TestBadInputIsCountedEnough(t *testing.T) {
	if n := len(badSpecs()); n < 120 {
		t.Errorf("%d bad specs, want at least 120", n)
	}
}
