package cli

import (
	"encoding/json"
	"math"
	"reflect"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"

	"shoal/internal/runspec"
)

// runFlags are docker run's flags for what Docker's service spec cannot say.
type runFlags struct {
	given    runspec.Spec // by flags that hold one value
	weight   int64
	gpus     opts.GpuOpts
	settings []setting
}

// setting carries one flag over into a run spec. In update, a list has two.
type setting struct {
	flags []*flag
	apply func(*runspec.Spec)
}

// runChanged tells whether any of docker run's flags was given.
func (s *serviceFlags) runChanged() bool {
	for _, set := range s.run.settings {
		for _, f := range set.flags {
			if f.changed {
				return true
			}
		}
	}
	return false
}

// applyRun returns old, which may be nil, with what was given.
func (s *serviceFlags) applyRun(old *runspec.Spec) (*runspec.Spec, error) {
	r := &runspec.Spec{}
	if old != nil { // what the API sent: a copy shares nothing with it
		raw, err := json.Marshal(old)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, r); err != nil {
			return nil, err
		}
	}
	for _, set := range s.run.settings {
		for _, f := range set.flags {
			if f.changed {
				set.apply(r)
				break
			}
		}
	}
	return r, nil
}

// single carries a flag over that holds one value: where field finds it.
func single[T any](s *serviceFlags, f *flag, field func(*runspec.Spec) *T) *flag {
	s.run.settings = append(s.run.settings, setting{[]*flag{f}, func(r *runspec.Spec) { *field(r) = *field(&s.run.given) }})
	return f
}

func (s *serviceFlags) runText(name, usage string, field func(*runspec.Spec) *string) *flag {
	return single(s, s.text(field(&s.run.given), name, usage), field)
}

// runMode is a word out of a few, or "" for the engine's default.
func runMode[T ~string](s *serviceFlags, name, usage string, field func(*runspec.Spec) *T, words ...string) {
	f := s.add(&mode[T]{field(&s.run.given), words}, "string", name, usage)
	f.words = words
	single(s, f, field)
}

func (s *serviceFlags) runSize(name, usage string, least int64, field func(*runspec.Spec) *int64) {
	single(s, s.add(&size{p: field(&s.run.given), least: least}, "bytes", name, usage), field)
}

func (s *serviceFlags) runNumber(name, usage string, least int64, field func(*runspec.Spec) *int64) {
	single(s, s.add(&integer{p: field(&s.run.given), min: least, max: math.MaxInt64}, "int", name, usage), field)
}

func (s *serviceFlags) runToggle(name, usage string, field func(*runspec.Spec) *bool) {
	s.toggle(field(&s.run.given), name, usage)
	single(s, s.list[len(s.list)-1], field)
}

func (s *serviceFlags) addRun() {
	s.addRunImage()
	s.addRunSecurity()
	s.addRunCPU()
	s.addRunMemory()
	s.addRunBlkio()
	s.addRunDevices()
}

func (s *serviceFlags) addRunImage() {
	runMode(s, "pull", "When each node pulls the image", func(r *runspec.Spec) *string { return &r.Pull }, "always", "missing", "never")
	s.runText("platform", "Platform of the image to run, whatever that of the node is", func(r *runspec.Spec) *string { return &r.Platform }).wants("OS[/ARCH[/VARIANT]]")
	s.runText("domainname", "Container NIS domain name", func(r *runspec.Spec) *string { return &r.Domainname })
	s.runText("mac-address", "Container MAC address, for services on the node's bridge", func(r *runspec.Spec) *string { return &r.MacAddress })
	s.runToggle("publish-all,P", "Publish all exposed ports to random ports of the node", func(r *runspec.Spec) *bool { return &r.PublishAllPorts })
	manifold(s, "expose", "Exposed ports, or ranges of them", many[string]{
		parse: parseExposed, key: whole, field: func(r *runspec.Spec) *[]string { return &r.ExposedPorts },
	}).wants("PORT[-PORT][/tcp|udp|sctp]")
	s.runText("runtime", "Runtime to use for the container", func(r *runspec.Spec) *string { return &r.Runtime })
	s.runMap("annotation", "Annotations, passed through to the runtime", "=", func(r *runspec.Spec) *map[string]string { return &r.Annotations }).wants("KEY=VALUE")
	s.runMap("storage-opt", "Storage driver options for the container", "=", func(r *runspec.Spec) *map[string]string { return &r.StorageOpt }).wants("KEY=VALUE")
	s.runMap("tmpfs", "Tmpfs directories", ":", func(r *runspec.Spec) *map[string]string { return &r.Tmpfs }).wants("PATH[:OPTIONS]")
}

func (s *serviceFlags) addRunSecurity() {
	s.runToggle("privileged", "Give extended privileges to the container", func(r *runspec.Spec) *bool { return &r.Privileged })
	manifold(s, "security-opt", "Security options", many[string]{
		parse: parseSecurityOpt, key: securityKey, field: func(r *runspec.Spec) *[]string { return &r.SecurityOpt },
	}).wants("label=, apparmor=, seccomp=unconfined|builtin|FILE, no-new-privileges, writable-cgroups=, systempaths=unconfined")
	runMode(s, "ipc", "IPC mode", func(r *runspec.Spec) *container.IpcMode { return &r.IpcMode }, "none", "private", "shareable", "host")
	runMode(s, "pid", "PID namespace", func(r *runspec.Spec) *container.PidMode { return &r.PidMode }, "host")
	runMode(s, "uts", "UTS namespace", func(r *runspec.Spec) *container.UTSMode { return &r.UTSMode }, "host")
	runMode(s, "userns", "User namespace", func(r *runspec.Spec) *container.UsernsMode { return &r.UsernsMode }, "host")
	runMode(s, "cgroupns", "Cgroup namespace", func(r *runspec.Spec) *container.CgroupnsMode { return &r.CgroupnsMode }, "private", "host")
	s.runText("cgroup-parent", "Parent cgroup for the container", func(r *runspec.Spec) *string { return &r.CgroupParent })
}

