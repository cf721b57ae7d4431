package allocator

import (
	"hash/fnv"
	"reflect"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// item is one thing to look at.
type item struct {
	kind state.Kind
	id   string
}

// outcome is what a plan has come to.
type outcome struct {
	changes []state.Change
	given   map[string]int   // by kind: task, service, node
	done    int              // items that were dealt with
	lacks   map[item]lacking // those that have to wait
}

// lacking is what an item waits for: a change of the thing named.
type lacking struct {
	key  string // network id; "" anything
	text string
}

// planner plans one update.
type planner struct {
	view  *state.View
	give  *giver
	now   time.Time
	place int // in the mesh, the last one looked at
	full  map[string]lacking
	out   outcome
}

// plan gives items what they need, in an update of at most limit changes.
func plan(v *state.View, w worklist, now time.Time, limit int) outcome {
	p := &planner{view: v, give: newGiver(v), now: now, full: map[string]lacking{}, out: outcome{given: map[string]int{}, lacks: map[item]lacking{}}}
	for _, i := range w.items {
		if len(p.out.changes) >= limit {
			break
		}
		p.out.done++
		switch i.kind { //nolint:exhaustive // nothing else is ever noted
		case state.KindTask:
			p.task(i)
		case state.KindService:
			p.service(i)
		case state.KindNode:
			if reason := p.node(i.id); reason != "" {
				p.out.lacks[i] = lacking{text: reason}
			}
		}
	}
	return p.out
}

func (p *planner) put(o state.Object, what string) {
	p.out.changes = append(p.out.changes, state.Put(o))
	p.out.given[what]++
}

// task puts a new task on its networks.
func (p *planner) task(i item) {
	t := p.view.Task(i.id)
	if t == nil || t.Status.State != taskstate.New || t.Desired >= taskstate.Shutdown {
		return
	}
	r := p.view.Revision(t.ServiceID, t.Revision)
	if r == nil {
		return // its service has gone, and so will it
	}
	networks, lack := p.networks(t, &r.Spec)
	next := *t
	if lack != nil {
		p.out.lacks[i] = *lack
		if t.Status.Message == MessageWaiting && t.Status.Err == lack.text {
			return
		}
		next.Status.Err, next.Status.Message = lack.text, MessageWaiting
		p.put(&next, "waiting")
		return
	}
	next.Networks = networks
	if t.Status.Message == MessageWaiting {
		next.Status.Err = "" // else it says why the one before was restarted
	}
	next.Status.State, next.Status.At, next.Status.Message = taskstate.Pending, p.now, messagePending
	p.put(&next, "task")
}

func (p *planner) networks(t *state.Task, spec *swarm.ServiceSpec) (on []state.TaskNetwork, lack *lacking) {
	if state.Publishes(spec) {
		n := p.view.Ingress()
		if n == nil {
			return nil, &lacking{text: noIngress().err.Error()}
		}
		on = append(on, state.TaskNetwork{NetworkID: n.ID})
	}
	for _, id := range state.OverlaysOf(spec) {
		if l, full := p.full[id]; full {
			p.takeBack(on)
			return nil, &l
		}
		at, lack := p.network(t, id)
		if lack != nil {
			p.takeBack(on)
			p.full[id] = *lack
			return nil, lack
		}
		on = append(on, at)
	}
	return on, nil
}

// network gives a task an address of each family of one network.
func (p *planner) network(t *state.Task, id string) (at state.TaskNetwork, lack *lacking) {
	n := p.view.Network(id)
	if n == nil {
		return at, &lacking{key: id, text: noNetwork(id).err.Error()}
	}
	at.NetworkID = id
	for _, family := range families(n) {
		a, ok := p.give.address(family, start(t.ID, id))
		if !ok {
			p.give.takeBack(at.Addrs)
			return at, &lacking{key: id, text: p.give.exhausted(n, family).Error()}
		}
		at.Addrs = append(at.Addrs, a)
	}
	return at, nil
}

func (p *planner) takeBack(on []state.TaskNetwork) {
	for _, n := range on {
		p.give.takeBack(n.Addrs)
	}
}

// start is where to look for a task's address first. It depends on the task, so
// that an address that has just become free is not the next one to be given:
// others may not have heard yet that its last owner is gone.
func start(taskID, networkID string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(taskID + "/" + networkID)) // never fails
	return h.Sum64()
}

// service gives a service the endpoint that follows from its spec.
func (p *planner) service(i item) {
	s := p.view.Service(i.id)
	if s == nil {
		return
	}
	e, lack := p.give.endpoint(s)
	if lack != nil {
		p.out.lacks[i] = lacking{key: lack.key, text: "service " + s.Spec.Name + ": " + lack.err.Error()}
		return
	}
	if reflect.DeepEqual(e, s.Endpoint) {
		return
	}
	next := *s
	next.Endpoint = e
	p.put(&next, "service")
}
