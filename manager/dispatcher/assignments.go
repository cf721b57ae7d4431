package dispatcher

import (
	"bytes"
	"cmp"
	"maps"
	"net"
	"slices"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/worker/assignment"
)

// assigned reports whether t is its node's business: from the moment it has a
// node until it is deleted. A task that has ended stays, so that the worker
// keeps its container for logs and inspection. An orphaned one does not: a
// node that returns after all must drop it.
func assigned(t *state.Task) bool {
	return t.NodeID != "" && t.Status.State >= taskstate.Assigned && t.Status.State < taskstate.Orphaned
}

// delta is what changed for one node: tasks by id, nil for one that is no
// longer assigned to it.
type delta map[string]*state.Task

// news is what a list of events means for the sessions.
type news struct {
	deltas  map[string]delta       // by node
	ended   map[string][]string    // ids of tasks, by node: they need nothing any more
	nodes   map[string]*state.Node // changed nodes, nil for removed ones
	cluster bool                   // the list of managers or the gossip keys may have changed
}

// newsOf sorts events by the nodes that they concern.
func newsOf(events []state.Event) news {
	n := news{deltas: map[string]delta{}, ended: map[string][]string{}, nodes: map[string]*state.Node{}}
	for _, e := range events {
		switch e.Object().(type) {
		case *state.Task:
			older, _ := e.Old.(*state.Task)
			newer, _ := e.New.(*state.Task)
			n.task(older, newer)
		case *state.Node:
			older, _ := e.Old.(*state.Node)
			newer, _ := e.New.(*state.Node)
			n.nodes[e.Object().Key()] = newer
			n.cluster = n.cluster || managerOf(older) != managerOf(newer)
		case *state.Cluster:
			n.cluster = true
		}
	}
	return n
}

func (n news) task(older, newer *state.Task) {
	had := older != nil && assigned(older)
	has := newer != nil && assigned(newer)
	moved := had && has && older.NodeID != newer.NodeID
	if had && (!has || moved) {
		n.add(older.NodeID, older.ID, nil)
	}
	if has && (!had || moved || !sameWork(older, newer)) {
		n.add(newer.NodeID, newer.ID, newer)
	}
	if had && has && !moved && newer.Status.State.Terminal() && !older.Status.State.Terminal() {
		n.ended[newer.NodeID] = append(n.ended[newer.NodeID], newer.ID)
	}
}

func (n news) add(nodeID, taskID string, t *state.Task) {
	if n.deltas[nodeID] == nil {
		n.deltas[nodeID] = delta{}
	}
	n.deltas[nodeID][taskID] = t
}

// sameWork reports whether two versions of a task ask the same of the worker.
// Its status does not count: that is what the worker told us.
func sameWork(a, b *state.Task) bool {
	return a.Desired == b.Desired && a.Revision == b.Revision && a.Slot == b.Slot && a.Withdrawn == b.Withdrawn &&
		slices.EqualFunc(a.Networks, b.Networks, sameNetwork) &&
		len(a.GenericResources) == len(b.GenericResources) &&
		slices.EqualFunc(a.GenericResources, b.GenericResources, sameResource)
}

func sameResource(a, b swarm.GenericResource) bool {
	return equalPtr(a.NamedResourceSpec, b.NamedResourceSpec) && equalPtr(a.DiscreteResourceSpec, b.DiscreteResourceSpec)
}

func sameNetwork(a, b state.TaskNetwork) bool {
	return a.NetworkID == b.NetworkID && slices.Equal(a.Addrs, b.Addrs)
}

