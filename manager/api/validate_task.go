package api

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/constraint"
)

const (
	minNanoCPUs = 1e6     // 0.001 CPU
	minMemory   = 4 << 20 // what an engine needs to start a container
)

func itoa(i int) string { return strconv.Itoa(i) }

func validateTask(spec *swarm.ServiceSpec) error {
	t := spec.TaskTemplate
	for _, err := range []error{
		validateResources(t.Resources),
		validateRestart(t.RestartPolicy),
		validatePlacement(t.Placement),
		validateLogDriver(t.LogDriver),
		validateContainer(spec),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func validateResources(r *swarm.ResourceRequirements) error {
	if r == nil {
		return nil
	}
	if l := r.Limits; l != nil {
		if err := validateAmounts("Resources.Limits", l.NanoCPUs, l.MemoryBytes); err != nil {
			return err
		}
		if l.Pids < -1 { // -1 is how compose files say that there is no limit
			return rpcInvalid("invalid pids value %d: must be at least 0, or -1 for no limit (Resources.Limits.Pids)", l.Pids)
		}
	}
	if r.Reservations == nil {
		return nil
	}
	if err := validateAmounts("Resources.Reservations", r.Reservations.NanoCPUs, r.Reservations.MemoryBytes); err != nil {
		return err
	}
	return validateGeneric(r.Reservations.GenericResources)
}

func validateAmounts(field string, nanoCPUs, memory int64) error {
	if nanoCPUs != 0 && nanoCPUs < minNanoCPUs {
		return rpcInvalid("invalid cpu value %g: Must be at least 0.001 (%s.NanoCPUs)", float64(nanoCPUs)/1e9, field)
	}
	if memory != 0 && memory < minMemory {
		return rpcInvalid("invalid memory value %d: Must be at least 4MiB (%s.MemoryBytes)", memory, field)
	}
	return nil
}

func validateGeneric(resources []swarm.GenericResource) error {
	seen := map[string]bool{}
	for i, g := range resources {
		field := "Resources.Reservations.GenericResources[" + itoa(i) + "]"
		d := g.DiscreteResourceSpec
		switch {
		case g.NamedResourceSpec != nil:
			return rpcInvalid("%s: named resources are what nodes have, ask for a DiscreteResourceSpec", field)
		case d == nil || d.Kind == "":
			return rpcInvalid("%s: a DiscreteResourceSpec with a Kind is missing", field)
		case d.Value <= 0:
			return rpcInvalid("%s: invalid value %d of %s: must be at least 1", field, d.Value, d.Kind)
		case seen[d.Kind]:
			return rpcInvalid("%s: %s is asked for twice", field, d.Kind)
		}
		seen[d.Kind] = true
	}
	return nil
}

func validateRestart(p *swarm.RestartPolicy) error {
	switch {
	case p == nil:
		return nil
	case deref(p.Delay) < 0:
		return rpcInvalid("TaskSpec: restart-delay cannot be negative")
	case deref(p.Window) < 0:
		return rpcInvalid("TaskSpec: restart-window cannot be negative")
	}
	return nil
}

// validatePlacement: a constraint that cannot be read has no kind in Swarm, so
// it is answered with status 500.
func validatePlacement(p *swarm.Placement) error {
	if p == nil {
		return nil
	}
	if _, err := constraint.Parse(p.Constraints); err != nil {
		return rpcUnknown("%s", err)
	}
	for i, preference := range p.Preferences {
		field := "Placement.Preferences[" + itoa(i) + "].Spread"
		if preference.Spread == nil {
			return rpcInvalid("%s: missing, it is the only strategy there is", field)
		}
		d := strings.ToLower(preference.Spread.SpreadDescriptor)
		if label := strings.TrimPrefix(strings.TrimPrefix(d, "node.labels."), "engine.labels."); label == d || label == "" {
			return rpcInvalid("%s: invalid descriptor %q, allowed are node.labels.KEY and engine.labels.KEY", field, preference.Spread.SpreadDescriptor)
		}
	}
	return nil
}

func validateLogDriver(d *swarm.Driver) error {
	if d != nil && d.Name == "" {
		return rpcInvalid("driver name: if driver is specified name is required (TaskTemplate.LogDriver.Name)")
	}
	return nil
}

// validDuration: the engine takes 0 for unset, and counts in milliseconds.
func validDuration(d time.Duration) bool { return d == 0 || d >= time.Millisecond }
