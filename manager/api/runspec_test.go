package api_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/runspec"
	"shoal/raftstore/state/statetest"
)

// extended is a spec as shoal's own client posts it.
type extended struct {
	swarm.ServiceSpec
	Run *runspec.Spec `json:",omitempty"`
}

// shown is what a client reads of a service's specs.
type shown struct {
	Spec         extended  `json:"Spec"`
	PreviousSpec *extended `json:"PreviousSpec"`
}

func (h *harness) shown(ref string) (s shown) {
	h.Helper()
	status, text := h.call("GET", "/services/"+ref, nil)
	if err := json.Unmarshal([]byte(text), &s); err != nil || status != http.StatusOK {
		h.Fatalf("inspect %s: %d %s, %v", ref, status, text, err)
	}
	return s
}

func (h *harness) post(ref, query string, body any) {
	h.Helper()
	path := "/services/" + ref + "/update?version=" + h.service(ref).Version.String() + query
	if status, text := h.call("POST", path, body); status != http.StatusOK {
		h.Fatalf("update %s: %d %s", ref, status, text)
	}
}

func TestRunSpecOutlivesClientsThatDoNotKnowIt(t *testing.T) {
	h := newHarness(t)
	run := &runspec.Spec{Privileged: true, ShmSize: 1 << 27, Resources: runspec.Resources{
		Devices: []container.DeviceMapping{{PathOnHost: "/dev/fuse"}},
	}}
	if status, text := h.call("POST", "/services/create", extended{webSpec("web", 1), run}); status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, text)
	}
	run.Devices[0] = container.DeviceMapping{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm"}
	check := func(when string, want, previous *runspec.Spec) {
		t.Helper()
		got := h.shown("web")
		if diff := cmp.Diff(want, got.Spec.Run); diff != "" {
			t.Errorf("%s: Run (-want +got):\n%s", when, diff)
		}
		if got.PreviousSpec != nil || previous != nil {
			if diff := cmp.Diff(previous, got.PreviousSpec.Run); diff != "" {
				t.Errorf("%s: previous Run (-want +got):\n%s", when, diff)
			}
		}
		if stored := h.store.View().RunOf(h.service("web")); !cmp.Equal(stored, want) {
			t.Errorf("%s: stored %+v", when, stored)
		}
		if _, list := h.call("GET", "/services", nil); strings.Contains(list, `"Run":`) != (want != nil || previous != nil) {
			t.Errorf("%s: list %s", when, list)
		}
	}
	check("created", run, nil)

	// Docker's client reads the spec into its own types and posts it back.
	service, _, err := h.docker.ServiceInspectWithRaw(t.Context(), "web", swarm.ServiceInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	service.Spec.TaskTemplate.ContainerSpec.Image = "web:2"
	if _, err := h.docker.ServiceUpdate(t.Context(), service.ID, service.Version, service.Spec, swarm.ServiceUpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	check("updated by a stock client", run, run)

	h.post("web", "", extended{webSpec("web", 1), &runspec.Spec{}})
	check("cleared", nil, run)
	h.post("web", "&rollback=previous", webSpec("web", 1))
	check("rolled back", run, nil)
	h.post("web", "&rollback=previous", webSpec("web", 1))
	check("rolled forward", nil, run)
	h.post("web", "", extended{webSpec("web", 1), &runspec.Spec{Pull: "never"}})
	check("set anew", &runspec.Spec{Pull: "never"}, nil)
}

func TestRunSpecDecidesWhetherTasksAreUpToDate(t *testing.T) {
	service, revision := statetest.Service("web", 1)
	old, oldRevision := service.Revision, *revision
	oldRevision.Run = &runspec.Spec{ShmSize: 1}
	service.Revision, revision.Number = old+1, old+1
	h := newHarness(t, service, revision, &oldRevision, statetest.Task("t1", "web", 1, "n1"))
	upToDate := func() bool {
		_, text := h.call("GET", `/tasks?filters={"_up-to-date":["true"]}`, nil)
		return strings.Contains(text, "t1")
	}
	if upToDate() {
		t.Error("a task of another run spec counts as up to date")
	}
	same := *revision
	same.Run = &runspec.Spec{ShmSize: 1}
	h.store.Put(&same)
	if !upToDate() {
		t.Error("a task of an equal run spec counts as outdated")
	}
}

// conflict changes Docker's half of a spec.
type conflict = func(*swarm.ServiceSpec)

func withLimits(l swarm.Limit) conflict {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &l} }
}