func equalPtr[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// resume returns what a worker lacks that has its assignments up to index and
// holds these tasks.
func resume(v *state.View, nodeID string, index uint64, held []string) delta {
	d := delta{}
	for _, id := range held {
		d[id] = nil
	}
	for t := range v.TasksOfNode(nodeID) {
		if !assigned(t) {
			continue
		}
		if _, holds := d[t.ID]; holds && t.Version.Index <= index {
			delete(d, t.ID)
			continue
		}
		d[t.ID] = t
	}
	return d
}

type specKey struct {
	serviceID string
	revision  uint64
}

// write puts a delta into a line. sent remembers the specs that the session has
// had, and whether with the credentials for their registry: those go only where
// a task needs them. held are the tasks that must not pull yet.
func (d delta) write(v *state.View, line *assignment.Down, sent map[specKey]bool, held ids) {
	ingress := ingressOf(v)
	pulls := map[specKey]bool{}
	for _, t := range d {
		if t != nil && assignment.NeedsImage(t.Desired, t.Status.State) {
			pulls[specKey{t.ServiceID, t.Revision}] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d)) {
		t := d[id]
		if t == nil {
			if !line.Full {
				line.Remove = append(line.Remove, id)
			}
			continue
		}
		task := assignment.Task{
			ID: t.ID, ServiceID: t.ServiceID, Revision: t.Revision, Slot: t.Slot,
			Desired: t.Desired, GenericResources: t.GenericResources, Status: t.Status, Withdrawn: t.Withdrawn,
			Hold: held.has(t.ID),
		}
		for _, n := range t.Networks {
			task.Networks = append(task.Networks, assignment.TaskNetwork{NetworkID: n.NetworkID, Ingress: n.NetworkID == ingress, Addrs: n.Addrs})
		}
		// A revision is kept as long as a task refers to it. If one is missing all
		// the same, the worker can still stop and remove the task.
		if r := v.Revision(t.ServiceID, t.Revision); r != nil {
			task.ServiceName = r.Spec.Name
			key := specKey{t.ServiceID, t.Revision}
			if full, had := sent[key]; !had || pulls[key] && !full {
				sent[key] = pulls[key] || r.RegistryAuth == ""
				line.Specs = append(line.Specs, specOf(r, pulls[key]))
			}
		}
		line.Tasks = append(line.Tasks, task)
	}
}

func specOf(r *state.Revision, withAuth bool) assignment.Spec {
	spec := assignment.Spec{
		ServiceID: r.ServiceID, Revision: r.Number,
		ServiceLabels: r.Spec.Labels, Task: r.Spec.TaskTemplate, Run: r.Run,
	}
	if withAuth {
		spec.RegistryAuth = r.RegistryAuth
	}
	if r.Spec.EndpointSpec != nil {
		for _, p := range r.Spec.EndpointSpec.Ports {
			if p.PublishMode == swarm.PortConfigPublishModeHost {
				spec.HostPorts = append(spec.HostPorts, p)
			}
		}
	}
	return spec
}

// managerOf returns how workers reach n, zero unless n is a manager.
func managerOf(n *state.Node) assignment.Manager {
	if n == nil || n.Spec.Role != swarm.NodeRoleManager || n.Addr == "" {
		return assignment.Manager{}
	}
	return assignment.Manager{NodeID: n.ID, Addr: n.Addr}
}

// managersOf lists the managers by node id.
func managersOf(v *state.View) (list []assignment.Manager) {
	for n := range v.Nodes() {
		if m := managerOf(n); m.NodeID != "" {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b assignment.Manager) int { return cmp.Compare(a.NodeID, b.NodeID) })
	return list
}

func keysOf(v *state.View) [][]byte {
	if c := v.Cluster(); c != nil {
		return c.GossipKeys
	}
	return nil
}

func sameKeys(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// nodeAddr returns host:port of a node's cluster listener from what it
// advertises and where its connection comes from; "" if neither tells.
func nodeAddr(advertised, remote string) string {
	host, port, err := net.SplitHostPort(advertised)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return advertised
	}
	source, _, err := net.SplitHostPort(remote)
	// A connection within the host says nothing to others.
	if ip := net.ParseIP(source); err != nil || ip == nil || ip.IsLoopback() {
		return ""
	}
	return net.JoinHostPort(source, port)
}
