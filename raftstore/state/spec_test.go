package state_test

import (
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func TestCompareSpecs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*swarm.ServiceSpec)
		want   state.Difference
	}{
		"the same":        {func(*swarm.ServiceSpec) {}, state.DiffersNot},
		"labels":          {func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"a": "b"} }, state.DiffersNot},
		"scale":           {func(s *swarm.ServiceSpec) { s.Mode.Replicated.Replicas = new(uint64(9)) }, state.DiffersNot},
		"update settings": {func(s *swarm.ServiceSpec) { s.UpdateConfig = &swarm.UpdateConfig{Parallelism: 3} }, state.DiffersNot},
		"empty structs": {func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{}}
		}, state.DiffersNot},
		"empty lists":          {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Env = []string{} }, state.DiffersNot},
		"an empty placement":   {func(s *swarm.ServiceSpec) { s.TaskTemplate.Placement = &swarm.Placement{} }, state.DiffersNot},
		"placement":            {func(s *swarm.ServiceSpec) { s.TaskTemplate.Placement = &swarm.Placement{MaxReplicas: 1} }, state.DiffersInPlacement},
		"image":                {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "web:2" }, state.Differs},
		"labels of containers": {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Labels = map[string]string{"a": "b"} }, state.Differs},
		"force":                {func(s *swarm.ServiceSpec) { s.TaskTemplate.ForceUpdate++ }, state.Differs},
		"ports": {func(s *swarm.ServiceSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{TargetPort: 80}}}
		}, state.Differs},
		"false is not absent": {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Init = new(false) }, state.Differs},
		"an empty argument":   {func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Args = []string{""} }, state.Differs},
	} {
		a, _ := statetest.Service("web", 1)
		b, _ := statetest.Service("web", 1)
		c.change(&b.Spec)
		if got := state.CompareSpecs(&a.Spec, &b.Spec); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
