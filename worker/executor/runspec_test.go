package executor

import (
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/runspec"
	"shoal/internal/taskstate"
	"shoal/worker/engine"
)

// fullRun sets every field there is: TestExtendCarriesEveryField sees to it.
func fullRun() *runspec.Spec {
	return &runspec.Spec{
		Pull: "missing", Platform: "linux/arm64", Domainname: "example", MacAddress: "02:42:ac:11:00:02", ExposedPorts: []string{"81/tcp"},
		Privileged: true, SecurityOpt: []string{"label=disable", unconfinedPaths}, PublishAllPorts: true, Runtime: "runsc",
		Annotations: map[string]string{"a": "b"}, StorageOpt: map[string]string{"size": "1G"}, Tmpfs: map[string]string{"/run": "exec"}, ShmSize: 1,
		IpcMode: "host", PidMode: "host", UTSMode: "host", UsernsMode: "host", CgroupnsMode: "private",
		Resources: runspec.Resources{
			CgroupParent: "/apps", CPUShares: 2, CPUPeriod: 3, CPUQuota: 4, CPURealtimePeriod: 5, CPURealtimeRuntime: 6, CpusetCpus: "0", CpusetMems: "1",
			MemoryReservation: 7, MemorySwap: 8, KernelMemory: 9, MemorySwappiness: new(int64(0)), OomKillDisable: true,
			BlkioWeight: 10, BlkioWeightDevice: []blkiodev.WeightDevice{{Path: "/dev/a", Weight: 11}, {Path: "/dev/b", Weight: 12}},
			BlkioDeviceReadBps: throttled(13), BlkioDeviceWriteBps: throttled(14), BlkioDeviceReadIOps: throttled(15), BlkioDeviceWriteIOps: throttled(16),
			Devices:           []container.DeviceMapping{{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm"}},
			DeviceCgroupRules: []string{"c 1:3 r"}, DeviceRequests: []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}},
		},
	}
}

func throttled(rate uint64) []blkiodev.ThrottleDevice {
	return []blkiodev.ThrottleDevice{{Path: "/dev/a", Rate: rate}}
}

func pointed(rate uint64) []*blkiodev.ThrottleDevice {
	return []*blkiodev.ThrottleDevice{{Path: "/dev/a", Rate: rate}}
}

func TestExtendCarriesEveryField(t *testing.T) {
	run := fullRun()
	for _, v := range []reflect.Value{reflect.ValueOf(*run), reflect.ValueOf(run.Resources)} {
		for field, value := range v.Fields() {
			if value.IsZero() {
				t.Errorf("fullRun sets no %s", field.Name)
			}
		}
	}
	task := fullTask()
	plain, err := containerSpec(task, testCluster, node(), "1.41")
	if err != nil {
		t.Fatal(err)
	}
	run.Annotations = nil // not on this engine
	task.Spec.Run = run
	got, err := containerSpec(task, testCluster, node(), "1.41")
	if err != nil {
		t.Fatal(err)
	}
	want := extended(plain)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("container (-want +got):\n%s", diff)
	}
}

// extended is a container with what fullRun adds to it.
func extended(s engine.Spec) engine.Spec {
	s.Platform, s.MacAddress = "linux/arm64", "02:42:ac:11:00:02"
	s.Config.Domainname = "example"
	s.Config.ExposedPorts["81/tcp"] = struct{}{}
	h := s.HostConfig
	h.Privileged, h.PublishAllPorts, h.Runtime, h.ShmSize = true, true, "runsc", 1
	h.StorageOpt, h.Tmpfs = map[string]string{"size": "1G"}, map[string]string{"/run": "exec"}
	h.IpcMode, h.PidMode, h.UTSMode, h.UsernsMode, h.CgroupnsMode = "host", "host", "host", "host", "private"
	h.SecurityOpt = append(h.SecurityOpt, "label=disable")
	h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	r := &h.Resources
	r.CgroupParent, r.CPUShares, r.CPUPeriod, r.CPUQuota, r.CPURealtimePeriod, r.CPURealtimeRuntime = "/apps", 2, 3, 4, 5, 6
	r.CpusetCpus, r.CpusetMems, r.MemoryReservation, r.MemorySwap = "0", "1", 7, 8
	r.KernelMemory = 9
	r.MemorySwappiness, r.OomKillDisable = new(int64(0)), new(true)
	r.BlkioWeight, r.BlkioWeightDevice = 10, []*blkiodev.WeightDevice{{Path: "/dev/a", Weight: 11}, {Path: "/dev/b", Weight: 12}}
	r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = pointed(13), pointed(14), pointed(15), pointed(16)
	r.Devices = []container.DeviceMapping{{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm"}}
	r.DeviceCgroupRules, r.DeviceRequests = []string{"c 1:3 r"}, []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
	return s
}

func TestExtensionsThatAnEngineLacksAreRefused(t *testing.T) {
	for _, c := range []struct {
		run       runspec.Spec
		bad, good string // engine API versions
		want      string
	}{
		{runspec.Spec{Annotations: map[string]string{"a": "b"}}, "1.41", "1.43", "Annotations needs engine API 1.43"},
		{runspec.Spec{Resources: runspec.Resources{KernelMemory: 1}}, "1.42", "1.41", "KernelMemory is not known to engine API 1.42"},
	} {
		task := aTask("t1", taskstate.Running)
		task.Spec.Run = &c.run
		if _, err := containerSpec(task, testCluster, node(), c.bad); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with API %s: %v, want %q", c.bad, err, c.want)
		}
		if _, err := containerSpec(task, testCluster, node(), c.good); err != nil {
			t.Errorf("with API %s: %v", c.good, err)
		}
	}
}
