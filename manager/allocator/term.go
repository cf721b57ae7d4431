package allocator

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// term is what the loop knows within one term of the leader. All of it can be
// had from the state again.
type term struct {
	seen  uint64
	todo  map[item]bool
	waits *waits            // tasks that lack something
	stuck map[item]string   // services and nodes that do, and what
	full  map[string]string // networks, until they give something back, and the words for it
	usage *usage
}

func newTerm() *term {
	return &term{todo: map[item]bool{}, waits: newWaits(), stuck: map[item]string{}, full: map[string]string{}, usage: newUsage()}
}

// note adds what has changed since the last note to the things to look at.
func (t *term) note(v *state.View) {
	events, ok := v.Since(t.seen)
	if t.seen == 0 || !ok {
		t.everything(v)
	} else {
		for _, e := range events {
			t.event(v, e)
		}
	}
	t.seen = v.Index()
}

// everything starts from nothing: all services, and the tasks and nodes that
// lack something.
func (t *term) everything(v *state.View) {
	shown := t.usage.names // to be taken back if they are gone
	*t = *newTerm()
	t.usage.names = shown
	for id := range shown {
		t.usage.touched[id] = true
	}
	for n := range v.Networks() {
		t.usage.count(n, 1)
	}
	for n := range v.Nodes() {
		if n.MeshIndex == 0 {
			t.todo[item{state.KindNode, n.ID}] = true
		}
	}
	for s := range v.Services() {
		t.todo[item{state.KindService, s.ID}] = true
		t.usage.count(s, 1)
	}
	for a := range v.Attachments() {
		t.usage.count(a, 1)
	}
	for task := range v.Tasks() {
		t.usage.count(task, 1)
		if task.Status.State == taskstate.New || calledOff(task) && len(task.Networks) > 0 {
			t.todo[item{state.KindTask, task.ID}] = true
		}
	}
}

// event notes what a change asks for, and what it may set free.
func (t *term) event(v *state.View, e state.Event) {
	t.usage.event(e)
	switch o := e.Object().(type) {
	case *state.Cluster:
		if e.Old == nil {
			t.everything(v)
		}
	case *state.Node:
		if e.New == nil {
			t.unstick(state.KindNode)
		} else if o.MeshIndex == 0 {
			t.todo[item{state.KindNode, o.ID}] = true
		}
	case *state.Service:
		t.service(e, o.ID)
	case *state.Task:
		t.task(e, o)
	case *state.Attachment:
		t.release(o.NetworkID)
	case *state.Network:
		t.release(o.ID)
		if o.Spec.Ingress {
			t.release(keyIngress)
		}
	}
}

func (t *term) service(e state.Event, id string) {
	old, _ := e.Old.(*state.Service)
	now, _ := e.New.(*state.Service)
	if now != nil {
		t.todo[item{state.KindService, id}] = true
	} else {
		delete(t.stuck, item{state.KindService, id})
	}
	if old != nil && (now == nil || old.Revision != now.Revision) {
		t.release(serviceKey(id)) // tasks of other revisions do not wait for it
	}
	if old == nil || now != nil && reflect.DeepEqual(old.Endpoint, now.Endpoint) {
		return
	}
	t.unstick(state.KindService) // a port may be free
	for _, vip := range old.Endpoint.VirtualIPs {
		t.release(vip.NetworkID)
	}
}

func (t *term) task(e state.Event, task *state.Task) {
	old, _ := e.Old.(*state.Task)
	i := item{state.KindTask, task.ID}
	switch _, waiting := t.waits.of[task.ID]; {
	case e.New == nil:
		t.waits.set(task.ID, "")
	case calledOff(task):
		t.waits.set(task.ID, "")
		t.todo[i] = len(task.Networks) > 0
	case task.Status.State == taskstate.New && !waiting: // else this is what was told to it
		t.todo[i] = true
	case task.Status.State != taskstate.New:
		t.waits.set(task.ID, "")
	}
	if held := old != nil && !old.Status.State.Terminal(); !held {
		return
	}
	if e.New == nil || task.Status.State.Terminal() || len(task.Networks) == 0 {
		for _, n := range old.Networks {
			t.release(n.NetworkID)
		}
	}
}

// release looks again at what waits for a thing, the first in the queue first.
func (t *term) release(key string) {
	delete(t.full, key)
	if t.waits.alive[key] > 0 {
		t.todo[item{kindQueue, key}] = true
	}
	t.unstick(state.KindService)
}

// unstick looks again at the services or nodes that lack something. These are
// few: only an update that rolls itself back can leave a service so.
func (t *term) unstick(kind state.Kind) {
	for i := range t.stuck {
		if i.kind == kind {
			t.todo[i] = true
		}
	}
}

// take returns what is to be looked at. What services and nodes need comes
// before what tasks need, and those that wait before new ones.
func (t *term) take() worklist {
	maps.DeleteFunc(t.todo, func(_ item, wanted bool) bool { return !wanted })
	rank := func(i item) int {
		return slices.Index([]state.Kind{state.KindNode, state.KindService, kindQueue, state.KindTask}, i.kind)
	}
	items := slices.SortedFunc(maps.Keys(t.todo), func(a, b item) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.id, b.id))
	})
	return worklist{items: items, waits: t.waits, full: t.full}
}

// settle notes what came of a plan and returns what is newly lacking.
func (t *term) settle(w worklist, out outcome) (news []string) {
	for _, i := range w.items[:out.done] {
		delete(t.todo, i)
	}
	maps.Copy(t.full, out.full)
	for key, n := range out.passed {
		t.waits.pass(key, n)
	}
	for task, key := range out.tasks {
		t.waits.set(task, key)
	}
	for i, lack := range out.lacks {
		switch {
		case lack == "":
			delete(t.stuck, i)
			if key := serviceKey(i.id); i.kind == state.KindService && t.waits.alive[key] > 0 {
				t.todo[item{kindQueue, key}] = true
			}
			continue
		case t.stuck[i] != lack:
			news = append(news, lack)
		}
		t.stuck[i] = lack
	}
	return news
}
