package dispatcher

import (
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
)

// Batch is what one manager has heard from its workers. It travels to the
// leader as JSON. Handling one twice does no harm.
type Batch struct {
	ManagerID    string        `json:"managerID"`
	Opened       []Opened      `json:"opened,omitempty"` // want to be granted
	Alive        []Alive       `json:"alive,omitempty"`
	Gone         []Gone        `json:"gone,omitempty"` // sessions that were closed
	Descriptions []Description `json:"descriptions,omitempty"`
	Statuses     []Status      `json:"statuses,omitempty"`
	Applied      []Applied     `json:"applied,omitempty"`
}

// Applied says up to which index of the state a node has its networks in
// effect.
type Applied struct {
	NodeID string `json:"nodeID"`
	Boot   string `json:"boot"`
	Index  uint64 `json:"index"`
}

// Opened is a session that a worker has asked for.
type Opened struct {
	NodeID string `json:"nodeID"`
	Boot   string `json:"boot"`
	// Addr is host:port of the node's cluster listener, "" if not known.
	Addr string `json:"addr,omitempty"`
	// Description is the zero value if the worker cannot tell now.
	Description swarm.NodeDescription `json:"description"`
	// TunnelKey is the public key of the node's end of encrypted tunnels.
	TunnelKey []byte `json:"tunnelKey,omitempty"`
}

// Alive is the newest sign of life of a session.
type Alive struct {
	NodeID string        `json:"nodeID"`
	Boot   string        `json:"boot"`
	Age    time.Duration `json:"age"` // nanoseconds since then
}

// Gone is a session that has ended.
type Gone struct {
	NodeID string `json:"nodeID"`
	Boot   string `json:"boot"`
}

// Description is a node's changed description.
type Description struct {
	NodeID      string                `json:"nodeID"`
	Description swarm.NodeDescription `json:"description"`
}

// Status is what the worker NodeID says of one task.
type Status struct {
	NodeID string           `json:"nodeID"`
	TaskID string           `json:"taskID"`
	Status taskstate.Status `json:"status"`
}

// Answer is what the leader says to a batch.
type Answer struct {
	Refused []Refusal `json:"refused,omitempty"`
}

// Refusal names a session that must not be served, opened or already running.
type Refusal struct {
	NodeID string `json:"nodeID"`
	Boot   string `json:"boot"`
	Clone  bool   `json:"clone,omitempty"` // another daemon with this id is alive
	Reason string `json:"reason"`
}
