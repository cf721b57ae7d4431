// Package state is the replicated state of a cluster: its objects, the tables
// and indexes they live in, and the changes that move it from one index to
// the next.
//
// It is pure: no clock, randomness, I/O, logger or goroutine, and it knows
// nothing of Raft. Two replicas that apply the same entries hold equal state.
// Stored objects are immutable: whoever wants to change one puts a copy.
package state

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/volume"

	"shoal/internal/runspec"
	"shoal/internal/taskstate"
)

// Kind names a table. The names are written to logs and snapshots: never
// rename or reuse one.
type Kind string

// The kinds of objects.
const (
	KindCluster  Kind = "cluster"
	KindNode     Kind = "node"
	KindService  Kind = "service"
	KindRevision Kind = "revision"
	KindTask     Kind = "task"
	KindNetwork  Kind = "network"
	KindSecret   Kind = "secret"
	KindConfig   Kind = "config"
	KindVolume   Kind = "volume"
	KindRequest  Kind = "request"
	// KindAttachment is since 2026-11-25.
	KindAttachment Kind = "attachment"
)

// Object is one stored thing. Its implementations are pointers to the structs
// of this package.
type Object interface {
	Kind() Kind
	// Key identifies the object among those of its kind.
	Key() string
	meta() *swarm.Meta
	clone() Object // shallow
}

// Cluster is the one object that describes the cluster itself.
type Cluster struct {
	swarm.ClusterInfo
	Tokens     Tokens   `json:",omitzero"`
	RootCert   []byte   `json:",omitempty"` // PEM
	RootKey    []byte   `json:",omitempty"` // PEM, PKCS 8; secret
	GossipKeys [][]byte `json:",omitempty"` // 32 bytes each, newest first; secret
	// MeshPool is where nodes get the subnets of their gateway networks from.
	MeshPool netip.Prefix `json:",omitzero"`
	// OverlayKeys are what pairs of nodes derive the preshared keys of their
	// tunnels from, newest first; 32 bytes each, secret.
	OverlayKeys  [][]byte  `json:",omitempty"`
	OverlayKeyAt time.Time `json:",omitzero"` // when the newest was made
	// FeatureLevel is the highest level that every manager understands. Kinds
	// and fields of a later level are not written.
	FeatureLevel int `json:",omitempty"`
	// Rebalance counts for services that have no setting of their own.
	Rebalance Rebalance `json:",omitempty"`
}

// Tokens are the join tokens, one for each role.
type Tokens struct {
	Worker, Manager Token
}

// Token is a join token without its secret, which managers derive from the
// root key and Generation.
type Token struct {
	Generation uint64 // rotation adds one
	Hash       []byte // SHA-256 of the secret part
}

// Node is a machine of the cluster. Spec.Role is the role that it should have;
// ManagerStatus is not stored, it is computed when asked for.
type Node struct {
	swarm.Node
	Addr       string `json:",omitempty"` // host:port of its cluster listener
	GossipAddr string `json:",omitempty"` // host:port of its gossip listener
	Boot       string `json:",omitempty"` // drawn by each start of its daemon
	// DownSince is when Status.State became down; zero in every other state.
	DownSince time.Time `json:",omitzero"`
	// StartFirst says that the node is drained so that each task serves until its
	// successor runs, whatever its service says.
	StartFirst bool `json:",omitempty"`
	// ReturnedAt is when the node was last heard of again after it had been down;
	// zero: never.
	ReturnedAt time.Time `json:",omitzero"`
	// MeshIndex numbers the node's place in the mesh, from 1, and Mesh are the
	// subnets of its gateway network, one for each family; 0: it has none yet.
	MeshIndex int            `json:",omitempty"`
	Mesh      []netip.Prefix `json:",omitempty"`
	// TunnelKey is the public key of the node's end of encrypted tunnels.
	TunnelKey []byte `json:",omitempty"`
}