func (s *serviceFlags) addRunCPU() {
	s.runNumber("cpu-shares", "CPU shares (relative weight)", 0, func(r *runspec.Spec) *int64 { return &r.CPUShares })
	s.runNumber("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period, in microseconds", 0, func(r *runspec.Spec) *int64 { return &r.CPUPeriod })
	s.runNumber("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota, in microseconds", -1, func(r *runspec.Spec) *int64 { return &r.CPUQuota })
	s.runNumber("cpu-rt-period", "Limit CPU real-time period in microseconds", 0, func(r *runspec.Spec) *int64 { return &r.CPURealtimePeriod })
	s.runNumber("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds", 0, func(r *runspec.Spec) *int64 { return &r.CPURealtimeRuntime })
	s.runText("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)", func(r *runspec.Spec) *string { return &r.CpusetCpus })
	s.runText("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)", func(r *runspec.Spec) *string { return &r.CpusetMems })
}

func (s *serviceFlags) addRunMemory() {
	s.runSize("shm-size", "Size of /dev/shm", 0, func(r *runspec.Spec) *int64 { return &r.ShmSize })
	s.runSize("memory-reservation", "Memory soft limit", 0, func(r *runspec.Spec) *int64 { return &r.MemoryReservation })
	s.runSize("memory-swap", "Limit of memory and swap together (-1: no limit)", -1, func(r *runspec.Spec) *int64 { return &r.MemorySwap })
	s.runSize("kernel-memory", "Kernel memory limit (engines before 23.0)", 0, func(r *runspec.Spec) *int64 { return &r.KernelMemory })
	f := s.add(&swappiness{&s.run.given.MemorySwappiness}, "int", "memory-swappiness", "Tune container memory swappiness (0 to 100)")
	f.def("-1: the node's")
	single(s, f, func(r *runspec.Spec) **int64 { return &r.MemorySwappiness })
	s.runToggle("oom-kill-disable", "Disable OOM Killer", func(r *runspec.Spec) *bool { return &r.OomKillDisable })
}

func (s *serviceFlags) addRunBlkio() {
	f := s.add(&integer{p: &s.run.weight, min: 0, max: 1000}, "uint16", "blkio-weight", "Block IO (relative weight), between 10 and 1000")
	f.def("0: the node's")
	s.run.settings = append(s.run.settings, setting{[]*flag{f}, func(r *runspec.Spec) { r.BlkioWeight = uint16(s.run.weight) }}) //nolint:gosec // 1000 at most
	manifold(s, "blkio-weight-device", "Block IO weights of devices (relative)", many[blkiodev.WeightDevice]{
		parse: each(opts.ValidateWeightDevice), key: func(d blkiodev.WeightDevice) string { return d.Path },
		field: func(r *runspec.Spec) *[]blkiodev.WeightDevice { return &r.BlkioWeightDevice },
	}).wants("/dev/DEVICE:WEIGHT")
	for _, t := range []struct {
		name, usage string
		parse       opts.ValidatorThrottleFctType
		field       func(*runspec.Spec) *[]blkiodev.ThrottleDevice
	}{
		{"device-read-bps", "Limits of the read rate (bytes per second) from devices", opts.ValidateThrottleBpsDevice, func(r *runspec.Spec) *[]blkiodev.ThrottleDevice { return &r.BlkioDeviceReadBps }},
		{"device-write-bps", "Limits of the write rate (bytes per second) to devices", opts.ValidateThrottleBpsDevice, func(r *runspec.Spec) *[]blkiodev.ThrottleDevice { return &r.BlkioDeviceWriteBps }},
		{"device-read-iops", "Limits of the read rate (IO per second) from devices", opts.ValidateThrottleIOpsDevice, func(r *runspec.Spec) *[]blkiodev.ThrottleDevice { return &r.BlkioDeviceReadIOps }},
		{"device-write-iops", "Limits of the write rate (IO per second) to devices", opts.ValidateThrottleIOpsDevice, func(r *runspec.Spec) *[]blkiodev.ThrottleDevice { return &r.BlkioDeviceWriteIOps }},
	} {
		manifold(s, t.name, t.usage, many[blkiodev.ThrottleDevice]{
			parse: each(t.parse), key: func(d blkiodev.ThrottleDevice) string { return d.Path }, field: t.field,
		}).wants("/dev/DEVICE:RATE")
	}
}

func (s *serviceFlags) addRunDevices() {
	manifold(s, "device", "Host devices", many[device]{
		parse: parseDevice, merge: mergeDevices,
	}).wants("HOST[:CONTAINER][:rwm], or VENDOR/CLASS=NAME of a CDI device")
	manifold(s, "device-cgroup-rule", "Rules for devices that the cgroup allows", many[string]{
		parse: parseCgroupRule, key: whole, field: func(r *runspec.Spec) *[]string { return &r.DeviceCgroupRules },
	}).wants(`"TYPE MAJOR:MINOR MODE", such as "c 42:* rwm"`)
	f := s.add(&gpus{&s.run.gpus}, "gpu-request", "gpus", `GPU devices to add to the container ("all" to pass all GPUs)`)
	s.run.settings = append(s.run.settings, setting{[]*flag{f}, func(r *runspec.Spec) {
		r.DeviceRequests = append(s.run.gpus.Value(), cdiRequests(r.DeviceRequests)...)
	}})
}

// nothing reports whether a run spec says nothing.
func nothing(r *runspec.Spec) bool { return r == nil || reflect.ValueOf(*r).IsZero() }
