package api

import (
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/constraint"
	"shoal/manager/scheduler"
	"shoal/raftstore/state"
)

// taskJoin gives tasks the spec of their revision. What many tasks share is
// looked up once.
type taskJoin struct {
	view      *state.View
	revisions map[revisionKey]*state.Revision
	same      map[revisionKey]state.Difference
}

type revisionKey struct {
	serviceID string
	number    uint64
}

func newTaskJoin(v *state.View) *taskJoin {
	return &taskJoin{view: v, revisions: map[revisionKey]*state.Revision{}, same: map[revisionKey]state.Difference{}}
}

func (j *taskJoin) revision(serviceID string, number uint64) *state.Revision {
	key := revisionKey{serviceID, number}
	r, ok := j.revisions[key]
	if !ok {
		r = j.view.Revision(serviceID, number)
		j.revisions[key] = r
	}
	return r
}

// present is what clients see of a task.
func (j *taskJoin) present(t *state.Task) swarm.Task {
	out := swarm.Task{
		ID: t.ID, Meta: t.Meta, ServiceID: t.ServiceID, Slot: t.Slot, NodeID: t.NodeID,
		Annotations: swarm.Annotations{Labels: map[string]string{}},
		Status: swarm.TaskStatus{
			Timestamp: t.Status.At, State: t.Status.State.Docker(), Message: t.Status.Message, Err: t.Status.Err,
			PortStatus: swarm.PortStatus{Ports: t.Status.Ports},
		},
		DesiredState: t.Desired.Docker(), GenericResources: t.GenericResources, NetworksAttachments: j.attachments(t),
		JobIteration: t.JobIteration,
	}
	if out.Status.Timestamp.IsZero() {
		out.Status.Timestamp = t.UpdatedAt
	}
	if t.Status.ContainerID != "" || t.Status.ExitCode != 0 {
		out.Status.ContainerStatus = &swarm.ContainerStatus{
			ContainerID: t.Status.ContainerID, PID: t.Status.PID, ExitCode: t.Status.ExitCode,
		}
	}
	if r := j.revision(t.ServiceID, t.Revision); r != nil {
		out.Spec = r.Spec.TaskTemplate
		out.Spec.Runtime = "" // only services tell it
	}
	if out.Spec.ContainerSpec == nil {
		out.Spec.ContainerSpec = &swarm.ContainerSpec{} // the docker CLI reads its image unasked
	}
	return out
}

// upToDate reports whether a task needs no replacement to be what its service
// asks for.
func (j *taskJoin) upToDate(t *state.Task) bool {
	s := j.view.Service(t.ServiceID)
	if s == nil {
		return false
	}
	if t.Revision == s.Revision {
		return true
	}
	switch j.compare(s, t.Revision) {
	case state.DiffersNot:
		return true
	case state.DiffersInPlacement:
		return j.placeable(s, t.NodeID)
	default:
		return false
	}
}

// compare says how a revision differs from the service's own.
func (j *taskJoin) compare(s *state.Service, number uint64) state.Difference {
	key := revisionKey{s.ID, number}
	if known, ok := j.same[key]; ok {
		return known
	}
	result := state.Differs
	if r := j.revision(s.ID, number); r != nil && state.SameJSON(r.Run, j.view.RunOf(s)) {
		result = state.CompareSpecs(&r.Spec, &s.Spec)
	}
	j.same[key] = result
	return result
}

func (j *taskJoin) placeable(s *state.Service, nodeID string) bool {
	n := j.view.Node(nodeID)
	if n == nil || s.Spec.TaskTemplate.Placement == nil {
		return n != nil
	}
	constraints, err := constraint.Parse(s.Spec.TaskTemplate.Placement.Constraints)
	return err == nil && constraint.MatchAll(constraints, scheduler.Facts(n))
}
