package executor

import (
	"slices"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/go-connections/nat"

	"shoal/internal/runspec"
	"shoal/worker/engine"
)

// unconfinedPaths is the one security option that docker run carries out
// itself: the engine knows it as two empty lists.
const unconfinedPaths = "systempaths=unconfined"

// extend gives a container what its service says beyond Swarm's fields.
func extend(s *engine.Spec, r *runspec.Spec) {
	if r == nil {
		return
	}
	s.Platform, s.MacAddress = r.Platform, r.MacAddress
	s.Config.Domainname = r.Domainname
	for _, port := range r.ExposedPorts {
		s.Config.ExposedPorts[nat.Port(port)] = struct{}{}
	}
	h := s.HostConfig
	h.Privileged, h.PublishAllPorts, h.Runtime, h.ShmSize = r.Privileged, r.PublishAllPorts, r.Runtime, r.ShmSize
	h.Annotations, h.StorageOpt, h.Tmpfs = r.Annotations, r.StorageOpt, r.Tmpfs
	h.IpcMode, h.PidMode, h.UTSMode = r.IpcMode, r.PidMode, r.UTSMode
	h.UsernsMode, h.CgroupnsMode = r.UsernsMode, r.CgroupnsMode
	for _, opt := range r.SecurityOpt {
		if opt == unconfinedPaths {
			h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
			continue
		}
		h.SecurityOpt = append(h.SecurityOpt, opt)
	}
	extendResources(&h.Resources, r.Resources)
}

func extendResources(h *container.Resources, r runspec.Resources) {
	h.CgroupParent = r.CgroupParent
	h.CPUShares, h.CPUPeriod, h.CPUQuota = r.CPUShares, r.CPUPeriod, r.CPUQuota
	h.CPURealtimePeriod, h.CPURealtimeRuntime = r.CPURealtimePeriod, r.CPURealtimeRuntime
	h.CpusetCpus, h.CpusetMems = r.CpusetCpus, r.CpusetMems
	h.MemoryReservation, h.MemorySwap, h.KernelMemory = r.MemoryReservation, r.MemorySwap, r.KernelMemory
	h.MemorySwappiness = r.MemorySwappiness
	if r.OomKillDisable {
		h.OomKillDisable = &r.OomKillDisable
	}
	h.BlkioWeight = r.BlkioWeight
	for _, d := range r.BlkioWeightDevice {
		h.BlkioWeightDevice = append(h.BlkioWeightDevice, &d)
	}
	h.BlkioDeviceReadBps, h.BlkioDeviceWriteBps = throttles(r.BlkioDeviceReadBps), throttles(r.BlkioDeviceWriteBps)
	h.BlkioDeviceReadIOps, h.BlkioDeviceWriteIOps = throttles(r.BlkioDeviceReadIOps), throttles(r.BlkioDeviceWriteIOps)
	h.Devices, h.DeviceCgroupRules, h.DeviceRequests = slices.Clone(r.Devices), r.DeviceCgroupRules, r.DeviceRequests
}

func throttles(devices []blkiodev.ThrottleDevice) (out []*blkiodev.ThrottleDevice) {
	for _, d := range devices {
		out = append(out, &d)
	}
	return out
}

// checkRun refuses what an engine with this API version would leave out.
func checkRun(r *runspec.Spec, version string) error {
	switch {
	case r == nil:
		return nil
	case len(r.Annotations) > 0 && versions.LessThan(version, "1.43"):
		return refused("Annotations needs engine API 1.43 or later, this node's engine has %s", version)
	case r.KernelMemory != 0 && versions.GreaterThanOrEqualTo(version, "1.42"):
		return refused("KernelMemory is not known to engine API 1.42 and later, this node's engine has %s: leave it out", version)
	}
	return nil
}