func inContainer(change func(*swarm.ContainerSpec)) conflict {
	return func(s *swarm.ServiceSpec) { change(s.TaskTemplate.ContainerSpec) }
}

func TestBadRunSpecsAreRefused(t *testing.T) {
	of := func(r runspec.Resources) runspec.Spec { return runspec.Spec{Resources: r} }
	h := newHarness(t)
	for _, c := range []struct {
		run  runspec.Spec
		with conflict
		want string
	}{
		{runspec.Spec{Pull: "sometimes"}, nil, `invalid Run.Pull "sometimes", allowed are always, missing and never`},
		{runspec.Spec{Platform: "Linux/arm64"}, nil, `invalid Run.Platform "Linux/arm64"`},
		{runspec.Spec{Platform: "a/b/c/d"}, nil, `invalid Run.Platform`},
		{runspec.Spec{IpcMode: "odd"}, nil, `invalid Run.IpcMode "odd", allowed are none, private, shareable, host`},
		{runspec.Spec{IpcMode: "container:x"}, nil, `a task cannot share a namespace with another container`},
		{runspec.Spec{PidMode: "private"}, nil, `invalid Run.PidMode "private", allowed are host`},
		{runspec.Spec{UTSMode: "x"}, nil, `invalid Run.UTSMode`},
		{runspec.Spec{UTSMode: "host"}, inContainer(func(c *swarm.ContainerSpec) { c.Hostname = "h" }), `conflicting options: hostname and the UTS mode`},
		{runspec.Spec{UTSMode: "host", Domainname: "d"}, nil, `conflicting options: domainname and the UTS mode`},
		{runspec.Spec{UsernsMode: "private"}, nil, `invalid Run.UsernsMode`},
		{runspec.Spec{CgroupnsMode: "x"}, nil, `invalid Run.CgroupnsMode "x", allowed are private, host`},
		{runspec.Spec{Domainname: "a b"}, nil, `invalid Run.Domainname`},
		{runspec.Spec{ShmSize: -1}, nil, `SHM size can not be less than 0`},
		{runspec.Spec{MacAddress: "02:42"}, nil, `02:42 is not a valid mac address (Run.MacAddress)`},
		{runspec.Spec{MacAddress: "02:42:ac:11:00:02"}, func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "front"}}
		}, `this one is on network front`},
		{runspec.Spec{MacAddress: "02:42:ac:11:00:02"}, func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{TargetPort: 80}}}
		}, `this one publishes port 80: use mode=host`},
		{runspec.Spec{ExposedPorts: []string{"0/tcp"}}, nil, `invalid Run.ExposedPorts[0] "0/tcp"`},
		{runspec.Spec{ExposedPorts: []string{"80", "81/odd"}}, nil, `invalid Run.ExposedPorts[1] "81/odd"`},
		{runspec.Spec{SecurityOpt: []string{"no-new-privileges", "odd=x"}}, nil, `invalid --security-opt 2: "odd=x" (Run.SecurityOpt[1])`},
		{runspec.Spec{SecurityOpt: []string{"seccomp=profile.json"}}, nil, `allowed are label=, apparmor=, seccomp=unconfined|builtin|JSON`},
		{runspec.Spec{SecurityOpt: []string{"no-new-privileges=maybe"}}, nil, `invalid --security-opt 1`},
		{runspec.Spec{SecurityOpt: []string{"systempaths=x"}}, nil, `invalid --security-opt 1`},
		{runspec.Spec{SecurityOpt: []string{"apparmor=x"}}, inContainer(func(c *swarm.ContainerSpec) {
			c.Privileges = &swarm.Privileges{AppArmor: &swarm.AppArmorOpts{Mode: swarm.AppArmorModeDisabled}}
		}), `apparmor is set by ContainerSpec.Privileges already`},
		{runspec.Spec{Annotations: map[string]string{" ": "x"}}, nil, `invalid Run.Annotations: a key is empty`},
		{runspec.Spec{StorageOpt: map[string]string{"": "x"}}, nil, `invalid Run.StorageOpt: a key is empty`},
		{runspec.Spec{Tmpfs: map[string]string{"run": ""}}, nil, `mount path "run" must be absolute`},
		{runspec.Spec{Tmpfs: map[string]string{"/run/": ""}}, inContainer(func(c *swarm.ContainerSpec) {
			c.Mounts = []mount.Mount{{Type: mount.TypeTmpfs, Target: "/run"}}
		}), `duplicate mount point: /run/`},
		{of(runspec.Resources{CPUPeriod: 1000}), withLimits(swarm.Limit{NanoCPUs: 1e9}), `Nano CPUs and CPU Period cannot both be set`},
		{of(runspec.Resources{CPUQuota: 1000}), withLimits(swarm.Limit{NanoCPUs: 1e9}), `Nano CPUs and CPU Quota cannot both be set`},
		{of(runspec.Resources{CPUShares: -1}), nil, `invalid Run.CpuShares -1`},
		{of(runspec.Resources{CPUPeriod: 999}), nil, `CPU cfs period can not be less than 1ms`},
		{of(runspec.Resources{CPUPeriod: 1_000_001}), nil, `CPU cfs period can not be less than 1ms`},
		{of(runspec.Resources{CPUQuota: 999}), nil, `CPU cfs quota can not be less than 1ms`},
		{of(runspec.Resources{CPURealtimeRuntime: -1}), nil, `must not be negative`},
		{of(runspec.Resources{CPURealtimePeriod: 1, CPURealtimeRuntime: 2}), nil, `cpu real-time runtime cannot be higher than cpu real-time period`},
		{of(runspec.Resources{CpusetCpus: "0-"}), nil, `Invalid value 0- for Run.CpusetCpus`},
		{of(runspec.Resources{CpusetMems: "a"}), nil, `Invalid value a for Run.CpusetMems`},
		{of(runspec.Resources{MemorySwap: -2}), nil, `invalid Run.MemorySwap -2`},
		{of(runspec.Resources{MemorySwap: 1 << 30}), nil, `Run.MemorySwap needs Resources.Limits.MemoryBytes`},
		{of(runspec.Resources{MemorySwap: 1 << 20}), withLimits(swarm.Limit{MemoryBytes: 1 << 24}), `Minimum memoryswap limit should be larger than memory limit`},
		{of(runspec.Resources{MemorySwappiness: new(int64(101))}), nil, `Invalid value: 101, valid memory swappiness range is 0-100`},
		{of(runspec.Resources{MemoryReservation: 1}), nil, `Minimum memory reservation allowed is 6MB`},
		{of(runspec.Resources{MemoryReservation: 1 << 25}), withLimits(swarm.Limit{MemoryBytes: 1 << 24}), `Minimum memory limit can not be less than memory reservation limit`},
		{of(runspec.Resources{KernelMemory: 1}), nil, `Minimum kernel memory limit allowed is 6MB`},
		{of(runspec.Resources{BlkioWeight: 9}), nil, `Range of blkio weight is from 10 to 1000 (Run.BlkioWeight is 9)`},
		{of(runspec.Resources{BlkioWeightDevice: []blkiodev.WeightDevice{{Path: "/dev/a", Weight: 1001}}}), nil, `invalid Run.BlkioWeightDevice[0] /dev/a:1001`},
		{of(runspec.Resources{BlkioDeviceWriteIOps: []blkiodev.ThrottleDevice{{Path: "sda"}}}), nil, `invalid Run.BlkioDeviceWriteIOps[0]: path "sda" must be absolute`},
		{of(runspec.Resources{Devices: []container.DeviceMapping{{PathOnHost: "fuse"}}}), nil, `invalid Run.Devices[0]: paths "fuse"`},
		{of(runspec.Resources{Devices: []container.DeviceMapping{{PathOnHost: "/dev/a", CgroupPermissions: "rx"}}}), nil, `invalid Run.Devices[0].CgroupPermissions "rx"`},
		{of(runspec.Resources{DeviceCgroupRules: []string{"c 1 r"}}), nil, `invalid Run.DeviceCgroupRules[0] "c 1 r"`},
		{of(runspec.Resources{DeviceRequests: []container.DeviceRequest{{Count: 1, DeviceIDs: []string{"0"}}}}), nil, `cannot set both Count and DeviceIDs on device request`},
		{of(runspec.Resources{DeviceRequests: []container.DeviceRequest{{Count: -2, Driver: "nvidia"}}}), nil, `invalid Run.DeviceRequests[0].Count -2`},
		{of(runspec.Resources{DeviceRequests: []container.DeviceRequest{{Count: 1}}}), nil, `a Driver or Capabilities are needed`},
	} {
		spec := webSpec("bad", 1)
		if c.with != nil {
			c.with(&spec)
		}
		h.refused("run spec", "POST", "/services/create", extended{spec, &c.run}, nil, http.StatusBadRequest, c.want)
	}
	h.refused("unknown field", "POST", "/services/create", `{"Name":"x","Run":{"Links":["a"]}}`, nil, http.StatusBadRequest, `unknown field "Links"`)
	if h.store.Updates() != 0 {
		t.Errorf("%d updates", h.store.Updates())
	}
}

