// Package taskstate orders the states of a task's life and holds what a worker
// reports about it. Manager and worker both speak it, so it imports neither.
package taskstate

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// State is how far a task has come. States are ordered: an observed state
// never goes back. The numbers are those of Docker Swarm and are stored in
// logs and snapshots: never reuse one.
type State uint16

// The states of a task, in order.
const (
	New       State = 0   // created by the orchestrator
	Pending   State = 64  // has its addresses and ports, waits for a node
	Assigned  State = 192 // has a node
	Accepted  State = 256 // the worker has seen it
	Preparing State = 320 // image, mounts and container are being made
	Ready     State = 384 // could start; as a desired state: wait before starting
	Starting  State = 448 // started, not yet healthy
	Running   State = 512
	Complete  State = 576 // exit code 0
	Shutdown  State = 640 // stopped because it was asked to
	Failed    State = 704 // ended badly after it had been started
	Rejected  State = 768 // could not be started at all
	Remove    State = 800 // desired only: stop it and forget it
	Orphaned  State = 832 // its node is gone for good
)

var names = map[State]swarm.TaskState{ //nolint:gochecknoglobals // a constant table
	New: swarm.TaskStateNew, Pending: swarm.TaskStatePending, Assigned: swarm.TaskStateAssigned,
	Accepted: swarm.TaskStateAccepted, Preparing: swarm.TaskStatePreparing, Ready: swarm.TaskStateReady,
	Starting: swarm.TaskStateStarting, Running: swarm.TaskStateRunning, Complete: swarm.TaskStateComplete,
	Shutdown: swarm.TaskStateShutdown, Failed: swarm.TaskStateFailed, Rejected: swarm.TaskStateRejected,
	Remove: swarm.TaskStateRemove, Orphaned: swarm.TaskStateOrphaned,
}

// All returns every state, in order.
func All() []State {
	return []State{New, Pending, Assigned, Accepted, Preparing, Ready, Starting, Running, Complete, Shutdown, Failed, Rejected, Remove, Orphaned}
}

// Docker returns the state as Docker's API names it.
func (s State) Docker() swarm.TaskState {
	if name, ok := names[s]; ok {
		return name
	}
	return swarm.TaskState(fmt.Sprintf("state(%d)", uint16(s)))
}

func (s State) String() string { return string(s.Docker()) }

// Terminal reports whether a task observed in s has ended and will not move
// again by itself.
func (s State) Terminal() bool { return s > Running }

// Parse returns the state with Docker's name for it.
func Parse(name string) (State, error) {
	for s, n := range names {
		if string(n) == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown task state %q", name)
}

// MarshalText writes the state by name.
func (s State) MarshalText() ([]byte, error) {
	name, ok := names[s]
	if !ok {
		return nil, fmt.Errorf("unknown task state %d", uint16(s))
	}
	return []byte(name), nil
}

// UnmarshalText reads the state by name; an unknown name is an error, so that
// a newer peer's state is never taken for another one.
func (s *State) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// Status is what was last seen of a task. Up to Assigned the managers write
// it, from Accepted on the worker that has the task.
type Status struct {
	State       State              `json:"state"`
	At          time.Time          `json:"at,omitzero"`           // when State was entered, by the writer's clock
	Message     string             `json:"message,omitempty"`     // what is being done, Swarm's wording
	Err         string             `json:"err,omitempty"`         // why it is stuck or ended badly
	ContainerID string             `json:"containerID,omitempty"` // the engine's id
	PID         int                `json:"pid,omitempty"`
	ExitCode    int                `json:"exitCode,omitempty"`
	Ports       []swarm.PortConfig `json:"ports,omitempty"` // host-mode ports as bound
	Addrs       []netip.Addr       `json:"addrs,omitempty"` // on the node's gateway network
}
