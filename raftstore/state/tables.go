package state

import (
	"cmp"
	"strconv"
	"strings"

	"shoal/internal/taskstate"
)

// Positions of the indexes in their tables.
const (
	byName = 0 // of services, networks, secrets and configs

	byService = 0 // of tasks; by slot, then id
	byNode    = 1 // of tasks that have one
	byStage   = 2 // of tasks that a loop waits for
	byAddr    = 3 // of tasks that have not ended
	byNetwork = 4 // of tasks that have not ended

	byVIP            = 1 // of services
	serviceByNetwork = 2 // of services; "" for those that publish ports
	byPort           = 3 // of services
	serviceByValue   = 4 // of services

	revisionByValue = 0 // of revisions

	byVNI     = 1 // of networks
	byGateway = 2 // of networks, with their reserved addresses
	byIngress = 3 // of the one network that is

	byMesh = 0 // of nodes

	attachmentByAddr    = 0
	attachmentByNode    = 1
	attachmentByNetwork = 2

	byAge = 0 // of requests
)

// Stages of a task that a loop waits for; see View.TasksNew, TasksPending,
// TasksLeaving.
const (
	stageNew     = "new"
	stagePending = "pending"
	stageLeaving = "leaving"
)

// tables are all objects at one index.
type tables struct {
	clusters  *table[*Cluster]
	nodes     *table[*Node]
	services  *table[*Service]
	revisions *table[*Revision]
	tasks     *table[*Task]
	networks  *table[*Network]
	secrets   *table[*Secret]
	configs   *table[*Config]
	volumes   *table[*Volume]
	requests  *table[*Request]

	attachments *table[*Attachment]
}

func newTables() tables {
	return tables{
		clusters: newTable[*Cluster](),
		nodes:    newTable(newIndex(func(n *Node) (string, bool) { return strconv.Itoa(n.MeshIndex), n.MeshIndex != 0 }, nil)),
		services: newTable(
			newIndex(func(s *Service) (string, bool) { return strings.ToLower(s.Spec.Name), true }, nil),
			newMultiIndex(serviceVIPs),
			newMultiIndex(serviceNetworks),
			newMultiIndex(servicePorts),
			newMultiIndex(func(s *Service, yield func(string)) { valueKeys(&s.Spec, yield) }),
		),
		tasks: newTable(
			newIndex(func(t *Task) (string, bool) { return t.ServiceID, true }, bySlot),
			newIndex(func(t *Task) (string, bool) { return t.NodeID, t.NodeID != "" }, nil),
			newIndex(taskStage, nil),
			newMultiIndex(taskAddrs),
			newMultiIndex(taskNetworks),
		),
		revisions: newTable(newMultiIndex(func(r *Revision, yield func(string)) { valueKeys(&r.Spec, yield) })),
		networks: newTable(
			newIndex(func(n *Network) (string, bool) { return n.Spec.Name, true }, nil),
			newIndex(func(n *Network) (string, bool) { return vniKey(n.VNI), n.VNI != 0 }, nil),
			newMultiIndex(networkGateways),
			newIndex(func(n *Network) (string, bool) { return "", n.Spec.Ingress }, nil),
		),
		attachments: newTable(
			newMultiIndex(func(a *Attachment, yield func(string)) { addrKeys(a.Addrs, yield) }),
			newIndex(func(a *Attachment) (string, bool) { return a.NodeID, true }, nil),
			newIndex(func(a *Attachment) (string, bool) { return a.NetworkID, true }, nil),
		),
		secrets: newTable(newIndex(func(s *Secret) (string, bool) { return s.Spec.Name, true }, newestSecret)),
		configs: newTable(newIndex(func(c *Config) (string, bool) { return c.Spec.Name, true }, newestConfig)),
		volumes: newTable[*Volume](),
		requests: newTable(newIndex(func(*Request) (string, bool) { return "", true }, func(a, b *Request) bool {
			return cmp.Or(cmp.Compare(a.Version.Index, b.Version.Index), cmp.Compare(a.ID, b.ID)) < 0
		})),
	}
}

func bySlot(a, b *Task) bool {
	return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.ID, b.ID)) < 0
}

func taskStage(t *Task) (string, bool) {
	if t.Leaving() {
		return stageLeaving, true
	}
	switch t.Status.State { //nolint:exhaustive // the other states are the worker's
	case taskstate.New:
		return stageNew, true
	case taskstate.Pending:
		return stagePending, true
	}
	return "", false
}

// of returns the table of a kind, nil for a kind that there is not.
func (t *tables) of(k Kind) anyTable {
	switch k {
	case KindCluster:
		return t.clusters
	case KindNode:
		return t.nodes
	case KindService:
		return t.services
	case KindRevision:
		return t.revisions
	case KindTask:
		return t.tasks
	case KindNetwork:
		return t.networks
	case KindSecret:
		return t.secrets
	case KindConfig:
		return t.configs
	case KindVolume:
		return t.volumes
	case KindRequest:
		return t.requests
	case KindAttachment:
		return t.attachments
	}
	return nil
}

// open makes the table of a kind one that can be changed.
func (t *tables) open(k Kind) {
	switch k {
	case KindCluster:
		t.clusters = t.clusters.clone()
	case KindNode:
		t.nodes = t.nodes.clone()
	case KindService:
		t.services = t.services.clone()
	case KindRevision:
		t.revisions = t.revisions.clone()
	case KindTask:
		t.tasks = t.tasks.clone()
	case KindNetwork:
		t.networks = t.networks.clone()
	case KindSecret:
		t.secrets = t.secrets.clone()
	case KindConfig:
		t.configs = t.configs.clone()
	case KindVolume:
		t.volumes = t.volumes.clone()
	case KindRequest:
		t.requests = t.requests.clone()
	case KindAttachment:
		t.attachments = t.attachments.clone()
	}
}
