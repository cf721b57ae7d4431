package api_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

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

func job(concurrent, total uint64) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &concurrent, TotalCompletions: &total}}
	}
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
		{"a million and one replicas", func(s *swarm.ServiceSpec) { *s.Mode.Replicated.Replicas = 1_000_001 }, 400, "Mode.Replicated.Replicas: 1000001 is more than"},
		{"job with an update config", func(s *swarm.ServiceSpec) {
			s.Mode, s.UpdateConfig = swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}, &swarm.UpdateConfig{}
		}, 400, rpcInvalid + "Jobs may not have an update config"},
		{"job of too many at once", func(s *swarm.ServiceSpec) {
			s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: new(uint64(1_000_001))}}
		}, 400, "Mode.ReplicatedJob.MaxConcurrent: 1000001 is more than"},
		{"job of too many", func(s *swarm.ServiceSpec) {
			s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{TotalCompletions: new(uint64(math.MaxUint64))}}
		}, 400, "Mode.ReplicatedJob.TotalCompletions: 18446744073709551615 is more than"},

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
		{"credential spec", privileges(swarm.Privileges{CredentialSpec: &swarm.CredentialSpec{File: "x"}}), 501, "CredentialSpec: not supported"},
		{"seccomp mode", privileges(swarm.Privileges{Seccomp: &swarm.SeccompOpts{Mode: "strict"}}), 400, `invalid Privileges.Seccomp.Mode "strict"`},
		{"seccomp without profile", privileges(swarm.Privileges{Seccomp: &swarm.SeccompOpts{Mode: "custom"}}), 400, "Seccomp.Profile must be valid JSON"},
		{"seccomp profile unused", privileges(swarm.Privileges{Seccomp: &swarm.SeccompOpts{Mode: "default", Profile: []byte("{}")}}), 400, "Seccomp.Profile needs mode custom"},
		{"apparmor mode", privileges(swarm.Privileges{AppArmor: &swarm.AppArmorOpts{Mode: "custom"}}), 400, `invalid Privileges.AppArmor.Mode "custom"`},

		{"health type", health(container.HealthConfig{Test: []string{"RUN", "x"}}), 400, `unknown type "RUN" in Test of HealthConfig`},
		{"empty health type", health(container.HealthConfig{Test: []string{""}}), 400, `unknown type "" in Test of HealthConfig`},
		{"job of too many at a time", job(1_000_001, 1), 400, "Mode.ReplicatedJob.MaxConcurrent: 1000001 is more than the 1000000 tasks that one service may have"},
		{"job of too many", job(1, 1_000_001), 400, "Mode.ReplicatedJob.TotalCompletions: 1000001 is more than the 1000000 tasks that one service may have"},
		{"job of the most that there are", job(math.MaxUint64, 1), 400, "Mode.ReplicatedJob.MaxConcurrent: 18446744073709551615 is more than"},
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
		{"env template of many parts", env(`A={{$x := printf "%999d" 1}}{{$y := print ` + strings.Repeat("$x ", 60) + `}}{{print ` + strings.Repeat("$y ", 1000) + `}}`), 400, "the result is longer than 65536 bytes"},
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
		{"pids limit", limits(swarm.Limit{Pids: -2}), 400, "invalid pids value -2"},
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
		{"sctp on all nodes", port(swarm.PortConfig{TargetPort: 80, Protocol: "sctp"}), 501, "EndpointSpec.Ports[0].Protocol sctp: not supported by this version of shoal; publish it with mode=host"},
		{"host port that is taken", port(swarm.PortConfig{TargetPort: 80, PublishedPort: 8080, PublishMode: host}), 400, "port '8080' is already in use by service 'owner' (owner) as an ingress port"},
		{"port that is taken on hosts", port(swarm.PortConfig{TargetPort: 80, PublishedPort: 8081}), 400, "port '8081' is already in use by service 'owner' (owner) as a host-published port"},
		{"port that is taken", port(swarm.PortConfig{TargetPort: 80, PublishedPort: 8080}), 400, "port '8080' is already in use by service 'owner' (owner) as an ingress port"},
		{"port twice", func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{
				{TargetPort: 1, PublishedPort: 5, PublishMode: host}, {Protocol: "tcp", TargetPort: 2, PublishedPort: 5, PublishMode: host},
			}}
		}, 400, "EndpointSpec: duplicate published ports provided"},
		{"dnsrr with ingress port", func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Mode: "dnsrr", Ports: []swarm.PortConfig{{TargetPort: 1}}}
		}, 400, "port published with ingress mode can't be used with dnsrr mode"},
		{"unknown network", networks(swarm.NetworkAttachmentConfig{Target: "back"}), 500, "network back not found"},
		{"ingress by name", networks(swarm.NetworkAttachmentConfig{Target: "ingress"}), 400, "Service cannot be explicitly attached to the ingress network"},
		{"network twice", networks(swarm.NetworkAttachmentConfig{Target: "front"}, swarm.NetworkAttachmentConfig{Target: "frontid"}), 400, "network front is named twice"},
		{"alias that is no name", networks(swarm.NetworkAttachmentConfig{Target: "front", Aliases: []string{"a b"}}), 400, "TaskTemplate.Networks[0].Aliases"},
		{"driver options", networks(swarm.NetworkAttachmentConfig{Target: "front", DriverOpts: map[string]string{"a": "b"}}), 501, "TaskTemplate.Networks[0].DriverOpts"},
		{"full network", networks(swarm.NetworkAttachmentConfig{Target: "full"}), 400, "network full has no free IPv4 address"},
		{"ambiguous network", networks(swarm.NetworkAttachmentConfig{Target: "f"}), 400, "network f is ambiguous (2 matches found)"},
		{"predefined network and another", networks(swarm.NetworkAttachmentConfig{Target: "front"}, swarm.NetworkAttachmentConfig{Target: "host"}), 400, "TaskTemplate.Networks[1].Target: a service on network host can be on no other"},
		{"empty alias", networks(swarm.NetworkAttachmentConfig{Target: "front", Aliases: []string{"ok", ""}}), 400, "invalid TaskTemplate.Networks[0].Aliases"},
		{"network without target", networks(swarm.NetworkAttachmentConfig{}), 400, "TaskTemplate.Networks[0].Target: it is empty"},
		{"two networks", networks(swarm.NetworkAttachmentConfig{Target: "bridge"}, swarm.NetworkAttachmentConfig{Target: "host"}), 400, "a service on network bridge can be on no other"},
		{"network alias", networks(swarm.NetworkAttachmentConfig{Target: "bridge", Aliases: []string{"x"}}), 501, "TaskTemplate.Networks[0].Aliases"},
		{"network option", networks(swarm.NetworkAttachmentConfig{Target: "host", DriverOpts: map[string]string{"x": "y"}}), 501, "TaskTemplate.Networks[0].DriverOpts"},
		{"unknown legacy network", func(s *swarm.ServiceSpec) {
			s.Networks = []swarm.NetworkAttachmentConfig{{Target: "back"}} //nolint:staticcheck // deprecated, and honoured
		}, 500, "network back not found"},
		{"port of all nodes on bridge", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "bridge"}}
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{TargetPort: 1}}}
		}, 400, "tasks on network bridge can publish ports with mode=host only"},
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

func TestBadInputIsCountedEnough(t *testing.T) {
	if n := len(badSpecs()); n < 120 {
		t.Errorf("%d bad specs, want at least 120", n)
	}
}
