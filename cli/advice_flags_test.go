package cli

import (
	"testing"

	"github.com/docker/docker/api/types/swarm"
)

// The flags that shoal why advises are ones that the command takes, and they do
// what was advised.
func TestAdvisedFlagsAreTaken(t *testing.T) {
	f := cluster(t)
	web := f.services["service1xxxxxxxxxxxxxxxxx"]
	web.Spec.TaskTemplate.Placement = &swarm.Placement{Constraints: []string{"node.hostname == n9", "node.labels.disk==ssd"}}
	web.Spec.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{
		MemoryBytes: 8 << 30, NanoCPUs: 6e9, GenericResources: []swarm.GenericResource{{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: 3}}},
	}}
	check := func(args []string, ok func(swarm.TaskSpec) bool) {
		t.Helper()
		_, stderr, code := f.run(t, append([]string{"service", "update", "-d"}, append(args, "web")...)...)
		if spec := f.services["service1xxxxxxxxxxxxxxxxx"].Spec.TaskTemplate; code != 0 || !ok(spec) {
			t.Errorf("%q: exit %d, stderr %q, spec %+v %+v", args, code, stderr, spec.Placement, spec.Resources)
		}
	}
	reserved := func(s swarm.TaskSpec) swarm.Resources { return *s.Resources.Reservations }
	check([]string{"--reserve-memory", "6GiB"}, func(s swarm.TaskSpec) bool { return reserved(s).MemoryBytes == 6<<30 })
	check([]string{"--reserve-memory", "5001MiB"}, func(s swarm.TaskSpec) bool { return reserved(s).MemoryBytes == 5001<<20 })
	check([]string{"--reserve-cpu", "3.25"}, func(s swarm.TaskSpec) bool { return reserved(s).NanoCPUs == 325e7 })
	check([]string{"--generic-resource-add", "gpu=2"}, func(s swarm.TaskSpec) bool {
		g := reserved(s).GenericResources
		return len(g) == 1 && g[0].DiscreteResourceSpec.Value == 2
	})
	check([]string{"--generic-resource-rm", "gpu"}, func(s swarm.TaskSpec) bool { return len(reserved(s).GenericResources) == 0 })
	check([]string{"--reserve-memory", "0"}, func(s swarm.TaskSpec) bool { return reserved(s).MemoryBytes == 0 })
	check([]string{"--reserve-cpu", "0"}, func(s swarm.TaskSpec) bool {
		return s.Resources == nil || s.Resources.Reservations == nil || reserved(s).NanoCPUs == 0
	})
	check([]string{"--replicas-max-per-node", "2"}, func(s swarm.TaskSpec) bool { return s.Placement.MaxReplicas == 2 })
	check([]string{"--constraint-rm", "node.hostname == n9"}, func(s swarm.TaskSpec) bool { return len(s.Placement.Constraints) == 1 })
	check([]string{"--constraint-rm", "node.labels.disk==ssd"}, func(s swarm.TaskSpec) bool { return len(s.Placement.Constraints) == 0 })
}
