package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
)

func created(t *testing.T, f *fakeServer, args ...string) swarm.ServiceSpec {
	t.Helper()
	_, stderr, code := f.run(t, append([]string{"service", "create", "-d"}, args...)...)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var spec swarm.ServiceSpec
	f.body(t, "POST /services/create", &spec)
	return spec
}

// What Docker's client posts for the same flags.
func TestCreatePostsWhatDockerPosts(t *testing.T) {
	f := newFakeServer(t)
	got := created(t, f, "--no-resolve-image", "nginx")
	noInit := false
	want := swarm.ServiceSpec{
		Annotations: swarm.Annotations{Labels: map[string]string{}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{Image: "nginx:latest", Init: &noInit, DNSConfig: &swarm.DNSConfig{}},
			Resources:     &swarm.ResourceRequirements{Limits: &swarm.Limit{}, Reservations: &swarm.Resources{}},
			Placement:     &swarm.Placement{},
		},
		Mode:         swarm.ServiceMode{Replicated: &swarm.ReplicatedService{}},
		EndpointSpec: &swarm.EndpointSpec{Mode: "vip"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestCreateTakesEveryFlag(t *testing.T) {
	envFile := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(envFile, []byte("# comment\nA=file\nB=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFakeServer(t)
	line := `--name web --replicas 3 --replicas-max-per-node 2 -l team=shop --container-label x=y
		--env-file ` + envFile + ` -e A=flag -e EMPTY= -w /srv -u www:www --hostname h --group video --entrypoint "sh -c 'a b'" --init -t --read-only
		--stop-signal SIGINT --stop-grace-period 3s --cap-add NET_ADMIN --cap-drop all --sysctl net.core.somaxconn=1024 --ulimit nofile=1:2
		--oom-score-adj -5 --limit-cpu .5 --limit-memory 512m --limit-pids 10 --reserve-cpu 0.25 --reserve-memory 1g --generic-resource gpu=2
		--restart-condition on-failure --restart-delay 1s --restart-max-attempts 3 --restart-window 1m
		--update-parallelism 0 --update-delay 2s --update-order start-first --rollback-max-failure-ratio 0.5
		--constraint node.role==worker --constraint "node.labels.zone != b" --placement-pref spread=node.labels.zone
		-p 8080:80 -p target=53,published=53,protocol=udp,mode=host --mount type=bind,src=/a,dst=/b,ro --mount dst=/c
		--dns 192.0.2.53 --dns-option ndots:1 --dns-search example.com --host db:192.0.2.9 --log-driver json-file --log-opt max-size=10m
		--health-cmd "curl localhost" --health-interval 1s --health-timeout 2s --health-retries 3 --health-start-period 4s --health-start-interval 5s
		nginx:1 nginx -g "daemon off;"`
	args, err := splitWords(line)
	if err != nil {
		t.Fatal(err)
	}
	got := created(t, f, args...)
	n, attempts := uint64(3), uint64(3)
	yes, grace, delay, window := true, 3*time.Second, time.Second, time.Minute
	want := swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: "web", Labels: map[string]string{"team": "shop"}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{
				Image: "nginx:1@" + fakeDigest, Labels: map[string]string{"x": "y"}, Command: []string{"sh", "-c", "a b"}, Args: []string{"nginx", "-g", "daemon off;"},
				Hostname: "h", Env: []string{"A=flag", "B=file", "EMPTY="}, Dir: "/srv", User: "www:www", Groups: []string{"video"},
				StopSignal: "SIGINT", TTY: true, ReadOnly: true, Init: &yes, StopGracePeriod: &grace, OomScoreAdj: -5,
				Mounts:        []mount.Mount{{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true}, {Type: "volume", Target: "/c"}},
				Healthcheck:   &container.HealthConfig{Test: []string{"CMD-SHELL", "curl localhost"}, Interval: time.Second, Timeout: 2 * time.Second, Retries: 3, StartPeriod: 4 * time.Second, StartInterval: 5 * time.Second},
				Hosts:         []string{"192.0.2.9 db"},
				DNSConfig:     &swarm.DNSConfig{Nameservers: []string{"192.0.2.53"}, Search: []string{"example.com"}, Options: []string{"ndots:1"}},
				Sysctls:       map[string]string{"net.core.somaxconn": "1024"},
				CapabilityAdd: []string{"CAP_NET_ADMIN"}, CapabilityDrop: []string{"ALL"},
				Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
			},
			Resources: &swarm.ResourceRequirements{
				Limits: &swarm.Limit{NanoCPUs: 5e8, MemoryBytes: 512 << 20, Pids: 10},
				Reservations: &swarm.Resources{
					NanoCPUs: 25e7, MemoryBytes: 1 << 30,
					GenericResources: []swarm.GenericResource{{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: 2}}},
				},
			},
			RestartPolicy: &swarm.RestartPolicy{Condition: "on-failure", Delay: &delay, MaxAttempts: &attempts, Window: &window},
			Placement: &swarm.Placement{
				Constraints: []string{"node.role==worker", "node.labels.zone != b"}, MaxReplicas: 2,
				Preferences: []swarm.PlacementPreference{{Spread: &swarm.SpreadOver{SpreadDescriptor: "node.labels.zone"}}},
				Platforms:   []swarm.Platform{{OS: "linux", Architecture: "amd64"}},
			},
			LogDriver: &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "10m"}},
		},
		Mode:           swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}},
		UpdateConfig:   &swarm.UpdateConfig{Delay: 2 * time.Second, Monitor: 5 * time.Second, FailureAction: "pause", Order: "start-first"},
		RollbackConfig: &swarm.UpdateConfig{Parallelism: 1, Monitor: 5 * time.Second, FailureAction: "pause", MaxFailureRatio: 0.5, Order: "stop-first"},
		EndpointSpec: &swarm.EndpointSpec{Mode: "vip", Ports: []swarm.PortConfig{
			{Protocol: "udp", TargetPort: 53, PublishedPort: 53, PublishMode: "host"}, {Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "ingress"},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestCreateStopsAtTheImage(t *testing.T) {
	f := newFakeServer(t)
	_, stderr, code := f.run(t, "service", "create", "-d", "nginx", "--replicas", "3")
	var spec swarm.ServiceSpec
	f.body(t, "POST /services/create", &spec)
	if diff := cmp.Diff([]string{"--replicas", "3"}, spec.TaskTemplate.ContainerSpec.Args); diff != "" || code != 0 {
		t.Errorf("exit %d, args (-want +got):\n%s", code, diff)
	}
	if !strings.Contains(stderr, "WARNING: --replicas stands after the image") {
		t.Errorf("no hint: %q", stderr)
	}
}

// A registry that does not answer costs a warning and little time.
func TestCreateGoesOnWithoutTheRegistry(t *testing.T) {
	f := newFakeServer(t)
	f.registry = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusInternalServerError, "no route to host")
	}
	_, stderr, code := f.run(t, "service", "create", "-d", "nginx")
	var spec swarm.ServiceSpec
	f.body(t, "POST /services/create", &spec)
	if code != 0 || spec.TaskTemplate.ContainerSpec.Image != "nginx:latest" || !strings.Contains(stderr, "image nginx:latest could not be accessed on a registry to record") {
		t.Errorf("exit %d, image %q, stderr %q", code, spec.TaskTemplate.ContainerSpec.Image, stderr)
	}
}

