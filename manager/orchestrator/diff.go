package orchestrator

import (
	"bytes"
	"encoding/json"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/constraint"
	"shoal/raftstore/state"
)

// difference is what separates a revision from the service's own, as far as
// it matters to a task. Names, labels of the service, credentials, scale and
// update settings do not.
type difference int

const (
	differsNot difference = iota
	differsInPlacement
	differs
)

// compareSpecs says whether tasks made to spec a serve for spec b. Empty and
// absent values are the same, so that posting a spec again changes nothing.
func compareSpecs(a, b *swarm.ServiceSpec) difference {
	strip := func(s *swarm.ServiceSpec) any {
		task := s.TaskTemplate
		task.Placement = nil
		return struct {
			Task     swarm.TaskSpec
			Endpoint *swarm.EndpointSpec             `json:",omitempty"`
			Networks []swarm.NetworkAttachmentConfig `json:",omitempty"`
		}{task, s.EndpointSpec, s.Networks} //nolint:staticcheck // old clients still set it
	}
	if !sameJSON(strip(a), strip(b)) {
		return differs
	}
	if !sameJSON(placement(a), placement(b)) {
		return differsInPlacement
	}
	return differsNot
}

func placement(s *swarm.ServiceSpec) swarm.Placement {
	if s.TaskTemplate.Placement == nil {
		return swarm.Placement{}
	}
	return *s.TaskTemplate.Placement
}

func sameJSON(a, b any) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// facts are what constraints may ask about a node.
func facts(n *state.Node) constraint.Facts {
	return constraint.Facts{
		ID: n.ID, Hostname: n.Description.Hostname, IP: n.Status.Addr, Role: string(n.Spec.Role),
		OS: n.Description.Platform.OS, Arch: n.Description.Platform.Architecture,
		NodeLabels: n.Spec.Labels, EngineLabels: n.Description.Engine.Labels,
	}
}
