// Package assignment is what a manager and a worker say to each other: what
// the worker must run, and what it saw. It holds wire types only; their bytes
// and history are in docs/wire.md.
//
// A session is one HTTP/2 request, POST /session, with newline-delimited JSON
// both ways: Up from the worker, Down from the manager.
package assignment

import (
	"net/netip"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
	"shoal/internal/taskstate"
)

// Path is where a manager serves sessions.
const Path = "/session"

// Version is the version of the protocol that this code speaks.
const Version = 1

// Task is one task that this worker must work on, with all it needs to know.
type Task struct {
	ID          string `json:"id"`
	ServiceID   string `json:"serviceID"`
	ServiceName string `json:"serviceName"`
	Revision    uint64 `json:"revision"`
	Slot        int    `json:"slot,omitempty"` // 0 for global services
	// Desired is Ready (prepare, do not start), Running, Complete, Shutdown or
	// Remove. A task that is no longer assigned at all counts as Remove.
	Desired taskstate.State `json:"desired"`
	// GenericResources were claimed for the task by the scheduler.
	GenericResources []swarm.GenericResource `json:"genericResources,omitempty"`
	// Networks are the cluster networks that the task is on.
	Networks []TaskNetwork `json:"networks,omitempty"`
	// Withdrawn says that all nodes know that the task is to stop: none sends it
	// anything new. Until then a running task with Networks is not stopped.
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Hold says that the image must not be pulled yet: other nodes are asking its
	// registry for it. Without it, also later, the node may pull for good.
	Hold bool `json:"hold,omitempty"`
	// Status is what the managers last heard.
	Status taskstate.Status `json:"status"`
	// Spec is filled in by the receiver from Down.Specs; see Spec.
	Spec *Spec `json:"-"`
}

// NeedsImage reports whether a task that has come so far may still need its
// image, and with it the credentials for the registry: one that is ready may
// lose its container before it is started.
func NeedsImage(desired, observed taskstate.State) bool {
	return desired < taskstate.Shutdown && observed < taskstate.Starting
}

// TaskNetwork is a network that a task is on. On ingress, which publishes its
// ports, the node gives the address.
type TaskNetwork struct {
	NetworkID string         `json:"networkID"`
	Ingress   bool           `json:"ingress,omitempty"`
	Addrs     []netip.Prefix `json:"addrs,omitempty"` // with the length of their subnets
}

// Spec is what all tasks of one revision of a service share. It is sent once
// for a session, before or with the first task that needs it.
type Spec struct {
	ServiceID     string             `json:"serviceID"`
	Revision      uint64             `json:"revision"`
	ServiceLabels map[string]string  `json:"serviceLabels,omitempty"` // for templates
	Task          swarm.TaskSpec     `json:"task"`
	Run           *runspec.Spec      `json:"run,omitempty"`       // what Task cannot say
	HostPorts     []swarm.PortConfig `json:"hostPorts,omitempty"` // host-mode ports to publish
	// RegistryAuth is the X-Registry-Auth value that came with the service. It
	// comes only with a task that is still to be prepared, if need be in a second
	// copy of the spec. It is a secret: never log it.
	RegistryAuth string `json:"registryAuth,omitempty"`
}

// StatusUpdate is the newest status of one task.
type StatusUpdate struct {
	TaskID string           `json:"taskID"`
	Status taskstate.Status `json:"status"`
}

// Up is one line from a worker. A line with nothing set is a heartbeat.
type Up struct {
	Hello *Hello `json:"hello,omitempty"` // first line only
	// Description replaces the node's description when it has changed.
	Description *swarm.NodeDescription `json:"description,omitempty"`
	// Statuses is one batch; Seq numbers batches from 1 within a session. The
	// next batch is sent when the last one was acknowledged.
	Statuses []StatusUpdate `json:"statuses,omitempty"`
	Seq      uint64         `json:"seq,omitempty"`
	// Applied is the Index of the newest line whose Fabric is in effect on this
	// node, in kernel and resolver. It goes with heartbeats, and at once when a
	// line with a Fabric has been carried out.
	Applied uint64 `json:"applied,omitempty"`
}

// Hello opens a session.
type Hello struct {
	Version     int                   `json:"version"` // of the protocol: Version
	Description swarm.NodeDescription `json:"description"`
	// Boot is drawn anew by each start of the daemon: two live boots with one
	// node id are a cloned identity.
	Boot string `json:"boot"`
	// Addr is host:port of the node's cluster listener. Without a host the
	// manager takes the address that the connection comes from.
	Addr string `json:"addr,omitempty"`
	// Index is the state index up to which the worker has its assignments, and
	// Managed the ids of the tasks that it holds. 0: send everything. A manager
	// whose replica is behind Index refuses the session.
	Index   uint64   `json:"index"`
	Managed []string `json:"managed,omitempty"`
	// TunnelKey is the public key of the node's end of encrypted tunnels.
	TunnelKey []byte `json:"tunnelKey,omitempty"`
	// Values are the ids of the secrets and configs that the worker has.
	Values []string `json:"values,omitempty"`
}

// Down is one line from a manager. A line with nothing set is a heartbeat.
type Down struct {
	Welcome *Welcome `json:"welcome,omitempty"` // first line only
	// Full says that Tasks is the whole set: forget every other task.
	Full   bool     `json:"full,omitempty"`
	Index  uint64   `json:"index,omitempty"` // assignments are complete up to here; also on heartbeats
	Specs  []Spec   `json:"specs,omitempty"`
	Tasks  []Task   `json:"tasks,omitempty"`  // new or changed
	Remove []string `json:"remove,omitempty"` // task ids no longer assigned
	// Values are secrets and configs that tasks need, before or with the first
	// task that does, and Forget the ids of those that none needs any more. One
	// that a task needs and that has not come is not in the cluster.
	Values []Value  `json:"values,omitempty"`
	Forget []string `json:"forget,omitempty"`
	Fabric *Fabric  `json:"fabric,omitempty"` // the first line of a session has a full one
	// Ack is the highest Up.Seq whose statuses are committed.
	Ack uint64 `json:"ack,omitempty"`
	// Managers replaces the list of managers when it has changed.
	Managers []Manager `json:"managers,omitempty"`
	// GossipKeys replaces the gossip key ring when it has changed, newest first.
	GossipKeys [][]byte `json:"gossipKeys,omitempty"`
	// Role is set when the node's role differs from its certificate: renew it.
	Role swarm.NodeRole `json:"role,omitempty"`
}

// Welcome answers Hello.
type Welcome struct {
	Version   int           `json:"version"`
	ManagerID string        `json:"managerID"`
	Heartbeat time.Duration `json:"heartbeat"` // send at least this often, nanoseconds
}

// Manager is a manager that a worker may talk to.
type Manager struct {
	NodeID string `json:"nodeID"`
	Addr   string `json:"addr"` // host:port of the cluster listener
}
