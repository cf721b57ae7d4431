package api

import (
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/scheduler"
	"shoal/raftstore/state"
)

func (a *API) listNodes(w http.ResponseWriter, r *http.Request) error {
	f, err := parseFilters(r, "id", "label", "membership", "name", "node.label", "role")
	if err != nil {
		return err
	}
	roles, err := enumFilter(f, "role", "worker", "manager")
	if err != nil {
		return err
	}
	memberships, err := enumFilter(f, "membership", "accepted", "pending")
	if err != nil {
		return err
	}
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	peers := a.config.Peers()
	return writeList(w, func(yield func(*swarm.Node) bool) {
		for n := range nodesFiltered(v, f, roles, memberships) {
			out := presentNode(n, peers)
			if !yield(&out) {
				return
			}
		}
	})
}

func nodesFiltered(v *state.View, f filter, roles, memberships []string) iter.Seq[*state.Node] {
	return func(yield func(*state.Node) bool) {
		if len(memberships) > 0 && !slices.Contains(memberships, "accepted") {
			return // nobody waits for admission: a token admits at once
		}
		for n := range byPrefixes(f.values("id"), v.NodesByPrefix) {
			if !f.prefix("name", n.Description.Hostname) || !f.labels("label", n.Description.Engine.Labels) ||
				!f.labels("node.label", n.Spec.Labels) || len(roles) > 0 && !slices.Contains(roles, string(n.Spec.Role)) {
				continue
			}
			if !yield(n) {
				return
			}
		}
	}
}

// enumFilter returns the values of a filter that has only some, in lower
// case. An empty value is no restriction.
func enumFilter(f filter, key string, allowed ...string) (values []string, err error) {
	for _, v := range f.values(key) {
		switch lower := strings.ToLower(v); {
		case v == "":
		case slices.Contains(allowed, lower):
			values = append(values, lower)
		default:
			return nil, failed("Invalid %s filter: '%s'", key, v)
		}
	}
	return values, nil
}

// presentNode is what clients see of a node. Only members of the consensus
// have a manager status.
func presentNode(n *state.Node, peers []Peer) swarm.Node {
	out := n.Node
	out.ManagerStatus = nil
	if out.Spec.Labels == nil {
		out.Spec.Labels = map[string]string{}
	}
	for _, p := range peers {
		if p.NodeID != n.ID {
			continue
		}
		status := &swarm.ManagerStatus{Leader: p.Leader, Reachability: swarm.ReachabilityUnreachable, Addr: p.Addr}
		if p.Reachable || p.Leader {
			status.Reachability = swarm.ReachabilityReachable
		}
		if status.Addr == "" {
			status.Addr = n.Addr
		}
		out.ManagerStatus = status
	}
	return out
}

func (a *API) inspectNode(w http.ResponseWriter, r *http.Request) error {
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	n, err := findNode(v, r.PathValue("id"))
	if err != nil {
		return err
	}
	out := presentNode(n, a.config.Peers())
	if text := shortageText(scheduler.Shortages(v, n)); text != "" {
		if out.Status.Message != "" {
			text = out.Status.Message + "; " + text
		}
		out.Status.Message = text
	}
	return writeJSON(w, &out)
}

// shortageText says what a node has less of than its tasks have reserved.
func shortageText(all []scheduler.Shortage) string {
	var parts []string
	for _, s := range all {
		text := func(n int64) string { return fmt.Sprint(n) }
		switch s.Kind {
		case "memory":
			text = memoryText
		case "CPUs":
			text = cpuText
		}
		parts = append(parts, fmt.Sprintf("%s of %s %s", text(s.Reserved), text(s.Has), s.Kind))
	}
	if len(parts) == 0 {
		return ""
	}
	return "its tasks have reserved more than it has: " + strings.Join(parts, ", ")
}

