package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/runspec"
)

// runOfFlags is what a line of flags makes of a run spec.
func runOfFlags(t *testing.T, update bool, old *runspec.Spec, line string) *runspec.Spec {
	t.Helper()
	s := newServiceFlags(update)
	words, err := splitWords(line)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range words {
		name, val, found := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		if !found {
			val = "true"
		}
		f := s.find(name)
		if f == nil {
			t.Fatalf("no flag --%s", name)
		}
		if err := f.Set(val); err != nil {
			t.Fatal(err)
		}
	}
	run, err := s.applyRun(old)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestRunFlagsSayEverything(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte("{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := runOfFlags(t, false, nil, `--pull=missing --platform=linux/arm64 --domainname=example --mac-address=02:42:ac:11:00:02 --expose=80 --expose=90-91/udp
		--privileged --security-opt=seccomp=`+profile+` --security-opt=no-new-privileges --security-opt=label:disable --security-opt=label=user:u --publish-all
		--runtime=runc --annotation=a=b --storage-opt=size=1G --tmpfs=/run:rw,exec --tmpfs=/x --shm-size=64m
		--ipc=host --pid=host --uts=host --userns=host --cgroupns=private --cgroup-parent=/apps
		--cpu-shares=512 --cpu-period=100000 --cpu-quota=-1 --cpu-rt-period=1000000 --cpu-rt-runtime=950000 --cpuset-cpus=0-1 --cpuset-mems=0
		--memory-reservation=32m --memory-swap=-1 --kernel-memory=50m --memory-swappiness=0 --oom-kill-disable
		--blkio-weight=300 --blkio-weight-device=/dev/sda:200 --device-read-bps=/dev/sda:1mb --device-write-bps=/dev/sda:2mb --device-read-iops=/dev/sda:3 --device-write-iops=/dev/sda:4
		--device=/dev/fuse --device=/dev/a:/dev/b:r --device=/dev/c:rw --device=vendor.com/gpu=0 --device-cgroup-rule="c 1:3 r" --gpus=all --gpus='"device=0,1",driver=nvidia'`)
	mb := func(n uint64) []blkiodev.ThrottleDevice {
		return []blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: n}}
	}
	gpu := [][]string{{"gpu"}}
	want := &runspec.Spec{
		Pull: "missing", Platform: "linux/arm64", Domainname: "example", MacAddress: "02:42:ac:11:00:02", ExposedPorts: []string{"80/tcp", "90/udp", "91/udp"},
		Privileged: true, SecurityOpt: []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`, "no-new-privileges", "label:disable", "label=user:u"}, PublishAllPorts: true,
		Runtime: "runc", Annotations: map[string]string{"a": "b"}, StorageOpt: map[string]string{"size": "1G"}, Tmpfs: map[string]string{"/run": "rw,exec", "/x": ""}, ShmSize: 64 << 20,
		IpcMode: "host", PidMode: "host", UTSMode: "host", UsernsMode: "host", CgroupnsMode: "private",
		Resources: runspec.Resources{
			CgroupParent: "/apps", CPUShares: 512, CPUPeriod: 100000, CPUQuota: -1, CPURealtimePeriod: 1000000, CPURealtimeRuntime: 950000, CpusetCpus: "0-1", CpusetMems: "0",
			MemoryReservation: 32 << 20, MemorySwap: -1, KernelMemory: 50 << 20, MemorySwappiness: new(int64(0)), OomKillDisable: true,
			BlkioWeight: 300, BlkioWeightDevice: []blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 200}},
			BlkioDeviceReadBps: mb(1 << 20), BlkioDeviceWriteBps: mb(2 << 20), BlkioDeviceReadIOps: mb(3), BlkioDeviceWriteIOps: mb(4),
			Devices: []container.DeviceMapping{
				{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm"},
				{PathOnHost: "/dev/a", PathInContainer: "/dev/b", CgroupPermissions: "r"},
				{PathOnHost: "/dev/c", PathInContainer: "/dev/c", CgroupPermissions: "rw"},
			},
			DeviceCgroupRules: []string{"c 1:3 r"},
			DeviceRequests: []container.DeviceRequest{
				{Count: -1, Capabilities: gpu, Options: map[string]string{}},
				{Driver: "nvidia", DeviceIDs: []string{"0", "1"}, Capabilities: gpu, Options: map[string]string{}},
				{Driver: "cdi", DeviceIDs: []string{"vendor.com/gpu=0"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	cleared := runOfFlags(t, true, got, `--pull= --platform= --domainname= --mac-address= --expose-rm=80/tcp --expose-rm=90/udp --expose-rm=91/udp --privileged=false
		--security-opt-rm=seccomp --security-opt-rm=no-new-privileges --security-opt-rm=label:disable --security-opt-rm=label=user:u --publish-all=false --runtime=
		--annotation-rm=a --storage-opt-rm=size --tmpfs-rm=/run --tmpfs-rm=/x --shm-size=0 --ipc= --pid= --uts= --userns= --cgroupns= --cgroup-parent=
		--cpu-shares=0 --cpu-period=0 --cpu-quota=0 --cpu-rt-period=0 --cpu-rt-runtime=0 --cpuset-cpus= --cpuset-mems= --memory-reservation=0 --memory-swap=0
		--kernel-memory=0 --memory-swappiness=-1 --oom-kill-disable=false --blkio-weight=0 --blkio-weight-device-rm=/dev/sda --device-read-bps-rm=/dev/sda
		--device-write-bps-rm=/dev/sda --device-read-iops-rm=/dev/sda --device-write-iops-rm=/dev/sda --device-rm=/dev/fuse --device-rm=/dev/b --device-rm=/dev/c
		--device-rm=vendor.com/gpu=0 --device-cgroup-rule-rm="c 1:3 r" --gpus=`)
	cleared.Annotations, cleared.StorageOpt, cleared.Tmpfs = nil, nil, nil // empty: the same
	if diff := cmp.Diff(&runspec.Spec{}, cleared); diff != "" {
		t.Errorf("not taken back (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was read has been changed:\n%s", diff)
	}
}

func TestUpdateChangesOnlyWhatWasGiven(t *testing.T) {
	old := &runspec.Spec{
		ShmSize: 1, SecurityOpt: []string{"label=disable", "apparmor=a"}, Tmpfs: map[string]string{"/run": "exec"},
		Resources: runspec.Resources{
			Devices:        []container.DeviceMapping{{PathOnHost: "/dev/a", PathInContainer: "/dev/a", CgroupPermissions: "r"}},
			DeviceRequests: []container.DeviceRequest{{Count: 1}, {Driver: "cdi", DeviceIDs: []string{"v/c=0"}}},
		},
	}
	got := runOfFlags(t, true, old, `--security-opt-add=apparmor=b --tmpfs-add=/x:size=1m --device-add=/dev/z:/dev/a --device-add=v/c=1 --privileged`)
	want := &runspec.Spec{
		ShmSize: 1, Privileged: true, SecurityOpt: []string{"label=disable", "apparmor=b"}, Tmpfs: map[string]string{"/run": "exec", "/x": "size=1m"},
		Resources: runspec.Resources{
			Devices:        []container.DeviceMapping{{PathOnHost: "/dev/z", PathInContainer: "/dev/a", CgroupPermissions: "rwm"}},
			DeviceRequests: []container.DeviceRequest{{Count: 1}, {Driver: "cdi", DeviceIDs: []string{"v/c=0", "v/c=1"}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := runOfFlags(t, true, old, `--gpus=2`).DeviceRequests; len(got) != 2 || got[0].Count != 2 || got[1].Driver != "cdi" {
		t.Errorf("--gpus leaves %+v", got)
	}
}

func TestRunSpecIsSentOnlyWhenItChanges(t *testing.T) {
	f := newFakeServer(t)
	must := func(args ...string) (sent extendedSpec) {
		t.Helper()
		_, stderr, code := f.run(t, args...)
		if code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, stderr)
		}
		f.body(t, f.writes()[len(f.writes())-1], &sent)
		return sent
	}
	if sent := must("service", "create", "-d", "--name", "plain", "nginx"); sent.Run != nil {
		t.Errorf("a plain service has %+v", sent.Run)
	}
	sent := must("service", "create", "-d", "--name", "web", "--no-resolve-image", "--privileged", "-i", "--group-add", "7", "nginx")
	c := sent.TaskTemplate.ContainerSpec
	if sent.Run == nil || !sent.Run.Privileged || c.Image != "nginx:latest" || !c.OpenStdin || len(c.Groups) != 1 {
		t.Errorf("sent %+v with %+v", sent.Run, c)
	}
	if sent := must("service", "update", "-d", "--label-add", "a=b", "web"); sent.Run != nil {
		t.Errorf("an update of something else sends %+v", sent.Run)
	}
	if sent := must("service", "update", "-d", "--shm-size", "1m", "web"); sent.Run == nil || !sent.Run.Privileged || sent.Run.ShmSize != 1<<20 {
		t.Errorf("an update sends %+v", sent.Run)
	}
	out, _, _ := f.run(t, "service", "inspect", "--pretty", "web")
	if !strings.Contains(out, "Run:\n Privileged:\ttrue\n ShmSize:\t1048576\n") {
		t.Errorf("inspect --pretty:\n%s", out)
	}
	if out, _, _ := f.run(t, "service", "inspect", "--format", "{{.Spec.Run.ShmSize}}", "web"); strings.TrimSpace(out) != "1.048576e+06" && strings.TrimSpace(out) != "1048576" {
		t.Errorf("inspect --format: %s", out)
	}
	if sent := must("service", "update", "-d", "--shm-size", "0", "--privileged=false", "web"); sent.Run == nil || !nothing(sent.Run) {
		t.Errorf("an update that clears all sends %+v", sent.Run)
	}
}
