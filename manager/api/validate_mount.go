package api

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"
)

func validateMounts(mounts []mount.Mount) error {
	seen := map[string]bool{}
	for i, m := range mounts {
		field := "ContainerSpec.Mounts[" + itoa(i) + "]"
		if err := checkMountEnums(field, m); err != nil {
			return err
		}
		if err := validateMount(field, m); err != nil {
			return err
		}
		target := path.Clean(m.Target)
		if seen[target] {
			return rpcInvalid("ContainerSpec: duplicate mount point: %s", m.Target)
		}
		seen[target] = true
	}
	return nil
}

func checkMountEnums(field string, m mount.Mount) error {
	switch m.Type {
	case mount.TypeBind, mount.TypeVolume, mount.TypeTmpfs:
	case mount.TypeCluster:
		return unsupported(field+".Type cluster", "use a volume of a driver that all nodes have")
	case mount.TypeNamedPipe:
		return unsupported(field+".Type npipe", "it is for Windows nodes, use bind")
	default:
		return invalid("invalid MountType: %q (%s)", m.Type, field)
	}
	if b := m.BindOptions; b != nil && b.Propagation != "" && !slices.Contains(mount.Propagations, b.Propagation) {
		return invalid("invalid MountPropagation: %q (%s)", b.Propagation, field)
	}
	switch m.Consistency {
	case "", mount.ConsistencyDefault, mount.ConsistencyFull, mount.ConsistencyCached, mount.ConsistencyDelegated:
	default:
		return invalid("invalid Consistency: %q (%s)", m.Consistency, field)
	}
	return nil
}

func validateMount(field string, m mount.Mount) error {
	bad := func(format string, args ...any) error {
		return rpcInvalid("invalid mount config for type %q: "+format+" (%s)", append(append([]any{m.Type}, args...), field)...)
	}
	switch {
	case m.Target == "":
		return bad("field Target must not be empty")
	case !isTemplate(m.Target) && !path.IsAbs(m.Target):
		return bad("invalid mount path: '%s' mount path must be absolute", m.Target)
	case path.Clean(m.Target) == "/":
		return bad("invalid specification: destination can't be '/'")
	}
	if extra := strayOptions(m); extra != "" {
		return bad("field %s must not be specified", extra)
	}
	switch m.Type {
	case mount.TypeBind:
		if m.Source == "" {
			return bad("field Source must not be empty")
		}
		if !isTemplate(m.Source) && !path.IsAbs(m.Source) {
			return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
		}
	case mount.TypeVolume:
		return validateVolume(m, bad)
	case mount.TypeTmpfs:
		return validateTmpfs(m, bad)
	default: // refused before
	}
	return nil
}

// strayOptions names options that belong to another type of mount.
func strayOptions(m mount.Mount) string {
	switch {
	case m.BindOptions != nil && m.Type != mount.TypeBind:
		return "BindOptions"
	case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
		return "VolumeOptions"
	case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
		return "TmpfsOptions"
	case m.ImageOptions != nil:
		return "ImageOptions"
	case m.ClusterOptions != nil:
		return "ClusterOptions"
	}
	return ""
}

type refuse func(format string, args ...any) error

func validateVolume(m mount.Mount, bad refuse) error {
	if m.Source != "" && !isTemplate(m.Source) && !isVolumeName(m.Source) {
		return bad("%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path in a bind mount", m.Source)
	}
	if m.Source == "" && m.ReadOnly {
		return bad("must not set ReadOnly mode when using anonymous volumes")
	}
	if o := m.VolumeOptions; o != nil && o.Subpath != "" {
		if m.Source == "" {
			return bad("must not set Subpath when using anonymous volumes")
		}
		if !filepath.IsLocal(o.Subpath) {
			return bad("subpath must be a relative path within the volume")
		}
	}
	return nil
}

func isVolumeName(name string) bool {
	return len(name) > 1 && isAlphanumeric(name[0]) && every(name, func(c byte) bool {
		return isAlphanumeric(c) || c == '_' || c == '.' || c == '-'
	})
}

func validateTmpfs(m mount.Mount, bad refuse) error {
	if m.Source != "" {
		return bad("field Source must not be specified")
	}
	o := m.TmpfsOptions
	switch {
	case o == nil:
		return nil
	case o.SizeBytes < 0:
		return bad("invalid SizeBytes %d: must not be negative", o.SizeBytes)
	case o.Mode > 0o7777:
		return bad("invalid Mode %o: allowed are 0 to 7777", uint32(o.Mode))
	}
	for _, option := range o.Options {
		if len(option) < 1 || len(option) > 2 || strings.TrimSpace(option[0]) == "" {
			return bad("invalid tmpfs option %q: a name, and maybe a value, are expected", option)
		}
	}
	return nil
}
