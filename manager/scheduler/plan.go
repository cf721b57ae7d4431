package scheduler

import (
	"cmp"
	"slices"
	"time"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// plan decides about every pending task in the view that nodes is at. What it
// places is counted in nodes at once, to be set right by the next sync if an
// update fails: see undo.
func plan(nodes *nodeSet, now time.Time) []decision {
	groups := map[revisionKey][]*state.Task{}
	var keys []revisionKey
	for t := range nodes.view.TasksPending() {
		if !waiting(t) {
			continue
		}
		key := revisionKey{t.ServiceID, t.Revision}
		if groups[key] == nil {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], t)
	}
	// In the order of age, so that a large service does not starve another.
	slices.SortFunc(keys, func(a, b revisionKey) int {
		return cmp.Or(
			cmp.Compare(groups[a][0].CreatedAt.UnixNano(), groups[b][0].CreatedAt.UnixNano()),
			cmp.Compare(a.serviceID, b.serviceID), cmp.Compare(a.number, b.number))
	})
	var decisions []decision
	p := placement{nodes: nodes, now: now}
	for _, key := range keys {
		if d := nodes.demand(key); d != nil { // else the service is gone, its tasks go soon
			decisions = append(decisions, p.group(d, key, groups[key])...)
		}
	}
	p.undo()
	return decisions
}

// placement is one round: the decisions made so far count for the next ones.
type placement struct {
	nodes *nodeSet
	now   time.Time
	done  []placed
}

type placed struct {
	info      *nodeInfo
	demand    *demand
	serviceID string
	claimed   claims
}

// undo takes back what the round counted: what has really been committed
// comes back as events of the store.
func (p *placement) undo() {
	for _, d := range p.done {
		d.info.countTask(d.serviceID, taskstate.Running, -1)
		d.info.take(d.demand, -1)
		d.info.claim(d.claimed, -1)
	}
}

func (p *placement) group(d *demand, key revisionKey, tasks []*state.Task) []decision {
	decisions := make([]decision, 0, len(tasks))
	var free []*state.Task
	for _, t := range tasks {
		if t.NodeID == "" {
			free = append(free, t)
		} else if dec, ok := p.preassigned(t, d); ok {
			decisions = append(decisions, dec)
		}
	}
	if len(free) == 0 {
		return decisions
	}
	defer p.discount(free)()
	tree, reasons := p.candidates(d, key)
	for _, t := range free {
		c := tree.take()
		if c == nil {
			if dec, ok := p.squeeze(t, d, reasons); ok {
				decisions = append(decisions, dec)
			}
			continue
		}
		decisions = append(decisions, p.assign(t, c.nodeInfo, d, messageAssigned))
		reason := c.reject(d, key.serviceID)
		if reason != "" {
			reasons[reason]++
		}
		tree.placed(c, reason == "")
	}
	return decisions
}

// squeeze places a task for which no node has room: where what it replaces is,
// or nowhere.
func (p *placement) squeeze(t *state.Task, d *demand, reasons map[string]int) (decision, bool) {
	if dec, ok := p.takeOver(t, d); ok {
		return dec, true
	}
	return p.stuck(t, explain(reasons))
}

// candidates returns the nodes that can take a task, and why others cannot.
func (p *placement) candidates(d *demand, key revisionKey) (*branch, map[string]int) {
	var fit []*candidate
	reasons := map[string]int{}
	for _, info := range p.nodes.nodes {
		if info.node == nil {
			continue
		}
		if reason := info.reject(d, key.serviceID); reason != "" {
			reasons[reason]++
			continue
		}
		fit = append(fit, &candidate{nodeInfo: info, failing: info.failing(key, p.now), tie: tie(key.serviceID, info.node.ID)})
	}
	return newTree(fit, key.serviceID, d.spread), reasons
}

func (p *placement) assign(t *state.Task, info *nodeInfo, d *demand, message string) decision {
	done := placed{info: info, demand: d, serviceID: t.ServiceID, claimed: info.choose(d.generic)}
	info.countTask(t.ServiceID, taskstate.Running, +1)
	info.take(d, +1)
	info.claim(done.claimed, +1)
	p.done = append(p.done, done)
	status := taskstate.Status{State: taskstate.Assigned, At: p.now, Message: message}
	if t.StartAfter.After(p.now) {
		status.Err = t.Status.Err // why its predecessor ended, and that it waits
	}
	return decision{taskID: t.ID, version: t.Version.Index, nodeID: info.node.ID, claimed: done.claimed, status: status}
}

// preassigned confirms the node that the orchestrator chose, or says what is
// wrong with it.
func (p *placement) preassigned(t *state.Task, d *demand) (decision, bool) {
	info := p.nodes.nodes[t.NodeID]
	if info == nil || info.node == nil {
		return decision{}, false // the node is gone; the task goes soon
	}
	if reason := info.reject(d, t.ServiceID); reason != "" {
		return p.squeeze(t, d, map[string]int{reason: 1})
	}
	return p.assign(t, info, d, messagePreassigned), true
}

// stuck records why a task stays pending, if that is news.
func (p *placement) stuck(t *state.Task, explanation string) (decision, bool) {
	if t.Status.Err == explanation {
		return decision{}, false
	}
	status := t.Status
	status.Err, status.At = explanation, p.now
	return decision{taskID: t.ID, version: t.Version.Index, explanation: explanation, status: status}, true
}
