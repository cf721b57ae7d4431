package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"shoal/internal/taskstate"
	"shoal/manager/scheduler"
	"shoal/raftstore/state"
)

// explainPending takes the scheduler's reasons, what each node lacks, and what
// would let the task be placed.
func explainPending(v *state.View, t *state.Task, now time.Time, why *finding) {
	if !unplaceable(t) {
		why.Cause = "the scheduler is about to give it a node"
		return
	}
	why.Cause = "no node can take it: " + t.Status.Err
	explainRefusals(v, t, now, why)
}

// unplaceable reports whether the scheduler has found no node for a task. What
// it has not looked at yet may say why its predecessor ended.
func unplaceable(t *state.Task) bool {
	return t.Status.State == taskstate.Pending && strings.HasPrefix(t.Status.Err, "no suitable node")
}

// explainRefusals adds what the scheduler finds amiss, and its advice.
func explainRefusals(v *state.View, t *state.Task, now time.Time, why *finding) {
	refusals, advice := scheduler.Examine(v, t, now)
	if slices.ContainsFunc(refusals, func(r scheduler.Refusal) bool { return r.Lacks(scheduler.ChangeImage) }) {
		why.Evidence = append(why.Evidence, platformText(v, t))
	}
	for _, r := range refusals {
		why.Evidence = append(why.Evidence, refusalText(v, r))
	}
	for _, a := range advice {
		why.Fixes = append(why.Fixes, adviceText(v, t, a))
	}
	another := len(refusals) == 0 || slices.ContainsFunc(refusals, func(r scheduler.Refusal) bool {
		return r.Lacks(scheduler.LowerMemory, scheduler.LowerCPU, scheduler.LowerGeneric, scheduler.RaiseMaxReplicas, scheduler.ChangePort, scheduler.Revive)
	})
	if another && t.NodeID == "" && len(why.Fixes) < mostFixes {
		why.Fixes = append(why.Fixes, "join a node: docker swarm join-token worker")
	}
}

// mostFixes is what a person weighs.
const mostFixes = 3

// refusalText is one line about a node.
func refusalText(v *state.View, r scheduler.Refusal) string {
	var does, unmet []string
	n := v.Node(r.NodeID)
	for _, s := range r.Steps {
		switch s.Kind {
		case scheduler.DropConstraint:
			unmet = append(unmet, s.Value)
		case scheduler.Revive:
			does = append(does, "is "+string(n.Status.State))
		case scheduler.Activate:
			does = append(does, "has availability "+string(n.Spec.Availability))
		case scheduler.LowerMemory:
			does = append(does, roomText(s, n.Description.Resources.MemoryBytes, "memory", memoryText))
		case scheduler.LowerCPU:
			does = append(does, roomText(s, n.Description.Resources.NanoCPUs, "CPUs", cpuText))
		case scheduler.LowerGeneric:
			does = append(does, fmt.Sprintf("has %d %s free, the task reserves %d", max(s.Free, 0), s.Key, s.Was))
		case scheduler.RaiseMaxReplicas:
			does = append(does, fmt.Sprintf("has %d tasks of the service, at most %d are allowed", s.Amount-1, s.Was))
		case scheduler.ChangePort:
			does = append(does, fmt.Sprintf("has port %d/%s taken by %s", s.Amount, s.Key, holderText(v, s)))
		case scheduler.ChangeImage:
			does = append(does, "is "+s.Value)
		case scheduler.AddPlugin:
			does = append(does, "lacks the "+strings.ToLower(s.Key)+" plugin "+s.Value)
		case scheduler.AddLabel, scheduler.RemoveLabel: // there is a DropConstraint for each
		}
	}
	if len(unmet) > 0 {
		does = append(does, "does not meet "+strings.Join(unmet, ", "))
	}
	return "node " + nodeName(v, r.NodeID) + " " + strings.Join(does, ", ")
}

// roomText says what is left of a resource. More may be reserved than there is,
// when a machine has come back smaller than it was.
func roomText(s scheduler.Step, total int64, name string, text func(int64) string) string {
	if s.Free < 0 {
		return fmt.Sprintf("has %s %s and %s reserved by running tasks, the task reserves %s", text(total), name, text(total-s.Free), text(s.Was))
	}
	return fmt.Sprintf("has %s of %s %s free, the task reserves %s", text(s.Free), text(total), name, text(s.Was))
}

// platformText tells what an image that does not run everywhere is for.
func platformText(v *state.View, t *state.Task) string {
	var all []string
	for _, p := range v.Revision(t.ServiceID, t.Revision).Spec.TaskTemplate.Placement.Platforms {
		all = append(all, p.OS+"/"+p.Architecture)
	}
	return "the image is for " + strings.Join(all, ", ")
}

