package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

const (
	// maxAdvice is how much of it a person reads.
	maxAdvice = 3
	// maxFaults: nodes that need more changes than this are no near misses.
	maxFaults = 3
)

// Advice is the least that would let a task be placed.
type Advice struct {
	Steps []Step // all of them are needed; most often it is one
	// NodeID is where the task would fit then. Nodes is how many nodes would be
	// as good, if only the service is changed.
	NodeID string
	Nodes  int
}

// Kind is a kind of step, the cheapest first.
type Kind int

// The kinds of steps.
const (
	AddLabel         Kind = iota + 1 // Key, Value; of the node, as all with NodeID
	RemoveLabel                      // Key
	Activate                         // the node's availability
	RaiseMaxReplicas                 // to Amount
	LowerMemory                      // the reservation, from Was to Amount
	LowerCPU                         // the reservation, from Was to Amount
	LowerGeneric                     // the reservation of Key, from Was to Amount
	DropConstraint                   // Value
	ChangePort                       // Key is the protocol, Amount the port, Holders have it
	AddPlugin                        // Key is its type, Value its name
	ChangeImage                      // to one for the platform Value, of the form OS/ARCH
	Revive                           // the node is not ready
)

// Step is one change, of a node or of the service's spec.
type Step struct {
	Kind        Kind
	NodeID      string // empty: it changes the service
	Key, Value  string
	Amount, Was int64
	Free        int64    // of what is reserved, exactly; below 0: more is in use than there is
	Holders     []string // ids of services
}

// fault is a filter's refusal: any of the steps mends it.
type fault []Step

// Refusal is why a node does not take a task: one step for each thing that is
// amiss there, of those that would mend it.
type Refusal struct {
	NodeID string
	Steps  []Step
}

// Lacks reports whether one of the things that are amiss is of one of the kinds.
func (r Refusal) Lacks(kinds ...Kind) bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return slices.Contains(kinds, s.Kind) })
}

// Examine returns why each node refuses a pending task, and what would let it
// be placed, the cheapest first, with at most three ways. It asks the same
// filters as a round does: for advice, of nodes and specs that are as they
// would be after the change.
func Examine(v *state.View, t *state.Task, now time.Time) ([]Refusal, []Advice) {
	revision := v.Revision(t.ServiceID, t.Revision)
	if revision == nil {
		return nil, nil
	}
	a := &adviser{nodes: newNodeSet(), task: t, revision: revision, demand: newDemand(revision), best: map[string]proposal{}, least: maxFaults}
	a.nodes.sync(v, now)
	var refusals []Refusal
	for n := range v.Nodes() {
		if t.NodeID != "" && n.ID != t.NodeID {
			continue
		}
		info := a.nodes.nodes[n.ID]
		if faults := a.faults(info); len(faults) > 0 {
			refusals = append(refusals, refusalOf(n.ID, faults))
			a.propose(info, faults)
		}
	}
	return refusals, a.choose()
}

func refusalOf(nodeID string, faults []fault) Refusal {
	r := Refusal{NodeID: nodeID}
	for _, f := range faults {
		r.Steps = append(r.Steps, f[len(f)-1])
	}
	return r
}

// adviser looks for ways to place one task.
type adviser struct {
	nodes    *nodeSet
	task     *state.Task
	revision *state.Revision
	demand   *demand
	best     map[string]proposal // of each kind, by its key
	least    int                 // how many steps those have
}

func (a *adviser) faults(n *nodeInfo) (all []fault) {
	for i := range filters {
		if filters[i].refuse(n, a.demand, a.task.ServiceID) != "" {
			all = append(all, filters[i].mend(a, n)...)
		}
	}
	return all
}

// propose keeps the ways to have a node take the task that are better than those
// that are known. Ways of more steps than others are none.
func (a *adviser) propose(n *nodeInfo, faults []fault) {
	if len(faults) > min(maxFaults, a.least+1) { // one more may turn out to be needless
		return
	}
	for _, steps := range product(faults) {
		p := proposal{Advice{Steps: steps, NodeID: n.node.ID}, n}
		if !a.news(p) || !a.helps(n, steps) {
			continue
		}
		p.Steps = a.needed(n, steps)
		if len(p.Steps) > a.least || !a.news(p) {
			continue
		}
		if len(p.Steps) < a.least {
			a.least = len(p.Steps)
			clear(a.best)
		}
		a.best[p.key()] = p
	}
}

// news reports whether no proposal is known that is as good and of the same kind.
func (a *adviser) news(p proposal) bool {
	old, ok := a.best[p.key()]
	return !ok || p.better(old)
}

// needed leaves out the steps that others make needless: one label may meet two
// constraints.
func (a *adviser) needed(n *nodeInfo, steps []Step) []Step {
	for i := range slices.Backward(steps) {
		if fewer := slices.Delete(slices.Clone(steps), i, i+1); a.helps(n, fewer) {
			steps = fewer
		}
	}
	return steps
}

// product returns every way to take one step for each fault.
func product(faults []fault) [][]Step {
	ways := [][]Step{nil}
	for _, f := range faults {
		var longer [][]Step
		for _, way := range ways {
			for _, s := range f {
				longer = append(longer, append(slices.Clone(way), s))
			}
		}
		ways = longer
	}
	return ways
}

