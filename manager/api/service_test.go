package api_test

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/id"
	"shoal/raftstore/state/statetest"
)

// fullSpec uses every field that this version honours.
func fullSpec() swarm.ServiceSpec {
	yes := true
	return swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: "full", Labels: map[string]string{"tier": "front"}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{
				Image: "registry.example:5000/web:1@sha256:" + strings.Repeat("ab", 32), Labels: map[string]string{"c": "l"},
				Command: []string{"/bin/top"}, Args: []string{"-u", "root"}, Hostname: "{{.Service.Name}}-{{.Task.Slot}}",
				Env: []string{"A=1", `NODE={{.Node.Hostname}}`, "EMPTY=", "BARE"}, Dir: "/work", User: "root:root", Groups: []string{"adm"},
				Privileges: &swarm.Privileges{
					Seccomp:  &swarm.SeccompOpts{Mode: swarm.SeccompModeCustom, Profile: []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`)},
					AppArmor: &swarm.AppArmorOpts{Mode: swarm.AppArmorModeDisabled}, NoNewPrivileges: true,
				},
				Init: &yes, StopSignal: "SIGINT", TTY: true, OpenStdin: true, ReadOnly: true,
				Mounts: []mount.Mount{
					{Type: mount.TypeBind, Source: "/src", Target: "/bind", BindOptions: &mount.BindOptions{Propagation: mount.PropagationRSlave, CreateMountpoint: true}},
					{Type: mount.TypeVolume, Source: "data-{{.Task.Slot}}", Target: "/data", VolumeOptions: &mount.VolumeOptions{
						NoCopy: true, Labels: map[string]string{"s": "{{.Service.ID}}"}, Subpath: "a/b",
						DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"o": "x"}},
					}},
					{Type: mount.TypeTmpfs, Target: "/tmp", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20, Mode: 0o1777, Options: [][]string{{"noexec"}}}},
				},
				StopGracePeriod: new(30 * time.Second),
				Healthcheck:     &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Timeout: time.Second, StartPeriod: time.Second, StartInterval: time.Millisecond, Retries: 3},
				Hosts:           []string{"8.8.8.8  google dns"}, DNSConfig: &swarm.DNSConfig{Nameservers: []string{"8.8.8.8", "::1"}, Search: []string{"example.org"}, Options: []string{"ndots:2"}},
				Isolation: container.IsolationDefault, Sysctls: map[string]string{"net.core.somaxconn": "1024"},
				CapabilityAdd: []string{"CAP_NET_ADMIN"}, CapabilityDrop: []string{"ALL"},
				Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}, OomScoreAdj: -500,
			},
			Resources: &swarm.ResourceRequirements{
				Limits: &swarm.Limit{NanoCPUs: 2e9, MemoryBytes: 64 << 20, Pids: 100},
				Reservations: &swarm.Resources{NanoCPUs: 1e6, MemoryBytes: 4 << 20, GenericResources: []swarm.GenericResource{
					{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "GPU", Value: 1}},
				}},
			},
			RestartPolicy: &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionOnFailure, Delay: new(time.Second), MaxAttempts: new(uint64(4)), Window: new(time.Minute)},
			Placement: &swarm.Placement{
				Constraints: []string{"node.role == worker"}, Preferences: []swarm.PlacementPreference{{Spread: &swarm.SpreadOver{SpreadDescriptor: "node.labels.rack"}}},
				MaxReplicas: 2, Platforms: []swarm.Platform{{Architecture: "amd64", OS: "linux"}},
			},
			Networks: []swarm.NetworkAttachmentConfig{{Target: "bridge"}}, LogDriver: &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "1m"}},
			ForceUpdate: 7, Runtime: swarm.RuntimeContainer,
		},
		Mode:           swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: new(uint64(3))}},
		UpdateConfig:   &swarm.UpdateConfig{Parallelism: 2, Delay: time.Second, FailureAction: "rollback", Monitor: time.Second, MaxFailureRatio: 0.5, Order: "start-first"},
		RollbackConfig: &swarm.UpdateConfig{Parallelism: 0, FailureAction: "continue", Order: "stop-first"},
		EndpointSpec: &swarm.EndpointSpec{Mode: swarm.ResolutionModeVIP, Ports: []swarm.PortConfig{
			{Name: "http", Protocol: swarm.PortConfigProtocolTCP, TargetPort: 80, PublishedPort: 8080, PublishMode: swarm.PortConfigPublishModeHost},
			{Protocol: swarm.PortConfigProtocolUDP, TargetPort: 53, PublishMode: swarm.PortConfigPublishModeHost},
		}},
	}
}

func TestCreatedServiceIsReturnedAsPosted(t *testing.T) {
	h := newHarness(t)
	resp, err := h.docker.ServiceCreate(t.Context(), fullSpec(), swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !id.Valid(resp.ID) {
		t.Errorf("id %q is not an id", resp.ID)
	}
	got, _, err := h.docker.ServiceInspectWithRaw(t.Context(), resp.ID, swarm.ServiceInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fullSpec(), got.Spec); diff != "" {
		t.Errorf("spec (-posted +returned):\n%s", diff)
	}
	if diff := cmp.Diff(fullSpec().EndpointSpec.Ports, got.Endpoint.Ports); diff != "" {
		t.Errorf("endpoint ports (-want +got):\n%s", diff)
	}
	if got.PreviousSpec != nil || got.UpdateStatus != nil || got.ServiceStatus != nil || got.JobStatus != nil {
		t.Errorf("a new service has previous spec %v, update status %v, status %v, job status %v, want none of them",
			got.PreviousSpec, got.UpdateStatus, got.ServiceStatus, got.JobStatus)
	}
	s := h.service("full")
	r := h.store.View().Revision(s.ID, 1)
	if s.Revision != 1 || r == nil || r.Spec.Name != "full" || r.Version.Index != s.Version.Index {
		t.Errorf("service is at revision %d, stored revision %+v, want 1 made by the same update", s.Revision, r)
	}
}

func TestEqualSpecsHaveOneForm(t *testing.T) {
	h := newHarness(t)
	for name, body := range map[string]string{
		"a": `{"Name":"NAME","TaskTemplate":{"ContainerSpec":{"Image":"web:1"}}}`,
		"b": `{"Name":"NAME","Labels":{},"TaskTemplate":{"ContainerSpec":{"Image":"web:1","Env":[],"Labels":{},"Mounts":[],"Isolation":"default"},"Runtime":"container","Networks":[]},"Mode":{"Replicated":{"Replicas":1}},"Networks":[]}`,
		"c": `{"Name":"NAME","Labels":null,"TaskTemplate":{"ContainerSpec":{"Image":"web:1","Command":null},"ForceUpdate":0},"Mode":{"Replicated":{}}}`,
	} {
		if status, text := h.call("POST", "/services/create", strings.ReplaceAll(body, "NAME", name)); status != http.StatusCreated {
			t.Fatalf("create %s: %d %s", name, status, text)
		}
	}
	want := h.service("a").Spec
	for _, name := range []string{"b", "c"} {
		got := h.service(name).Spec
		got.Name = "a"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("spec of %s (-a +%s):\n%s", name, name, diff)
		}
	}
	h.call("POST", "/services/create", `{"Name":"d","TaskTemplate":{"ContainerSpec":{"Image":"web:1"},"RestartPolicy":{}}}`)
	if p := h.service("d").Spec.TaskTemplate.RestartPolicy; p == nil || p.Condition != "any" || p.MaxAttempts == nil || *p.MaxAttempts != 0 {
		t.Errorf("restart policy %+v, want any and 0 attempts", p)
	}
	if want.Mode.Replicated == nil || *want.Mode.Replicated.Replicas != 1 || want.Labels == nil {
		t.Errorf("defaults are missing: %+v", want)
	}
}

func TestServiceWithoutNameGetsOne(t *testing.T) {
	h := newHarness(t)
	for range 3 {
		resp, err := h.docker.ServiceCreate(t.Context(), webSpec("", 1), swarm.ServiceCreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		name := h.store.View().Service(resp.ID).Spec.Name
		if !regexp.MustCompile(`^[a-z]+_[a-z]+\d?$`).MatchString(name) {
			t.Errorf("generated name %q is not of the form adjective_surname", name)
		}
	}
}

func TestServiceNamesAreUniqueWhateverTheirCase(t *testing.T) {
	h := newHarness(t, objects(statetest.Service("web", 1))...)
	_, err := h.docker.ServiceCreate(t.Context(), webSpec("WEB", 1), swarm.ServiceCreateOptions{})
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "name conflicts with an existing object: service WEB already exists") {
		t.Errorf("create: %v, want a conflict", err)
	}
	spec := webSpec("WEB", 1)
	spec.TaskTemplate.ContainerSpec.Secrets = []*swarm.SecretReference{{SecretID: "none", SecretName: "none", File: &swarm.SecretReferenceFileTarget{Name: "none", UID: "0", GID: "0"}}}
	if _, err := h.docker.ServiceCreate(t.Context(), spec, swarm.ServiceCreateOptions{}); err == nil || !strings.Contains(err.Error(), "secret not found: none") {
		t.Errorf("create: %v, want what Swarm finds first", err)
	}
}

func TestServiceUpdateMakesTheNextRevision(t *testing.T) {
	h := newHarness(t)
	created, err := h.docker.ServiceCreate(t.Context(), webSpec("web", 1), swarm.ServiceCreateOptions{EncodedRegistryAuth: auth("one")})
	if err != nil {
		t.Fatal(err)
	}
	before := h.service("web")
	withStatus := *before
	withStatus.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateCompleted}
	h.store.Put(&withStatus)
	before = h.service("web")

	spec := before.Spec
	spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Image: "web:2"}
	if _, err := h.docker.ServiceUpdate(t.Context(), "web", before.Version, spec, swarm.ServiceUpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	got := h.service("web")
	if got.ID != created.ID || got.Revision != 2 || got.PreviousRevision != 1 || got.PreviousSpec == nil || got.PreviousSpec.TaskTemplate.ContainerSpec.Image != "web:1" {
		t.Errorf("service after update: revision %d, previous %d, previous spec %+v", got.Revision, got.PreviousRevision, got.PreviousSpec)
	}
	if got.UpdateStatus != nil {
		t.Errorf("update status %+v outlived the update", got.UpdateStatus)
	}
	if r := h.store.View().Revision(got.ID, 2); r == nil || r.Spec.TaskTemplate.ContainerSpec.Image != "web:2" || r.RegistryAuth != auth("one") {
		t.Errorf("revision 2 is %+v, want image web:2 and the credentials kept", r)
	}
	_, err = h.docker.ServiceUpdate(t.Context(), "web", before.Version, spec, swarm.ServiceUpdateOptions{})
	if err == nil || !strings.Contains(err.Error(), "update out of sequence") {
		t.Errorf("second update with the same version: %v, want update out of sequence", err)
	}
}

func TestIdenticalUpdateChangesOnlyRevisionAndVersion(t *testing.T) {
	h := newHarness(t)
	if _, err := h.docker.ServiceCreate(t.Context(), fullSpec(), swarm.ServiceCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := h.service("full")
	if _, err := h.docker.ServiceUpdate(t.Context(), before.ID, before.Version, fullSpec(), swarm.ServiceUpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	after := h.service("full")
	if diff := cmp.Diff(before.Spec, after.Spec); diff != "" || after.Version.Index <= before.Version.Index {
		t.Errorf("version %d after %d; spec (-before +after):\n%s", after.Version.Index, before.Version.Index, diff)
	}
	if diff := cmp.Diff(&before.Spec, after.PreviousSpec); diff != "" {
		t.Errorf("previous spec (-want +got):\n%s", diff)
	}
}

func TestRevisionNumbersAreNeverUsedTwice(t *testing.T) {
	web, rev1 := statetest.Service("web", 1)
	rev2, rev3 := *rev1, *rev1
	rev2.Number, rev3.Number = 2, 3 // 3 failed and was rolled back to 2
	web.Revision = 2
	h := newHarness(t, web, rev1, &rev2, &rev3)
	if _, err := h.docker.ServiceUpdate(t.Context(), "web", h.service("web").Version, webSpec("web", 2), swarm.ServiceUpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := h.service("web"); got.Revision != 4 || got.PreviousRevision != 2 {
		t.Errorf("revision %d after %d, want 4 after 2", got.Revision, got.PreviousRevision)
	}
}

func TestRollbackSwapsSpecs(t *testing.T) {
	h := newHarness(t)
	if _, err := h.docker.ServiceCreate(t.Context(), webSpec("web", 1), swarm.ServiceCreateOptions{EncodedRegistryAuth: auth("one")}); err != nil {
		t.Fatal(err)
	}
	spec := webSpec("web", 5)
	if _, err := h.docker.ServiceUpdate(t.Context(), "web", h.service("web").Version, spec, swarm.ServiceUpdateOptions{EncodedRegistryAuth: auth("two")}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		replicas uint64
		auth     string
	}{{1, "one"}, {5, "two"}, {1, "one"}} {
		current := h.service("web")
		if _, err := h.docker.ServiceUpdate(t.Context(), "web", current.Version, current.Spec, swarm.ServiceUpdateOptions{Rollback: "previous"}); err != nil {
			t.Fatal(err)
		}
		got := h.service("web")
		if *got.Spec.Mode.Replicated.Replicas != want.replicas || got.RegistryAuth != auth(want.auth) || got.Revision != current.Revision+1 {
			t.Errorf("rollback %d: %d replicas, revision %d, credentials %q, want %d, %d, %q", i+1,
				*got.Spec.Mode.Replicated.Replicas, got.Revision, got.RegistryAuth, want.replicas, current.Revision+1, auth(want.auth))
		}
		if u := got.UpdateStatus; u == nil || u.State != swarm.UpdateStateRollbackStarted || u.Message != "manually requested rollback" || u.StartedAt == nil {
			t.Errorf("rollback %d: update status %+v", i+1, u)
		}
	}
}

func TestRegistryAuthFromPreviousSpec(t *testing.T) {
	h := newHarness(t)
	if _, err := h.docker.ServiceCreate(t.Context(), webSpec("web", 1), swarm.ServiceCreateOptions{EncodedRegistryAuth: auth("one")}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		options swarm.ServiceUpdateOptions
		want    string
	}{
		{swarm.ServiceUpdateOptions{EncodedRegistryAuth: auth("two")}, "two"},
		{swarm.ServiceUpdateOptions{}, "two"},
		{swarm.ServiceUpdateOptions{EncodedRegistryAuth: auth("three"), RegistryAuthFrom: "previous-spec"}, "three"},
		{swarm.ServiceUpdateOptions{RegistryAuthFrom: "previous-spec"}, "two"},
		{swarm.ServiceUpdateOptions{RegistryAuthFrom: "spec"}, "two"},
	} {
		s := h.service("web")
		if _, err := h.docker.ServiceUpdate(t.Context(), "web", s.Version, s.Spec, step.options); err != nil {
			t.Fatal(err)
		}
		if got := h.service("web").RegistryAuth; got != auth(step.want) {
			t.Errorf("after %+v: credentials %q, want those of %q", step.options, got, step.want)
		}
	}
}

func auth(user string) string {
	return base64.URLEncoding.EncodeToString([]byte(`{"username":"` + user + `","password":"secret"}`))
}

func TestRemovedServiceLeavesItsTasksToTheOrchestrator(t *testing.T) {
	s, r := statetest.Service("web", 1)
	h := newHarness(t, s, r, statetest.Task("t1", "web", 1, "n1"))
	if err := h.docker.ServiceRemove(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	v := h.store.View()
	if v.Service("web") != nil || v.Task("t1") == nil || v.Revision("web", 1) == nil {
		t.Errorf("service %v, task %v, revision %v; want only the service gone", v.Service("web"), v.Task("t1"), v.Revision("web", 1))
	}
	if err := h.docker.ServiceRemove(t.Context(), "web"); !errdefs.IsNotFound(err) {
		t.Errorf("second removal: %v, want not found", err)
	}
}

func TestInsertDefaults(t *testing.T) {
	h := newHarness(t)
	if _, err := h.docker.ServiceCreate(t.Context(), webSpec("web", 1), swarm.ServiceCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	got, _, err := h.docker.ServiceInspectWithRaw(t.Context(), "web", swarm.ServiceInspectOptions{InsertDefaults: true})
	if err != nil {
		t.Fatal(err)
	}
	update := &swarm.UpdateConfig{Parallelism: 1, FailureAction: "pause", Monitor: 5 * time.Second, Order: "stop-first"}
	want := h.service("web").Spec
	if want.TaskTemplate.RestartPolicy != nil {
		t.Fatal("defaults reached the state")
	}
	container := *want.TaskTemplate.ContainerSpec
	container.StopGracePeriod, container.DNSConfig = new(10*time.Second), &swarm.DNSConfig{}
	want.TaskTemplate.ContainerSpec = &container
	want.TaskTemplate.Resources, want.TaskTemplate.Placement = &swarm.ResourceRequirements{}, &swarm.Placement{}
	want.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: "any", Delay: new(5 * time.Second), MaxAttempts: new(uint64(0))}
	want.UpdateConfig, want.RollbackConfig = update, update
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("spec with defaults (-want +got):\n%s", diff)
	}
}

func TestRepeatedRequestIsCarriedOutOnce(t *testing.T) {
	h := newHarness(t)
	header := "X-Shoal-Request: 2f0c-1"
	status, first := h.call("POST", "/services/create", webSpec("", 1), header)
	if status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, first)
	}
	status, second := h.call("POST", "/v1.41/services/create", webSpec("", 1), header)
	if status != http.StatusCreated || first != second {
		t.Errorf("repetition: %d %s, want the answer of the first: %s", status, second, first)
	}
	if _, other := h.call("POST", "/services/create", webSpec("other", 1), header); other == first {
		t.Error("another request under the same id got the answer of the first")
	}
	count := 0
	for range h.store.View().Services() {
		count++
	}
	if count != 2 {
		t.Errorf("%d services, want 2", count)
	}

	s := h.service("other")
	path := "/services/other/update?version=" + s.Version.String()
	for range 2 {
		if status, text := h.call("POST", path, webSpec("other", 9), "X-Shoal-Request: scale"); status != http.StatusOK {
			t.Errorf("update: %d %s", status, text)
		}
	}
	if got := h.service("other").Revision; got != 2 {
		t.Errorf("revision %d after an update and its repetition, want 2", got)
	}
	for range 2 {
		if status, text := h.call("DELETE", "/services/other", nil, "X-Shoal-Request: away"); status != http.StatusOK || text != "" {
			t.Errorf("removal: %d %q", status, text)
		}
	}
}
