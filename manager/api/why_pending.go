package api

import (
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-units"

	"shoal/internal/constraint"
	"shoal/internal/taskstate"
	"shoal/manager/scheduler"
	"shoal/raftstore/state"
)

// explainPending takes the scheduler's reasons, the most common first, and
// looks up what each of them is about.
func explainPending(v *state.View, t *state.Task, why *Why) {
	if t.Status.Err == "" {
		why.Cause = "the scheduler is about to give it a node"
		return
	}
	why.Cause = "no node can take it: " + t.Status.Err
	r := v.Revision(t.ServiceID, t.Revision)
	if r == nil {
		return
	}
	task := r.Spec.TaskTemplate
	var fixes []string
	for _, x := range []struct {
		words   string
		explain func(*Why) string
	}{
		{"has no nodes", func(*Why) string { return "join a node: docker swarm join-token worker" }},
		{"not available for new tasks", func(why *Why) string { return fixAvailability(v, why) }},
		{"insufficient CPU", func(why *Why) string { return fixResource(v, task, cpu(), why) }},
		{"insufficient memory", func(why *Why) string { return fixResource(v, task, memory(), why) }},
		{"scheduling constraints", func(why *Why) string { return explainConstraints(v, task.Placement, why) }},
		{"unsupported platform", func(why *Why) string { return fixPlatform(v, task, why) }},
		{"host-mode port", func(*Why) string {
			return "run at most one replica per node, or publish port 0 to let each node choose"
		}},
		{"max replicas per node", func(*Why) string {
			return fmt.Sprintf("docker service update --replicas-max-per-node %d %s, or join a node", task.Placement.MaxReplicas+1, r.Spec.Name)
		}},
		{"missing", func(*Why) string { return "install the plugin on a node, or leave the driver out" }},
	} {
		if !strings.Contains(t.Status.Err, x.words) || x.words == "max replicas per node" && task.Placement == nil {
			continue
		}
		if fix := x.explain(why); fix != "" {
			fixes = append(fixes, fix)
		}
	}
	why.Fix = strings.Join(fixes, "; or ")
}

func usable(n *state.Node) bool {
	return n.Status.State == swarm.NodeStateReady && n.Spec.Availability == swarm.NodeAvailabilityActive
}

func fixAvailability(v *state.View, why *Why) (fix string) {
	for n := range v.Nodes() {
		if usable(n) {
			continue
		}
		why.Evidence = append(why.Evidence, fmt.Sprintf("node %s is %s, availability %s", nodeName(v, n.ID), n.Status.State, n.Spec.Availability))
		if n.Status.State == swarm.NodeStateReady {
			fix = "docker node update --availability active " + nodeName(v, n.ID)
		} else if fix == "" {
			fix = "bring node " + nodeName(v, n.ID) + " back"
		}
	}
	return fix
}

// resource is one that is reserved by amount.
type resource struct {
	name, flag string
	of         func(swarm.Resources) int64
	text       func(int64) string
}

func cpu() resource {
	return resource{
		"CPUs", "--reserve-cpu", func(r swarm.Resources) int64 { return r.NanoCPUs },
		func(n int64) string { return fmt.Sprintf("%g", float64(n/1e6)/1e3) },
	}
}

func memory() resource {
	return resource{
		"memory", "--reserve-memory", func(r swarm.Resources) int64 { return r.MemoryBytes },
		func(n int64) string { return units.BytesSize(float64(n)) },
	}
}

// fixResource names the node that lacks least.
func fixResource(v *state.View, task swarm.TaskSpec, r resource, why *Why) string {
	if task.Resources == nil || task.Resources.Reservations == nil {
		return ""
	}
	wanted := r.of(*task.Resources.Reservations)
	best, most := (*state.Node)(nil), int64(0)
	for n := range v.Nodes() {
		if !usable(n) || len(unmet(n, task.Placement)) > 0 {
			continue
		}
		free := r.of(n.Description.Resources) - reserved(v, n, r)
		why.Evidence = append(why.Evidence, fmt.Sprintf("node %s has %s of %s %s free, the task reserves %s",
			nodeName(v, n.ID), r.text(max(free, 0)), r.text(r.of(n.Description.Resources)), r.name, r.text(wanted)))
		if best == nil || free > most {
			best, most = n, free
		}
	}
	if best == nil {
		return ""
	}
	if most <= 0 {
		return fmt.Sprintf("free %s %s on node %s, or join a node", r.text(wanted-most), r.name, nodeName(v, best.ID))
	}
	return fmt.Sprintf("lower %s to %s, free %s on node %s, or join a node",
		r.flag, r.text(most), r.text(wanted-most), nodeName(v, best.ID))
}

func reserved(v *state.View, n *state.Node, r resource) (sum int64) {
	for t := range v.TasksOfNode(n.ID) {
		if t.Status.State.Terminal() || t.Desired > taskstate.Complete {
			continue
		}
		revision := v.Revision(t.ServiceID, t.Revision)
		if revision == nil {
			continue
		}
		if res := revision.Spec.TaskTemplate.Resources; res != nil && res.Reservations != nil {
			sum += r.of(*res.Reservations)
		}
	}
	return sum
}

// unmet are the constraints that a node does not meet.
func unmet(n *state.Node, p *swarm.Placement) (failed []string) {
	if p == nil {
		return nil
	}
	for _, text := range p.Constraints {
		parsed, err := constraint.Parse([]string{text})
		if err != nil || !constraint.MatchAll(parsed, scheduler.Facts(n)) {
			failed = append(failed, text)
		}
	}
	return failed
}

// explainConstraints finds the usable node that misses fewest constraints.
func explainConstraints(v *state.View, p *swarm.Placement, why *Why) string {
	var nearest *state.Node
	var missing []string
	for n := range v.Nodes() {
		failed := unmet(n, p)
		if len(failed) == 0 {
			continue
		}
		why.Evidence = append(why.Evidence, fmt.Sprintf("node %s does not meet %s", nodeName(v, n.ID), strings.Join(failed, ", ")))
		if usable(n) && (nearest == nil || len(failed) < len(missing)) {
			nearest, missing = n, failed
		}
	}
	if nearest == nil {
		return ""
	}
	var labels []string
	for _, text := range missing {
		key, value, equal := strings.Cut(text, "==")
		label, ok := strings.CutPrefix(strings.TrimSpace(key), "node.labels.")
		if !equal || !ok {
			why.Fix = fmt.Sprintf("docker service update --constraint-rm %q", missing[0])
			return why.Fix
		}
		labels = append(labels, "--label-add "+label+"="+strings.TrimSpace(value))
	}
	why.Fix = "docker node update " + strings.Join(labels, " ") + " " + nodeName(v, nearest.ID)
	return why.Fix
}

func fixPlatform(v *state.View, task swarm.TaskSpec, why *Why) string {
	if task.Placement == nil {
		return ""
	}
	for _, p := range task.Placement.Platforms {
		why.Evidence = append(why.Evidence, "the image is for "+p.OS+"/"+p.Architecture)
	}
	for n := range v.Nodes() {
		p := n.Description.Platform
		why.Evidence = append(why.Evidence, fmt.Sprintf("node %s is %s/%s", nodeName(v, n.ID), p.OS, p.Architecture))
	}
	return "use an image that is built for the platform of a node"
}