// helps reports whether a node takes the task after the steps.
func (a *adviser) helps(n *nodeInfo, steps []Step) bool {
	after, revision := *n, *a.revision
	node := *n.node
	after.node = &node
	for _, s := range steps {
		s.Apply(&node, &revision.Spec)
	}
	return after.reject(newDemand(&revision), a.task.ServiceID) == ""
}

// choose takes the best ways of different kinds.
func (a *adviser) choose() []Advice {
	all := slices.Collect(maps.Values(a.best))
	slices.SortFunc(all, func(p, q proposal) int {
		return cmp.Or(cmp.Compare(p.cost(), q.cost()), strings.Compare(p.key(), q.key()))
	})
	var chosen []Advice
	for _, p := range all[:min(len(all), maxAdvice)] {
		if a.task.NodeID == "" && !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.NodeID != "" }) {
			p.Nodes = a.fitting(p.Steps)
		}
		chosen = append(chosen, p.Advice)
	}
	return chosen
}

// fitting counts the nodes that take the task after a change of its service.
func (a *adviser) fitting(steps []Step) (count int) {
	for _, n := range a.nodes.nodes {
		if n.node != nil && a.helps(n, steps) {
			count++
		}
	}
	return count
}

// proposal is advice with what it is compared by.
type proposal struct {
	Advice
	node *nodeInfo
}

// key is what advice that is shown once has in common.
func (p proposal) key() string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%02d %s", s.Kind, s.Key)
		if s.Kind == DropConstraint || s.Kind == ChangePort {
			fmt.Fprintf(&b, " %s %d", s.Value, s.Amount)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (p proposal) cost() (sum int) {
	for _, s := range p.Steps {
		sum += int(s.Kind)
	}
	return sum
}

// better compares proposals with the same key: what changes least, and then the
// node with the fewest tasks.
func (p proposal) better(q proposal) bool {
	for i, s := range p.Steps {
		change := func(s Step) int64 { return max(s.Amount-s.Was, s.Was-s.Amount) }
		if c := cmp.Compare(change(s), change(q.Steps[i])); c != 0 && s.Kind != ChangePort {
			return c < 0
		}
	}
	return cmp.Or(
		cmp.Compare(p.node.tasks, q.node.tasks),
		strings.Compare(p.node.node.Description.Hostname, q.node.node.Description.Hostname),
		strings.Compare(p.NodeID, q.NodeID)) < 0
}

// Apply makes the change. What it changes is copied first.
func (s Step) Apply(n *state.Node, spec *swarm.ServiceSpec) {
	switch s.Kind {
	case AddLabel, RemoveLabel:
		labels := map[string]string{}
		maps.Copy(labels, n.Spec.Labels)
		labels[s.Key] = s.Value
		if s.Kind == RemoveLabel {
			delete(labels, s.Key)
		}
		n.Spec.Labels = labels
	case Activate:
		n.Spec.Availability = swarm.NodeAvailabilityActive
	case Revive:
		n.Status.State = swarm.NodeStateReady
	case AddPlugin:
		n.Description.Engine.Plugins = append(slices.Clone(n.Description.Engine.Plugins), swarm.PluginDescription{Type: s.Key, Name: s.Value})
	case ChangePort:
		s.applyPort(spec)
	case LowerMemory, LowerCPU, LowerGeneric:
		s.applyReservation(spec)
	case RaiseMaxReplicas, DropConstraint, ChangeImage:
		s.applyPlacement(spec)
	}
}

func (s Step) applyPort(spec *swarm.ServiceSpec) {
	endpoint := *spec.EndpointSpec
	endpoint.Ports = slices.Clone(endpoint.Ports)
	for i, p := range endpoint.Ports {
		if hostPortOf(p) == (hostPort{swarm.PortConfigProtocol(s.Key), uint32(s.Amount)}) { //nolint:gosec // a port
			endpoint.Ports[i].PublishedPort = 0
		}
	}
	spec.EndpointSpec = &endpoint
}

func (s Step) applyReservation(spec *swarm.ServiceSpec) {
	resources := *spec.TaskTemplate.Resources
	reserved := *resources.Reservations
	resources.Reservations, spec.TaskTemplate.Resources = &reserved, &resources
	switch s.Kind {
	case LowerMemory:
		reserved.MemoryBytes = s.Amount
	case LowerCPU:
		reserved.NanoCPUs = s.Amount
	default:
		var kept []swarm.GenericResource
		for _, g := range reserved.GenericResources {
			if d := g.DiscreteResourceSpec; d == nil || d.Kind != s.Key {
				kept = append(kept, g)
			}
		}
		if s.Amount > 0 {
			kept = append(kept, swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: s.Key, Value: s.Amount}})
		}
		reserved.GenericResources = kept
	}
}

func (s Step) applyPlacement(spec *swarm.ServiceSpec) {
	placement := *spec.TaskTemplate.Placement
	spec.TaskTemplate.Placement = &placement
	switch s.Kind {
	case RaiseMaxReplicas:
		placement.MaxReplicas = uint64(s.Amount) //nolint:gosec // positive
	case ChangeImage:
		os, arch, _ := strings.Cut(s.Value, "/")
		placement.Platforms = []swarm.Platform{{OS: os, Architecture: arch}}
	default:
		placement.Constraints = slices.DeleteFunc(slices.Clone(placement.Constraints), func(c string) bool { return c == s.Value })
	}
}
