package api

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// fileTarget is where a task finds a secret or config.
type fileTarget struct {
	field    string // of the spec
	kind     valueKind
	source   string
	name     string
	uid, gid string
	mode     os.FileMode
}

// path is that in the container.
func (t fileTarget) path() string {
	switch {
	case path.IsAbs(t.name):
		return path.Clean(t.name)
	case t.kind == configValue:
		return path.Join("/", t.name)
	}
	return path.Join("/run/secrets", t.name)
}

// validateValues checks what can be said of a spec's references to secrets and
// configs without looking for them.
func validateValues(spec *swarm.ServiceSpec) error {
	c := spec.TaskTemplate.ContainerSpec
	targets, err := fileTargets(c)
	if err != nil {
		return err
	}
	taken := map[string]string{} // by path, who has it
	for _, m := range c.Mounts {
		taken[path.Clean(m.Target)] = "mount " + m.Target
	}
	names := map[string]string{} // by kind and name, the source
	for _, t := range targets {
		switch key := string(t.kind) + " " + t.name; {
		case t.name == "":
			return rpcInvalid("malformed file %s reference, invalid target file name provided (%s)", t.kind, t.field)
		case names[key] != "":
			return rpcInvalid("%s references '%s' and '%s' have a conflicting target: '%s'", t.kind, names[key], t.source, t.name)
		case taken[t.path()] != "":
			return rpcInvalid("ContainerSpec: %s.File.Name: %s is taken by %s", t.field, t.path(), taken[t.path()])
		default:
			names[key] = t.source
		}
		taken[t.path()] = string(t.kind) + " " + t.source
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what would only come out on the node.
func (t fileTarget) check() error {
	for field, text := range map[string]string{"UID": t.uid, "GID": t.gid} {
		if n, err := strconv.ParseUint(text, 10, 32); text != "" && (err != nil || n > 1<<31-1) {
			return rpcInvalid("ContainerSpec: invalid %s.File.%s %q: a number is expected", t.field, field, text)
		}
	}
	switch {
	case strings.HasSuffix(t.name, "/") || t.path() == "/" || strings.ContainsRune(t.name, 0):
		return rpcInvalid("ContainerSpec: invalid %s.File.Name %q: a file name is expected", t.field, t.name)
	case t.mode > 0o777:
		return rpcInvalid("ContainerSpec: invalid %s.File.Mode %#o: permissions up to 0777 are allowed", t.field, uint32(t.mode))
	}
	return nil
}

// fileTargets lists where a container's secrets and configs go.
func fileTargets(c *swarm.ContainerSpec) (targets []fileTarget, err error) {
	for i, ref := range c.Secrets {
		switch {
		case ref == nil || ref.SecretID == "" || ref.SecretName == "":
			return nil, rpcInvalid("malformed secret reference (ContainerSpec.Secrets[%d] needs SecretID and SecretName)", i)
		case ref.File == nil:
			return nil, rpcInvalid("malformed secret reference, no target provided (ContainerSpec.Secrets[%d].File)", i)
		}
		f := ref.File
		targets = append(targets, fileTarget{fmt.Sprintf("Secrets[%d]", i), secretValue, ref.SecretName, f.Name, f.UID, f.GID, f.Mode})
	}
	for i, ref := range c.Configs {
		switch {
		case ref != nil && ref.Runtime == nil && ref.File == nil:
			return nil, invalid("invalid Config: either File or Runtime should be set (ContainerSpec.Configs[%d])", i)
		case ref != nil && ref.Runtime != nil && ref.File != nil:
			return nil, invalid("invalid Config: cannot specify both File and Runtime (ContainerSpec.Configs[%d])", i)
		case ref == nil || ref.ConfigID == "" || ref.ConfigName == "":
			return nil, rpcInvalid("malformed config reference (ContainerSpec.Configs[%d] needs ConfigID and ConfigName)", i)
		case ref.Runtime != nil:
			return nil, unsupported(fmt.Sprintf("ContainerSpec.Configs[%d].Runtime", i), "credential specs are for Windows nodes, leave it out")
		}
		f := ref.File
		targets = append(targets, fileTarget{fmt.Sprintf("Configs[%d]", i), configValue, ref.ConfigName, f.Name, f.UID, f.GID, f.Mode})
	}
	return targets, nil
}

// resolveValues refuses a spec that refers to a secret or config which there
// is not. What a service newly refers to by a plain name is its newest version,
// also when the client has looked it up a moment too early; old, if not nil, is
// the spec before, whose versions stay as they are.
func resolveValues(v *state.View, spec, old *swarm.ServiceSpec) error {
	var had []string
	if old != nil {
		had = slices.Collect(state.ValuesOf(old))
	}
	for _, k := range []valueKind{secretValue, configValue} {
		var missing []string
		k.mapReferences(spec, func(id, name string) string {
			x := k.get(v, id)
			switch {
			case x == nil || !x.answersTo(name):
				missing = append(missing, name)
			case name == x.spec.Name && !slices.Contains(had, id):
				return k.newest(v, name).id
			}
			return id
		})
		switch len(missing) {
		case 0:
		case 1:
			return rpcInvalid("%s not found: %s", k, missing[0])
		default:
			return rpcInvalid("%ss not found: %s", k, strings.Join(missing, ", "))
		}
	}
	return nil
}
