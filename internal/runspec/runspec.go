// Package runspec is what docker run can say of a container and a service of
// Docker Swarm cannot: an extension of the service's spec that Docker's clients
// neither show nor lose.
//
// It is data only. Where Docker's API has a name for a field, that is its name
// here, in Go and in JSON.
package runspec

import (
	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
)

// Spec is the extension. What it leaves out is the engine's default.
type Spec struct {
	// Pull says when the image is pulled: see the constants. Platform is
	// OS[/ARCH[/VARIANT]], the one of the image's that is pulled and run.
	Pull     string `json:",omitempty"`
	Platform string `json:",omitempty"`

	Domainname   string   `json:",omitempty"`
	MacAddress   string   `json:",omitempty"`
	ExposedPorts []string `json:",omitempty"` // "80/tcp"

	Privileged      bool              `json:",omitempty"`
	SecurityOpt     []string          `json:",omitempty"` // systempaths=unconfined too, as docker run takes it
	PublishAllPorts bool              `json:",omitempty"`
	Runtime         string            `json:",omitempty"`
	Annotations     map[string]string `json:",omitempty"`
	StorageOpt      map[string]string `json:",omitempty"`
	Tmpfs           map[string]string `json:",omitempty"` // target: mount options
	ShmSize         int64             `json:",omitempty"` // bytes

	IpcMode      container.IpcMode      `json:",omitempty"`
	PidMode      container.PidMode      `json:",omitempty"`
	UTSMode      container.UTSMode      `json:",omitempty"`
	UsernsMode   container.UsernsMode   `json:",omitempty"`
	CgroupnsMode container.CgroupnsMode `json:",omitempty"`

	Resources
}

// When an image is pulled. Left out, it is as in Swarm: always asked for, and
// one that is there already serves when the registry does not.
const (
	PullAlways  = "always"  // a pull that fails ends the task
	PullMissing = "missing" // only if the image is not there
	PullNever   = "never"
)

// Resources are those of a container that its cgroup and devices give it.
type Resources struct {
	CgroupParent string `json:",omitempty"`

	CPUShares          int64  `json:"CpuShares,omitempty"`
	CPUPeriod          int64  `json:"CpuPeriod,omitempty"` // microseconds, as the next three
	CPUQuota           int64  `json:"CpuQuota,omitempty"`
	CPURealtimePeriod  int64  `json:"CpuRealtimePeriod,omitempty"`
	CPURealtimeRuntime int64  `json:"CpuRealtimeRuntime,omitempty"`
	CpusetCpus         string `json:",omitempty"`
	CpusetMems         string `json:",omitempty"`

	MemoryReservation int64  `json:",omitempty"` // bytes, as the next two
	MemorySwap        int64  `json:",omitempty"` // memory and swap together; -1: no limit
	KernelMemory      int64  `json:",omitempty"`
	MemorySwappiness  *int64 `json:",omitempty"` // 0 to 100
	OomKillDisable    bool   `json:",omitempty"`

	BlkioWeight          uint16                    `json:",omitempty"`
	BlkioWeightDevice    []blkiodev.WeightDevice   `json:",omitempty"`
	BlkioDeviceReadBps   []blkiodev.ThrottleDevice `json:",omitempty"`
	BlkioDeviceWriteBps  []blkiodev.ThrottleDevice `json:",omitempty"`
	BlkioDeviceReadIOps  []blkiodev.ThrottleDevice `json:",omitempty"`
	BlkioDeviceWriteIOps []blkiodev.ThrottleDevice `json:",omitempty"`

	Devices           []container.DeviceMapping `json:",omitempty"`
	DeviceCgroupRules []string                  `json:",omitempty"`
	DeviceRequests    []container.DeviceRequest `json:",omitempty"`
}