func memoryText(n int64) string { return units.BytesSize(float64(n)) }

func cpuText(n int64) string { return fmt.Sprintf("%g", float64(n/1e6)/1e3) }

// exactMemory is memory as a flag takes it, to the last byte if need be.
func exactMemory(n int64) string {
	switch {
	case n%(1<<30) == 0 && n > 0:
		return fmt.Sprintf("%dGiB", n>>30)
	case n%(1<<20) == 0 && n > 0:
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprint(n)
}

func holderText(v *state.View, s scheduler.Step) string {
	var names []string
	for _, id := range s.Holders {
		names = append(names, serviceName(v, id))
	}
	if len(names) == 1 {
		return "service " + names[0]
	}
	return cmp.Or(strings.Join(names, ", "), "another task")
}

func serviceName(v *state.View, id string) string {
	if s := v.Service(id); s != nil {
		return s.Spec.Name
	}
	return id
}

// wording is advice as it comes to be put: flags of two commands, and words.
type wording struct {
	node, service, other, notes []string
}

// adviceText is the command, or the words if there is none.
func adviceText(v *state.View, t *state.Task, a scheduler.Advice) string {
	var w wording
	for _, s := range a.Steps {
		w.add(v, t, s, nodeName(v, a.NodeID))
	}
	if a.Nodes > 1 {
		w.notes = append(w.notes, fmt.Sprintf("%d nodes can take it then", a.Nodes))
	}
	var all []string
	if len(w.node) > 0 {
		all = append(all, "docker node update "+strings.Join(w.node, " ")+" "+nodeName(v, a.NodeID))
	}
	if len(w.service) > 0 {
		all = append(all, "docker service update "+strings.Join(w.service, " ")+" "+serviceName(v, t.ServiceID))
	}
	text := strings.Join(append(all, w.other...), ", and ")
	if len(w.notes) > 0 {
		text += " (" + strings.Join(w.notes, "; ") + ")"
	}
	return text
}

func (w *wording) add(v *state.View, t *state.Task, s scheduler.Step, where string) {
	switch s.Kind {
	case scheduler.AddLabel:
		w.node = append(w.node, "--label-add "+quoted(s.Key+"="+s.Value))
	case scheduler.RemoveLabel:
		w.node = append(w.node, "--label-rm "+quoted(s.Key))
	case scheduler.Activate:
		w.node = append(w.node, "--availability active")
	case scheduler.RaiseMaxReplicas:
		w.service = append(w.service, fmt.Sprintf("--replicas-max-per-node %d", s.Amount))
	case scheduler.LowerMemory, scheduler.LowerCPU, scheduler.LowerGeneric:
		w.lower(s, where)
	case scheduler.DropConstraint:
		w.service = append(w.service, "--constraint-rm "+quoted(s.Value))
	case scheduler.ChangePort:
		w.other = append(w.other, portText(v, t, s))
	case scheduler.AddPlugin:
		w.other = append(w.other, fmt.Sprintf("install %s plugin %s on node %s", strings.ToLower(s.Key), s.Value, where))
	case scheduler.ChangeImage:
		w.other = append(w.other, fmt.Sprintf("use an image that is built for %s, as node %s is", s.Value, where))
	case scheduler.Revive:
		w.other = append(w.other, "bring node "+where+" back: its daemon, its Docker Engine or its network")
	}
}

// lower adds a smaller reservation.
func (w *wording) lower(s scheduler.Step, where string) {
	text := memoryText
	switch s.Kind {
	case scheduler.LowerMemory:
		w.service = append(w.service, "--reserve-memory "+exactMemory(s.Amount))
	case scheduler.LowerCPU:
		text = cpuText
		w.service = append(w.service, "--reserve-cpu "+cpuText(s.Amount))
	default:
		text = func(n int64) string { return fmt.Sprint(n) }
		if s.Amount > 0 { // it replaces what there is of that kind
			w.service = append(w.service, fmt.Sprintf("--generic-resource-add %s=%d", quoted(s.Key), s.Amount))
		} else {
			w.service = append(w.service, "--generic-resource-rm "+quoted(s.Key))
		}
	}
	w.notes = append(w.notes, fmt.Sprintf("it is %s, node %s has %s free", text(s.Was), where, text(max(s.Free, 0))))
}

func portText(v *state.View, t *state.Task, s scheduler.Step) string {
	if len(s.Holders) == 1 && s.Holders[0] == t.ServiceID {
		return fmt.Sprintf("run at most one replica per node, or publish host port 0 instead of %d to let each node choose", s.Amount)
	}
	return fmt.Sprintf("publish another host port than %d/%s, which %s has", s.Amount, s.Key, holderText(v, s))
}

// quoted is text as a shell takes it.
func quoted(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,:/=@+%"
	if strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