func TestKeptRunSpecThatNoLongerFitsIsExplained(t *testing.T) {
	h := newHarness(t)
	run := &runspec.Spec{Resources: runspec.Resources{CPUQuota: 50_000}}
	if status, text := h.call("POST", "/services/create", extended{webSpec("web", 1), run}); status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, text)
	}
	spec := webSpec("web", 1)
	withLimits(swarm.Limit{NanoCPUs: 1e9})(&spec)
	h.refused("cpus", "POST", "/services/web/update?version="+h.service("web").Version.String(), spec, nil, http.StatusBadRequest,
		`Run.CpuQuota); the request has no Run, so the service's is kept: change it with "shoal service update"`)
	h.post("web", "", extended{spec, &runspec.Spec{}})
}

// Tasks show Run as their service's spec does, and clients that do not know it
// read them.
func TestTasksShowTheRunOfTheirRevision(t *testing.T) {
	web, webRev := statetest.Service("web", 1)
	plain, plainRev := statetest.Service("plain", 1)
	webRev.Run = &runspec.Spec{Privileged: true, ShmSize: 1 << 27}
	h := newHarness(t, web, webRev, plain, plainRev, statetest.Node("n1"), statetest.Task("t1", "web", 1, "n1"), statetest.Task("t2", "plain", 1, "n1"))
	for _, path := range []string{"/tasks/t1", "/tasks?filters=" + url.QueryEscape(`{"service":["web"]}`)} {
		_, text := h.call("GET", path, nil)
		for _, want := range []string{`"ContainerSpec":{"Image":"web:1"`, `"Run":{"Privileged":true,"ShmSize":134217728}`} {
			if !strings.Contains(text, want) || strings.Count(text, `"Spec":`) != 1 {
				t.Errorf("%s: %s\nwant %s", path, text, want)
			}
		}
	}
	if _, text := h.call("GET", "/tasks/t2", nil); strings.Contains(text, `"Run"`) {
		t.Errorf("without: %s", text)
	}
	task, _, err := h.docker.TaskInspectWithRaw(t.Context(), "t1")
	if err != nil || task.Spec.ContainerSpec.Image != "web:1" || task.ID != "t1" {
		t.Errorf("docker reads %+v, %v", task, err)
	}
}
