package api

import (
	"path"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
)

// leastSoft is the smallest memory reservation that an engine takes.
const leastSoft = 6 << 20

func validateRunResources(r *runspec.Resources, swarms *swarm.ResourceRequirements) error {
	limit := swarm.Limit{}
	if swarms != nil && swarms.Limits != nil {
		limit = *swarms.Limits
	}
	for _, err := range []error{
		validateCPU(r, limit.NanoCPUs),
		validateCPUSets(r),
		validateMemory(r, limit.MemoryBytes),
		validateBlkio(r),
		validateDevices(r),
		validateDeviceRequests(r),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func validateCPU(r *runspec.Resources, nanoCPUs int64) error {
	switch {
	case nanoCPUs > 0 && r.CPUPeriod > 0:
		return rpcInvalid("Conflicting options: Nano CPUs and CPU Period cannot both be set. (Resources.Limits.NanoCPUs, Run.CpuPeriod)")
	case nanoCPUs > 0 && r.CPUQuota > 0:
		return rpcInvalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set. (Resources.Limits.NanoCPUs, Run.CpuQuota)")
	case r.CPUShares < 0:
		return rpcInvalid("invalid Run.CpuShares %d: must not be negative", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return rpcInvalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000) (Run.CpuPeriod is %d)", r.CPUPeriod)
	case r.CPUQuota < -1 || r.CPUQuota >= 0 && r.CPUQuota != 0 && r.CPUQuota < 1000:
		return rpcInvalid("CPU cfs quota can not be less than 1ms (i.e. 1000) (Run.CpuQuota is %d; -1: no limit)", r.CPUQuota)
	case r.CPURealtimePeriod < 0 || r.CPURealtimeRuntime < 0:
		return rpcInvalid("invalid Run.CpuRealtimePeriod %d or Run.CpuRealtimeRuntime %d: must not be negative", r.CPURealtimePeriod, r.CPURealtimeRuntime)
	case r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return rpcInvalid("cpu real-time runtime cannot be higher than cpu real-time period (Run.CpuRealtimeRuntime, Run.CpuRealtimePeriod)")
	}
	return nil
}

func validateCPUSets(r *runspec.Resources) error {
	list := regexp.MustCompile(`^\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*$`)
	for field, set := range map[string]string{"CpusetCpus": r.CpusetCpus, "CpusetMems": r.CpusetMems} {
		if set != "" && !list.MatchString(set) {
			return rpcInvalid("Invalid value %s for Run.%s, expected a list such as 0-2,7", set, field)
		}
	}
	return nil
}

func validateMemory(r *runspec.Resources, limit int64) error {
	switch {
	case r.MemorySwap < -1:
		return rpcInvalid("invalid Run.MemorySwap %d: allowed are sizes, 0 for the default and -1 for no limit", r.MemorySwap)
	case r.MemorySwap > 0 && limit == 0:
		return rpcInvalid("You should always set the Memory limit when using Memoryswap limit (Run.MemorySwap needs Resources.Limits.MemoryBytes)")
	case r.MemorySwap > 0 && r.MemorySwap < limit:
		return rpcInvalid("Minimum memoryswap limit should be larger than memory limit (Run.MemorySwap is %d, Resources.Limits.MemoryBytes %d)", r.MemorySwap, limit)
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < 0 || *r.MemorySwappiness > 100):
		return rpcInvalid("Invalid value: %d, valid memory swappiness range is 0-100 (Run.MemorySwappiness)", *r.MemorySwappiness)
	case r.MemoryReservation != 0 && r.MemoryReservation < leastSoft:
		return rpcInvalid("Minimum memory reservation allowed is 6MB (Run.MemoryReservation is %d)", r.MemoryReservation)
	case limit > 0 && r.MemoryReservation > limit:
		return rpcInvalid("Minimum memory limit can not be less than memory reservation limit (Resources.Limits.MemoryBytes is %d, Run.MemoryReservation %d)", limit, r.MemoryReservation)
	case r.KernelMemory != 0 && r.KernelMemory < leastSoft:
		return rpcInvalid("Minimum kernel memory limit allowed is 6MB (Run.KernelMemory is %d)", r.KernelMemory)
	}
	return nil
}

func validateBlkio(r *runspec.Resources) error {
	const weights = "Range of blkio weight is from 10 to 1000"
	bad := func(weight uint16) bool { return weight != 0 && (weight < 10 || weight > 1000) }
	if bad(r.BlkioWeight) {
		return rpcInvalid(weights+" (Run.BlkioWeight is %d)", r.BlkioWeight)
	}
	for i, d := range r.BlkioWeightDevice {
		if !path.IsAbs(d.Path) || bad(d.Weight) {
			return rpcInvalid("invalid Run.BlkioWeightDevice[%d] %s:%d: an absolute path is needed; "+weights, i, d.Path, d.Weight)
		}
	}
	for field, devices := range map[string][]blkiodev.ThrottleDevice{
		"BlkioDeviceReadBps": r.BlkioDeviceReadBps, "BlkioDeviceWriteBps": r.BlkioDeviceWriteBps,
		"BlkioDeviceReadIOps": r.BlkioDeviceReadIOps, "BlkioDeviceWriteIOps": r.BlkioDeviceWriteIOps,
	} {
		for i, d := range devices {
			if !path.IsAbs(d.Path) {
				return rpcInvalid("invalid Run.%s[%d]: path %q must be absolute", field, i, d.Path)
			}
		}
	}
	return nil
}

func validateDevices(r *runspec.Resources) error {
	for i, d := range r.Devices {
		switch {
		case !path.IsAbs(d.PathOnHost) || !path.IsAbs(d.PathInContainer):
			return rpcInvalid("invalid Run.Devices[%d]: paths %q and %q must be absolute", i, d.PathOnHost, d.PathInContainer)
		case strings.Trim(d.CgroupPermissions, "rwm") != "" || len(d.CgroupPermissions) > len("rwm"):
			return rpcInvalid("invalid Run.Devices[%d].CgroupPermissions %q, allowed are r, w and m", i, d.CgroupPermissions)
		}
	}
	rule := regexp.MustCompile(`^[acb] (\d+|\*):(\d+|\*) [rwm]{1,3}$`)
	for i, text := range r.DeviceCgroupRules {
		if !rule.MatchString(text) {
			return rpcInvalid("invalid Run.DeviceCgroupRules[%d] %q, expected \"TYPE MAJOR:MINOR MODE\" such as \"c 42:* rwm\"", i, text)
		}
	}
	return nil
}

func validateDeviceRequests(r *runspec.Resources) error {
	for i, d := range r.DeviceRequests {
		switch {
		case d.Count != 0 && len(d.DeviceIDs) > 0:
			return rpcInvalid("cannot set both Count and DeviceIDs on device request (Run.DeviceRequests[%d])", i)
		case d.Count < -1:
			return rpcInvalid("invalid Run.DeviceRequests[%d].Count %d: allowed are a number, and -1 for all", i, d.Count)
		case d.Driver == "" && len(d.Capabilities) == 0:
			return rpcInvalid("Run.DeviceRequests[%d]: a Driver or Capabilities are needed to know which device is meant", i)
		}
	}
	return nil
}
