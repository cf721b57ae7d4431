package executor

import (
	"fmt"
	"path"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/versions"
)

// gate is a field that engines below an API version cannot carry out. The
// client would leave it out without a word; a task that asks for it is
// refused instead.
type gate struct {
	field   string
	version string
	asks    func(*swarm.ContainerSpec) bool
}

func gates() []gate {
	return []gate{
		{"Healthcheck.StartInterval", "1.44", func(c *swarm.ContainerSpec) bool {
			return c.Healthcheck != nil && c.Healthcheck.StartInterval != 0
		}},
		{"Mounts.BindOptions.CreateMountpoint", "1.42", bind(func(o *mount.BindOptions) bool { return o.CreateMountpoint })},
		{"Mounts.BindOptions.ReadOnlyNonRecursive", "1.44", bind(func(o *mount.BindOptions) bool { return o.ReadOnlyNonRecursive })},
		{"Mounts.BindOptions.ReadOnlyForceRecursive", "1.44", bind(func(o *mount.BindOptions) bool { return o.ReadOnlyForceRecursive })},
		{"Mounts.VolumeOptions.Subpath", "1.45", anyMount(func(m mount.Mount) bool {
			return m.VolumeOptions != nil && m.VolumeOptions.Subpath != ""
		})},
		{"Mounts.TmpfsOptions.Options", "1.46", anyMount(func(m mount.Mount) bool {
			return m.TmpfsOptions != nil && len(m.TmpfsOptions.Options) > 0
		})},
		{"Mounts.Type image", "1.48", anyMount(func(m mount.Mount) bool { return m.Type == mount.TypeImage })},
	}
}

func anyMount(asks func(mount.Mount) bool) func(*swarm.ContainerSpec) bool {
	return func(c *swarm.ContainerSpec) bool {
		return slices.ContainsFunc(c.Mounts, asks)
	}
}

func bind(asks func(*mount.BindOptions) bool) func(*swarm.ContainerSpec) bool {
	return anyMount(func(m mount.Mount) bool { return m.BindOptions != nil && asks(m.BindOptions) })
}

// checkVersion refuses what an engine with this API version cannot do.
func checkVersion(c *swarm.ContainerSpec, version string) error {
	for _, g := range gates() {
		if g.asks(c) && versions.LessThan(version, g.version) {
			return refused("%s needs engine API %s or later, this node's engine has %s", g.field, g.version, version)
		}
	}
	return nil
}

// checkMounts refuses mounts that the engine would take for something else.
func checkMounts(mounts []mount.Mount) error {
	for _, m := range mounts {
		if !path.IsAbs(m.Target) && m.Type != mount.TypeNamedPipe {
			return invalid("mount target, must be an absolute path: %s", m.Target)
		}
		switch m.Type {
		case mount.TypeBind:
			if !path.IsAbs(m.Source) {
				return invalid("bind mount source, must be an absolute path: %s", m.Source)
			}
		case mount.TypeVolume:
			if path.IsAbs(m.Source) {
				return invalid("volume mount source, must not be an absolute path: %s", m.Source)
			}
		case mount.TypeTmpfs:
			if m.Source != "" {
				return invalid("tmpfs source, source must be empty, not %s", m.Source)
			}
		case mount.TypeNamedPipe, mount.TypeImage:
			if m.Source == "" {
				return invalid("%s source, source must not be empty", m.Type)
			}
		case mount.TypeCluster:
			return refused("mount %s: cluster volumes are not available on this node", m.Target)
		default:
			return invalid("mount type: %s", m.Type)
		}
	}
	return nil
}

// invalid and refused make errors whose text people read in a task's status:
// it does not name the kind.
func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage("invalid " + fmt.Sprintf(format, args...))
}

func refused(format string, args ...any) error {
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(format, args...))
}
