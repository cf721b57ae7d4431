package allocator

import (
	"cmp"
	"hash/fnv"
	"reflect"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// item is one thing to look at.
type item struct {
	kind state.Kind // or kindQueue
	id   string
}

// kindQueue is the kind of an item that means all tasks that wait for a thing.
const kindQueue state.Kind = "queue"

// keyIngress is what those wait for who need an ingress network.
const keyIngress = "ingress"

// serviceKey is what the tasks of a service wait for that has no endpoint.
func serviceKey(id string) string { return "service/" + id }

// worklist is what one plan looks at, in order.
type worklist struct {
	items []item
	waits *waits            // the tasks that wait; the plan only reads
	full  map[string]string // networks that have given nothing back since they were full, and the words for it
}

// outcome is what a plan has come to.
type outcome struct {
	changes []state.Change
	given   map[string]int    // by kind: task, service, node; waiting, released
	done    int               // items that were dealt with
	tasks   map[string]string // what tasks wait for, "" if for nothing
	lacks   map[item]string   // services and nodes that were looked at: what they lack, "" nothing
	full    map[string]string // networks without an address left, and the words for it
	passed  map[string]int    // how many of a queue were dealt with
}

// planner plans one update.
type planner struct {
	work  worklist
	view  *state.View
	give  *giver
	now   time.Time
	limit int
	place int               // in the mesh, the last one looked at
	short map[string]string // what is known to be used up, and the words for it
	out   outcome
}

// plan gives items what they need, in an update of at most limit changes, and
// a few more when the last item needs several.
func plan(v *state.View, w worklist, now time.Time, limit int) outcome {
	p := &planner{
		work: w, view: v, give: newGiver(v), now: now, limit: limit, short: map[string]string{},
		out: outcome{given: map[string]int{}, tasks: map[string]string{}, lacks: map[item]string{}, full: map[string]string{}, passed: map[string]int{}},
	}
	for _, i := range w.items {
		if p.spent() {
			break
		}
		switch i.kind { //nolint:exhaustive // nothing else is ever noted
		case state.KindTask:
			p.task(i.id)
		case state.KindService:
			p.service(i.id)
		case state.KindNode:
			p.out.lacks[i] = p.node(i.id)
		case kindQueue:
			if !p.queue(i.id) {
				return p.out
			}
		}
		p.out.done++
	}
	return p.out
}

func (p *planner) spent() bool { return len(p.out.changes) >= p.limit }

func (p *planner) put(o state.Object, what string) {
	p.out.changes = append(p.out.changes, state.Put(o))
	p.out.given[what]++
}

// queue gives to those that wait for a thing, the first first, until there is
// none left for the next: what it costs follows what there is to give. It
// reports whether the plan had room for all.
func (p *planner) queue(key string) bool {
	service := strings.HasPrefix(key, serviceKey("")) // not all of its tasks need wait
	for _, id := range p.work.waits.queue[key] {
		if p.work.waits.of[id] == key {
			if p.spent() {
				return false
			}
			p.task(id)
			if p.out.tasks[id] == key && !service {
				return true
			}
		}
		if !service {
			p.out.passed[key]++
		}
	}
	return true
}

// task puts a new task on its networks, and takes one off them that was called
// off before it had a node: nobody would ever report its end.
func (p *planner) task(id string) {
	t := p.view.Task(id)
	p.out.tasks[id] = ""
	switch {
	case t == nil:
		return
	case calledOff(t):
		if len(t.Networks) > 0 {
			next := *t
			next.Networks = nil
			p.put(&next, "released")
		}
		return
	case t.Status.State != taskstate.New:
		return
	}
	r := p.view.Revision(t.ServiceID, t.Revision)
	if r == nil {
		return // its service has gone, and so will it
	}
	networks, key := p.networks(t, &r.Spec)
	next := *t
	if key != "" {
		p.out.tasks[id] = key
		text := p.short[key]
		if t.Status.Message != MessageWaiting || t.Status.Err != text {
			next.Status.Err, next.Status.Message = text, MessageWaiting
			p.put(&next, "waiting")
		}
		return
	}
	next.Networks = networks
	if t.Status.Message == MessageWaiting {
		next.Status.Err = "" // else it says why the one before was restarted
	}
	next.Status.State, next.Status.At, next.Status.Message = taskstate.Pending, p.now, messagePending
	p.put(&next, "task")
}

// calledOff reports whether a task will never get a node.
func calledOff(t *state.Task) bool {
	return t.Status.State < taskstate.Assigned && t.Desired >= taskstate.Shutdown
}

// networks puts a task on all networks of its spec, or says what it waits for:
// also for its service, should that have no endpoint yet.
func (p *planner) networks(t *state.Task, spec *swarm.ServiceSpec) (on []state.TaskNetwork, key string) {
	if s := p.view.Service(t.ServiceID); s != nil && s.Revision == t.Revision && p.service(s.ID) != "" {
		p.short[serviceKey(s.ID)] = p.service(s.ID)
		return nil, serviceKey(s.ID)
	}
	if state.Publishes(spec) {
		n := p.view.Ingress()
		if n == nil {
			p.short[keyIngress] = noIngress().Error()
			return nil, keyIngress
		}
		on = append(on, state.TaskNetwork{NetworkID: n.ID})
	}
	for _, id := range state.OverlaysOf(spec) {
		at, ok := p.network(t, id)
		if !ok {
			for _, n := range on {
				p.give.takeBack(n.Addrs)
			}
			return nil, id
		}
		on = append(on, at)
	}
	return on, ""
}

// network gives a task an address of each family of one network.
func (p *planner) network(t *state.Task, id string) (at state.TaskNetwork, ok bool) {
	at.NetworkID = id
	n := p.view.Network(id)
	if n == nil {
		p.short[id] = noNetwork(id).Error()
		return at, false
	}
	if text := cmp.Or(p.short[id], p.work.full[id]); text != "" {
		p.short[id] = text
		return at, false
	}
	for _, family := range families(n) {
		a, ok := p.give.address(family, start(t.ID, id))
		if !ok {
			p.give.takeBack(at.Addrs)
			p.short[id] = p.give.exhausted(n, family).Error()
			p.out.full[id] = p.short[id]
			return at, false
		}
		at.Addrs = append(at.Addrs, a)
	}
	return at, true
}

// start is where to look for a task's address first. It depends on the task, so
// that an address that has just become free is not the next one to be given:
// others may not have heard yet that its last owner is gone.
func start(taskID, networkID string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(taskID + "/" + networkID)) // never fails
	return h.Sum64()
}

// service gives a service the endpoint that follows from its spec, once in a
// plan, and returns what it lacks.
func (p *planner) service(id string) (lack string) {
	i := item{state.KindService, id}
	if lack, known := p.out.lacks[i]; known {
		return lack
	}
	p.out.lacks[i] = ""
	s := p.view.Service(id)
	if s == nil {
		return ""
	}
	e, err := p.give.endpoint(s)
	if err != nil {
		p.out.lacks[i] = "service " + s.Spec.Name + ": " + err.Error()
		return p.out.lacks[i]
	}
	if !reflect.DeepEqual(e, s.Endpoint) {
		next := *s
		next.Endpoint = e
		p.put(&next, "service")
	}
	return ""
}