func updated(t *testing.T, f *fakeServer, args ...string) swarm.ServiceSpec {
	t.Helper()
	_, stderr, code := f.run(t, append([]string{"service", "update", "-d", "web"}, args...)...)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var spec swarm.ServiceSpec
	f.body(t, "POST /services/service1xxxxxxxxxxxxxxxxx/update", &spec)
	return spec
}

func TestUpdateChangesOnlyWhatIsGiven(t *testing.T) {
	f := newFakeServer(t)
	before := f.addService("service1xxxxxxxxxxxxxxxxx", "web", 2).Spec
	got := updated(t, f)
	if diff := cmp.Diff(before, got); diff != "" {
		t.Errorf("an empty update changes (-want +got):\n%s", diff)
	}
}

func TestUpdateMerges(t *testing.T) {
	tests := []struct {
		name, line string
		want       func(s *swarm.ServiceSpec)
	}{
		{"env keeps its order", "--env-add B=2 --env-add A=9", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Env = []string{"A=9", "Z=1", "B=2"} }},
		{"env-rm by name", "--env-rm A", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Env = []string{"Z=1"} }},
		{"labels", "--label-add a=2 --label-rm b", func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"a": "2"} }},
		{"replicas", "--replicas 7", func(s *swarm.ServiceSpec) { n := uint64(7); s.Mode.Replicated.Replicas = &n }},
		{"publish-rm ignores the published port", "--publish-rm 80 --publish-add 81:81", func(s *swarm.ServiceSpec) {
			s.EndpointSpec.Ports = []swarm.PortConfig{{Protocol: "tcp", TargetPort: 81, PublishedPort: 81, PublishMode: "ingress"}}
		}},
		{"mounts by target", "--mount-add src=new,dst=/data --mount-rm /gone", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{{Type: "volume", Source: "new", Target: "/data"}}
		}},
		{"constraints are sorted", "--constraint-add node.id==a", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Placement.Constraints = []string{"node.id==a", "node.role==worker"}
		}},
		{"adding a dropped capability", "--cap-add SYS_TIME", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.CapabilityDrop = nil }},
		{"hosts by name", "--host-rm db --host-add web:192.0.2.2", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Hosts = []string{"192.0.2.1 cache", "192.0.2.2 web"}
		}},
		{"force", "--force", func(s *swarm.ServiceSpec) { s.TaskTemplate.ForceUpdate = 1 }},
		{"image is pinned", "--image redis:7", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Image = "redis:7@" + fakeDigest
			s.TaskTemplate.Placement.Platforms = []swarm.Platform{{OS: "linux", Architecture: "amd64"}}
		}},
		{"args", `--args "sh -c 'sleep 1'"`, func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Args = []string{"sh", "-c", "sleep 1"} }},
		{"limits keep reservations", "--limit-memory 1g", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{MemoryBytes: 1 << 30}, Reservations: &swarm.Resources{}}
		}},
		{"healthcheck off", "--no-healthcheck", func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeServer(t)
			set := func(s *swarm.ServiceSpec) {
				n := uint64(2)
				s.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n}
				s.Labels = map[string]string{"a": "1", "b": "1"}
				c := s.TaskTemplate.ContainerSpec
				c.Env = []string{"A=1", "Z=1"}
				c.Mounts = []mount.Mount{{Type: "volume", Source: "old", Target: "/data"}, {Type: "volume", Source: "x", Target: "/gone"}}
				c.CapabilityDrop = []string{"CAP_SYS_TIME"}
				c.Hosts = []string{"192.0.2.1 db cache", "192.0.2.3 db"}
				s.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"node.role==worker"}}
				s.EndpointSpec = &swarm.EndpointSpec{Mode: "vip", Ports: []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "ingress"}}}
			}
			set(&f.addService("service1xxxxxxxxxxxxxxxxx", "web", 2).Spec)
			want := swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "web"}, TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "nginx:1@" + fakeDigest}}}
			set(&want)
			tt.want(&want)
			args, err := splitWords(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, updated(t, f, args...)); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScaleChangesAllAndReportsEach(t *testing.T) {
	f := newFakeServer(t)
	f.addService("service1xxxxxxxxxxxxxxxxx", "web", 1)
	agent := f.addService("service2xxxxxxxxxxxxxxxxx", "agent", 1)
	agent.Spec.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
	stdout, stderr, code := f.run(t, "service", "scale", "-d", "web=5", "agent=2", "nosuch=1")
	if stdout != "web scaled to 5\n" || code != 1 {
		t.Errorf("exit %d, stdout %q", code, stdout)
	}
	want := "agent: scale can only be used with replicated or replicated-job mode\nnosuch: Error response from daemon: service nosuch not found\n"
	if stderr != want {
		t.Errorf("stderr %q, want %q", stderr, want)
	}
}