// Service is what the user asked for. Spec is that of Revision.
type Service struct {
	swarm.Service
	Revision         uint64 `json:",omitempty"` // from 1
	PreviousRevision uint64 `json:",omitempty"` // of PreviousSpec; 0: none
	// UpdateResumed is when the update under way was last resumed: slots that had
	// failed before are forgiven. Zero: it never was.
	UpdateResumed time.Time `json:",omitzero"`
	// RegistryAuth is the X-Registry-Auth value that came with Spec. Secret.
	RegistryAuth string `json:",omitempty"`
	// Rebalance is the service's own setting; it stays in updates and rollbacks.
	Rebalance Rebalance `json:",omitempty"`
	// RebalanceAsked is when a user asked for the tasks to be spread anew,
	// whatever the setting is. Zero: that is done, or was never asked.
	RebalanceAsked time.Time `json:",omitzero"`
}

// Revision is one accepted spec of a service. Tasks point at it instead of
// carrying it.
type Revision struct {
	swarm.Meta
	ServiceID    string
	Number       uint64
	Spec         swarm.ServiceSpec
	RegistryAuth string `json:",omitempty"` // secret
	// RollbackTo is the revision whose spec this one brings back; 0: none.
	RollbackTo uint64 `json:",omitempty"`
	// Run is what Spec cannot say of the containers; nil: nothing.
	Run *runspec.Spec `json:",omitempty"`
}

// Task is one run of a container: a place in a service, and how far it came.
type Task struct {
	ID string
	swarm.Meta
	ServiceID string
	Revision  uint64
	Slot      int    `json:",omitempty"` // from 1, of jobs from 0; 0 for global services
	NodeID    string `json:",omitempty"`
	Desired   taskstate.State
	Status    taskstate.Status
	// GenericResources are those that the scheduler claimed on the node.
	GenericResources []swarm.GenericResource `json:",omitempty"`
	// StartAfter keeps a task whose desired state is Ready from being started:
	// the restart delay.
	StartAfter time.Time `json:",omitzero"`
	Restarts   Restarts  `json:",omitzero"`
	// JobIteration is the run of a job, from 0, that the task belongs to; nil for
	// tasks of services that are no jobs.
	JobIteration *swarm.Version `json:",omitempty"`
	// Networks are those that the allocator put the task on: all cluster
	// networks of its spec, and ingress if its service publishes ports.
	Networks []TaskNetwork `json:",omitempty"`
	// Withdrawn says that no node sends the task anything new: it may stop.
	Withdrawn bool `json:",omitempty"`
	// MoveTo is the node on which the task would be better placed, if it is to be
	// moved there.
	MoveTo string `json:",omitempty"`
	// Moves is the task whose place this one is to take, which serves until then.
	Moves string `json:",omitempty"`
	// Unmoved tells of moves of this task that were given up.
	Unmoved Unmoved `json:",omitzero"`
}

// Unmoved is the history of moves that came to nothing.
type Unmoved struct {
	Count int       `json:",omitempty"` // in a row
	Until time.Time `json:",omitzero"`  // none is tried before
	Err   string    `json:",omitempty"` // why the last one was given up
}

// Restarts is the history of a slot under one revision, as far as the next
// decision needs it.
type Restarts struct {
	Count  uint64      `json:",omitempty"` // restarts that led to this task
	Recent []time.Time `json:",omitempty"` // those inside the policy's window
	Quick  int         `json:",omitempty"` // failures in a row soon after the start
}

// Network is a cluster network.
type Network struct {
	swarm.Network
	VNI       uint32 `json:",omitempty"` // VXLAN network identifier
	Pools     []Pool `json:",omitempty"` // the same as IPAMOptions, IPv4 first
	Encrypted bool   `json:",omitempty"`
	MTU       int    `json:",omitempty"` // as the user asked; 0: each node's default
}

// Secret is a named value that tasks receive as a file. Spec.Data is secret,
// and never changes: another value is another version of the name.
type Secret struct {
	swarm.Secret
	// Number counts the versions of a name; 0 is the first one, too.
	Number uint64 `json:",omitempty"`
}

// Config is a named value like a secret that may be read back.
type Config struct {
	swarm.Config
	Number uint64 `json:",omitempty"` // as a secret's
}

// Volume is a cluster volume.
type Volume struct {
	volume.Volume
	swarm.Meta
}

// Request is the outcome of a write that carried a request id, so that the
// write can be repeated when its answer was lost.
type Request struct {
	ID string
	swarm.Meta
	Status int    // HTTP status
	Body   []byte `json:",omitempty"`
}

