package statetest

import (
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// Node returns a ready, active worker with 4 CPUs and 8 GiB whose hostname is
// its id. Each of the options changes it.
func Node(id string, options ...func(*state.Node)) *state.Node {
	n := &state.Node{Node: swarm.Node{
		ID:   id,
		Spec: swarm.NodeSpec{Role: swarm.NodeRoleWorker, Availability: swarm.NodeAvailabilityActive, Annotations: swarm.Annotations{Labels: map[string]string{}}},
		Description: swarm.NodeDescription{
			Hostname:  id,
			Platform:  swarm.Platform{OS: "linux", Architecture: "x86_64"},
			Resources: swarm.Resources{NanoCPUs: 4e9, MemoryBytes: 8 << 30},
			Engine:    swarm.EngineDescription{EngineVersion: "20.10.24"},
		},
		Status: swarm.NodeStatus{State: swarm.NodeStateReady, Addr: "10.0.0.1"},
	}}
	for _, o := range options {
		o(n)
	}
	return n
}

// Drained sets a node's availability to drain.
func Drained(n *state.Node) { n.Spec.Availability = swarm.NodeAvailabilityDrain }

// Paused sets a node's availability to pause.
func Paused(n *state.Node) { n.Spec.Availability = swarm.NodeAvailabilityPause }

// Down sets a node's state to down.
func Down(n *state.Node) { n.Status.State = swarm.NodeStateDown }

// Manager makes a node a manager.
func Manager(n *state.Node) { n.Spec.Role = swarm.NodeRoleManager }

// Label sets a label of a node's spec.
func Label(key, value string) func(*state.Node) {
	return func(n *state.Node) { n.Spec.Labels[key] = value }
}

// Service returns a replicated service, at revision 1, whose name is its id,
// and that revision. Each of the options changes the spec of both.
func Service(id string, replicas uint64, options ...func(*swarm.ServiceSpec)) (*state.Service, *state.Revision) {
	spec := swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: id, Labels: map[string]string{}},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "web:1"}},
		Mode:         swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &replicas}},
	}
	for _, o := range options {
		o(&spec)
	}
	return &state.Service{Service: swarm.Service{ID: id, Spec: spec}, Revision: 1},
		&state.Revision{ServiceID: id, Number: 1, Spec: spec}
}

// Global makes a service global.
func Global(s *swarm.ServiceSpec) {
	s.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
}

// Task returns a task of revision 1 of a service that runs on a node; with no
// node it is new. Each of the options changes it.
func Task(id, serviceID string, slot int, nodeID string, options ...func(*state.Task)) *state.Task {
	t := &state.Task{ID: id, ServiceID: serviceID, Revision: 1, Slot: slot, NodeID: nodeID, Desired: taskstate.Running}
	if nodeID != "" {
		t.Status.State = taskstate.Running
	}
	for _, o := range options {
		o(t)
	}
	return t
}

// Observed sets the state in which a task was last seen.
func Observed(s taskstate.State) func(*state.Task) {
	return func(t *state.Task) { t.Status.State = s }
}

// Desired sets the state in which a task should be.
func Desired(s taskstate.State) func(*state.Task) {
	return func(t *state.Task) { t.Desired = s }
}
