package allocator

import (
	"maps"
	"slices"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// term is what the loop knows within one term of the leader. All of it can be
// had from the state again.
type term struct {
	seen    uint64
	view    *state.View
	todo    map[item]bool
	waiting map[item]lacking
	said    map[string]bool // reasons that were logged
}

// worklist is what one plan looks at, in a fixed order: what services and nodes
// need comes before what tasks need.
type worklist struct{ items []item }

func newTerm() *term {
	return &term{todo: map[item]bool{}, waiting: map[item]lacking{}, said: map[string]bool{}}
}

// note adds what has changed since the last note to the things to look at.
func (t *term) note(v *state.View) {
	events, ok := v.Since(t.seen)
	if t.seen == 0 || !ok {
		t.everything(v)
	} else {
		for _, e := range events {
			t.event(e)
		}
	}
	t.seen, t.view = v.Index(), v
}

func (t *term) everything(v *state.View) {
	for n := range v.Nodes() {
		t.todo[item{state.KindNode, n.ID}] = n.MeshIndex == 0
	}
	for s := range v.Services() {
		t.todo[item{state.KindService, s.ID}] = true
	}
	for task := range v.TasksNew() {
		t.todo[item{state.KindTask, task.ID}] = true
	}
	maps.DeleteFunc(t.todo, func(_ item, wanted bool) bool { return !wanted })
}

// event notes what a change asks for, and what it may set free.
func (t *term) event(e state.Event) {
	switch o := e.Object().(type) {
	case *state.Node:
		if e.New == nil {
			t.retry("")
		} else if o.MeshIndex == 0 {
			t.todo[item{state.KindNode, o.ID}] = true
		}
	case *state.Service:
		if e.New != nil {
			t.todo[item{state.KindService, o.ID}] = true
		}
		if old, _ := e.Old.(*state.Service); old != nil {
			for _, vip := range old.Endpoint.VirtualIPs {
				t.retry(vip.NetworkID)
			}
			t.retry("") // it may have given a port back
		}
	case *state.Task:
		t.task(e, o)
	case *state.Attachment:
		t.retry(o.NetworkID)
	case *state.Network:
		t.retry(o.ID)
		t.retry("")
	}
}

func (t *term) task(e state.Event, task *state.Task) {
	old, _ := e.Old.(*state.Task)
	if e.New != nil && task.Status.State == taskstate.New && task.Status.Message != MessageWaiting {
		t.todo[item{state.KindTask, task.ID}] = true
		return
	}
	ended := e.New == nil || task.Status.State.Terminal()
	if old == nil || old.Status.State.Terminal() || !ended {
		return
	}
	for _, n := range old.Networks {
		t.retry(n.NetworkID)
	}
}

// retry looks again at what waits for a thing.
func (t *term) retry(key string) {
	for i, l := range t.waiting {
		if l.key == key {
			t.todo[i] = true
		}
	}
}

// take returns what is to be looked at.
func (t *term) take() worklist {
	items := slices.Collect(maps.Keys(t.todo))
	rank := func(i item) int {
		switch i.kind { //nolint:exhaustive // nothing else is ever noted
		case state.KindNode:
			return 0
		case state.KindService:
			return 1
		}
		return 2
	}
	slices.SortFunc(items, func(a, b item) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return worklist{items}
}

// settle notes what came of a plan and returns the reasons that are new.
func (t *term) settle(w worklist, out outcome) (news []string) {
	for _, i := range w.items[:out.done] {
		delete(t.todo, i)
		delete(t.waiting, i)
		l, lacks := out.lacks[i]
		if !lacks {
			continue
		}
		t.waiting[i] = l
		if !t.said[l.text] {
			t.said[l.text] = true
			news = append(news, l.text)
		}
	}
	if len(t.waiting) == 0 {
		clear(t.said)
	}
	return news
}