func (a *API) updateNode(w http.ResponseWriter, r *http.Request) error {
	var spec swarm.NodeSpec
	body, err := readJSON(w, r, &spec)
	if err != nil {
		return err
	}
	version, err := versionParam(r, "node")
	if err != nil {
		return err
	}
	if err := validateNode(spec); err != nil {
		return err
	}
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	gentle, err := startFirstParam(r, spec)
	if err != nil {
		return err
	}
	ref, peers := r.PathValue("id"), a.config.Peers()
	out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
		changes, err := planNodeUpdate(v, ref, version, spec, gentle, peers)
		return changes, outcome{status: http.StatusOK}, err
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

// startFirstParam says how a node is to be drained; nil: as it is, or as each
// service says.
func startFirstParam(r *http.Request, spec swarm.NodeSpec) (*bool, error) {
	if !r.URL.Query().Has("startFirst") {
		return nil, nil
	}
	first, err := boolParam(r, "startFirst")
	if err == nil && first && spec.Availability != swarm.NodeAvailabilityDrain {
		err = invalid("startFirst is for Availability drain, not %q", spec.Availability)
	}
	return &first, err
}

func validateNode(spec swarm.NodeSpec) error {
	switch spec.Role {
	case swarm.NodeRoleWorker, swarm.NodeRoleManager:
	default:
		return invalid("invalid Role: %q", spec.Role)
	}
	switch spec.Availability {
	case swarm.NodeAvailabilityActive, swarm.NodeAvailabilityPause, swarm.NodeAvailabilityDrain:
	default:
		return invalid("invalid Availability: %q", spec.Availability)
	}
	for k := range spec.Labels {
		if k == "" {
			return invalid("invalid Labels: a label needs a key")
		}
	}
	return nil
}

// planNodeUpdate replaces a node's spec. A change of role is a wish here: the
// node is made a manager, or is taken out of the consensus, afterwards.
func planNodeUpdate(v *state.View, ref string, version uint64, spec swarm.NodeSpec, startFirst *bool, peers []Peer) ([]state.Change, error) {
	old, err := findNode(v, ref)
	if err != nil {
		return nil, err
	}
	if old.Spec.Role == swarm.NodeRoleManager && spec.Role == swarm.NodeRoleWorker {
		if err := checkDemotion(v, old, peers); err != nil {
			return nil, err
		}
	}
	if version != old.Version.Index {
		return nil, outOfSequence()
	}
	n := *old
	n.Spec = spec
	if startFirst != nil {
		n.StartFirst = *startFirst
	}
	n.StartFirst = n.StartFirst && spec.Availability == swarm.NodeAvailabilityDrain
	return []state.Change{state.Put(&n)}, nil
}

// checkDemotion refuses to demote the last manager, and one without whom those
// that remain have no quorum.
func checkDemotion(v *state.View, n *state.Node, peers []Peer) error {
	others := 0
	for o := range v.Nodes() {
		if o.ID != n.ID && o.Spec.Role == swarm.NodeRoleManager {
			others++
		}
	}
	if others == 0 {
		return rpcPrecondition("attempting to demote the last manager of the swarm")
	}
	if !slices.ContainsFunc(peers, func(p Peer) bool { return p.NodeID == n.ID }) {
		return nil // not a member yet
	}
	members, reachable := 0, 0
	for _, p := range peers {
		peer := v.Node(p.NodeID)
		if p.NodeID == n.ID || peer != nil && peer.Spec.Role != swarm.NodeRoleManager {
			continue // on its way out
		}
		members++
		if p.Reachable || p.Leader {
			reachable++
		}
	}
	if reachable < members/2+1 {
		return rpcPrecondition("can't remove member from the raft: this would result in a loss of quorum")
	}
	return nil
}

func (a *API) removeNode(w http.ResponseWriter, r *http.Request) error {
	ref, force, peers := r.PathValue("id"), looseBool(r, "force"), a.config.Peers()
	out, err := a.write(r, nil, func(v *state.View) ([]state.Change, outcome, error) {
		changes, err := planNodeRemoval(v, ref, force, peers)
		if cluster := v.Cluster(); err == nil && cluster != nil && a.config.NodeRemoved != nil {
			changes = append(changes, state.Put(a.config.NodeRemoved(cluster)))
		}
		return changes, outcome{status: http.StatusOK}, err
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

func planNodeRemoval(v *state.View, ref string, force bool, peers []Peer) ([]state.Change, error) {
	n, err := findNode(v, ref)
	if err != nil {
		return nil, err
	}
	member := slices.ContainsFunc(peers, func(p Peer) bool { return p.NodeID == n.ID })
	if member || n.Spec.Role == swarm.NodeRoleManager {
		return nil, rpcPrecondition("node %s is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal", n.ID)
	}
	if !force && n.Status.State != swarm.NodeStateDown {
		return nil, rpcPrecondition("node %s is not down and can't be removed", n.ID)
	}
	changes := []state.Change{state.Delete(state.KindNode, n.ID)}
	for a := range v.AttachmentsOfNode(n.ID) { // nobody else would give their addresses back
		changes = append(changes, state.Delete(state.KindAttachment, a.ID))
	}
	return changes, nil
}

// looseBool is how the engine reads a flag: anything but a few words for no
// means yes.
func looseBool(r *http.Request, name string) bool {
	switch strings.ToLower(strings.TrimSpace(r.URL.Query().Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}
