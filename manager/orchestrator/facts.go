package orchestrator

import (
	"shoal/internal/constraint"
	"shoal/raftstore/state"
)

// facts are what constraints may ask about a node.
func facts(n *state.Node) constraint.Facts {
	return constraint.Facts{
		ID: n.ID, Hostname: n.Description.Hostname, IP: n.Status.Addr, Role: string(n.Spec.Role),
		OS: n.Description.Platform.OS, Arch: n.Description.Platform.Architecture,
		NodeLabels: n.Spec.Labels, EngineLabels: n.Description.Engine.Labels,
	}
}