// RevisionKey is the key of a service's revision number n. Keys of one service
// sort by number.
func RevisionKey(serviceID string, n uint64) string {
	return fmt.Sprintf("%s/%012d", serviceID, n)
}

// Kind implements Object.
func (*Cluster) Kind() Kind  { return KindCluster }
func (*Node) Kind() Kind     { return KindNode }     // Kind implements Object.
func (*Service) Kind() Kind  { return KindService }  // Kind implements Object.
func (*Revision) Kind() Kind { return KindRevision } // Kind implements Object.
func (*Task) Kind() Kind     { return KindTask }     // Kind implements Object.
func (*Network) Kind() Kind  { return KindNetwork }  // Kind implements Object.
func (*Secret) Kind() Kind   { return KindSecret }   // Kind implements Object.
func (*Config) Kind() Kind   { return KindConfig }   // Kind implements Object.
func (*Volume) Kind() Kind   { return KindVolume }   // Kind implements Object.
func (*Request) Kind() Kind  { return KindRequest }  // Kind implements Object.
// Kind implements Object.
func (*Attachment) Kind() Kind { return KindAttachment }

// Key implements Object: there is one cluster, so its key is constant.
func (*Cluster) Key() string      { return "cluster" }
func (n *Node) Key() string       { return n.ID }                               // Key implements Object.
func (s *Service) Key() string    { return s.ID }                               // Key implements Object.
func (r *Revision) Key() string   { return RevisionKey(r.ServiceID, r.Number) } // Key implements Object.
func (t *Task) Key() string       { return t.ID }                               // Key implements Object.
func (n *Network) Key() string    { return n.ID }                               // Key implements Object.
func (s *Secret) Key() string     { return s.ID }                               // Key implements Object.
func (c *Config) Key() string     { return c.ID }                               // Key implements Object.
func (v *Volume) Key() string     { return v.Name }                             // Key implements Object.
func (r *Request) Key() string    { return r.ID }                               // Key implements Object.
func (a *Attachment) Key() string { return a.ID }                               // Key implements Object.

func (c *Cluster) meta() *swarm.Meta    { return &c.Meta }
func (n *Node) meta() *swarm.Meta       { return &n.Meta }
func (s *Service) meta() *swarm.Meta    { return &s.Meta }
func (r *Revision) meta() *swarm.Meta   { return &r.Meta }
func (t *Task) meta() *swarm.Meta       { return &t.Meta }
func (n *Network) meta() *swarm.Meta    { return &n.Meta }
func (s *Secret) meta() *swarm.Meta     { return &s.Meta }
func (c *Config) meta() *swarm.Meta     { return &c.Meta }
func (v *Volume) meta() *swarm.Meta     { return &v.Meta }
func (r *Request) meta() *swarm.Meta    { return &r.Meta }
func (a *Attachment) meta() *swarm.Meta { return &a.Meta }

func (c *Cluster) clone() Object    { d := *c; return &d }
func (n *Node) clone() Object       { d := *n; return &d }
func (s *Service) clone() Object    { d := *s; return &d }
func (r *Revision) clone() Object   { d := *r; return &d }
func (t *Task) clone() Object       { d := *t; return &d }
func (n *Network) clone() Object    { d := *n; return &d }
func (s *Secret) clone() Object     { d := *s; return &d }
func (c *Config) clone() Object     { d := *c; return &d }
func (v *Volume) clone() Object     { d := *v; return &d }
func (r *Request) clone() Object    { d := *r; return &d }
func (a *Attachment) clone() Object { d := *a; return &d }

// newObject returns an empty object of kind k to decode into.
func newObject(k Kind) (Object, error) {
	switch k {
	case KindCluster:
		return &Cluster{}, nil
	case KindNode:
		return &Node{}, nil
	case KindService:
		return &Service{}, nil
	case KindRevision:
		return &Revision{}, nil
	case KindTask:
		return &Task{}, nil
	case KindNetwork:
		return &Network{}, nil
	case KindSecret:
		return &Secret{}, nil
	case KindConfig:
		return &Config{}, nil
	case KindVolume:
		return &Volume{}, nil
	case KindRequest:
		return &Request{}, nil
	case KindAttachment:
		return &Attachment{}, nil
	}
	return nil, fmt.Errorf("unknown kind %q: written by a later version of shoal", k)
}
