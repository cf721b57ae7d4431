package dispatcher

import (
	"cmp"
	"slices"
	"time"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

const (
	// firstPulls is how many nodes pull an image at once while none has it. 4: what
	// a registry on one small disk serves without getting slower for each.
	firstPulls = 4
	// mostPulls is how many do at the most. 32: as many as fill 10 Gbit/s.
	mostPulls = 32
)

// ramp decides which nodes may pull an image now, so that a deployment on many
// is no storm on its registry: a few first, one more for each node that has the
// image, so that their number doubles as it goes round. It follows from the view
// alone, kept up to date with its changes, so that managers need not agree on
// it (ADR 19); a node that has had its turn keeps it.
type ramp struct {
	images map[string]*pulling // by image, as the spec names it
	tasks  map[string]place    // by task id: where it counts
}

// place is where a task counts.
type place struct {
	image, node string
	has         bool // the node has the image; else it waits for it
}

// pulling is how far one image is.
type pulling struct {
	waits map[string]map[string]time.Time // tasks by node, and when they were made
	has   map[string]int                  // tasks by node
	turn  ids                             // nodes that may pull
}

func newRamp(v *state.View) *ramp {
	r := &ramp{images: map[string]*pulling{}, tasks: map[string]place{}}
	for t := range v.Tasks() {
		r.note(v, t.ID, t)
	}
	for image := range r.images {
		r.settle(image)
	}
	return r
}

// placeOf says where a task counts, if it does.
func placeOf(v *state.View, t *state.Task) (place, bool) {
	if t == nil || !assigned(t) || t.Desired >= taskstate.Shutdown || t.Status.State > taskstate.Complete {
		return place{}, false
	}
	r := v.Revision(t.ServiceID, t.Revision)
	if r == nil || r.Spec.TaskTemplate.ContainerSpec == nil {
		return place{}, false
	}
	return place{image: r.Spec.TaskTemplate.ContainerSpec.Image, node: t.NodeID, has: t.Status.State >= taskstate.Ready}, true
}

// advance takes in what changed and returns the tasks whose node may pull now.
func (r *ramp) advance(v *state.View, events []state.Event) (released []string) {
	touched := ids{}
	for _, e := range events {
		if o, ok := e.Object().(*state.Task); ok {
			newer, _ := e.New.(*state.Task)
			for _, image := range r.note(v, o.ID, newer) {
				touched[image] = true
			}
		}
	}
	for image := range touched {
		released = append(released, r.settle(image)...)
	}
	return released
}

// note counts a task, nil for one that is no more, and returns the images for
// which that may change whose turn it is.
func (r *ramp) note(v *state.View, id string, t *state.Task) (touched []string) {
	was, had := r.tasks[id]
	is, has := placeOf(v, t)
	if had == has && was == is {
		return nil
	}
	if had {
		r.images[was.image].remove(was, id)
		delete(r.tasks, id)
		touched = append(touched, was.image)
	}
	if has {
		p := r.images[is.image]
		if p == nil {
			p = &pulling{waits: map[string]map[string]time.Time{}, has: map[string]int{}, turn: ids{}}
			r.images[is.image] = p
		}
		p.add(is, t)
		r.tasks[id] = is
		touched = append(touched, is.image)
	}
	return touched
}

func (p *pulling) add(at place, t *state.Task) {
	if at.has {
		p.has[at.node]++
		return
	}
	if p.waits[at.node] == nil {
		p.waits[at.node] = map[string]time.Time{}
	}
	p.waits[at.node][t.ID] = t.CreatedAt
}

func (p *pulling) remove(at place, taskID string) {
	if at.has {
		if p.has[at.node]--; p.has[at.node] == 0 {
			delete(p.has, at.node)
		}
		return
	}
	delete(p.waits[at.node], taskID)
	if len(p.waits[at.node]) == 0 {
		delete(p.waits, at.node)
		delete(p.turn, at.node)
	}
}

// settle gives nodes their turn, those first whose tasks wait for longest, and
// returns the tasks that gain by it.
func (r *ramp) settle(image string) (released []string) {
	p := r.images[image]
	if p == nil {
		return nil
	}
	if len(p.waits)+len(p.has) == 0 {
		delete(r.images, image)
		return nil
	}
	free := min(firstPulls+len(p.has), mostPulls) - len(p.turn)
	if free <= 0 || len(p.waits) == len(p.turn) {
		return nil
	}
	for _, node := range p.queue() {
		if free == 0 {
			break
		}
		free--
		p.turn[node] = true
		for id := range p.waits[node] {
			released = append(released, id)
		}
	}
	return released
}

// queue is the nodes that wait for their turn, in order.
func (p *pulling) queue() []string {
	type waiting struct {
		node  string
		since time.Time
	}
	var list []waiting
	for node, tasks := range p.waits {
		if p.turn.has(node) {
			continue
		}
		w := waiting{node: node}
		for _, created := range tasks {
			if w.since.IsZero() || created.Before(w.since) {
				w.since = created
			}
		}
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b waiting) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.node, b.node)) })
	nodes := make([]string, len(list))
	for i, w := range list {
		nodes[i] = w.node
	}
	return nodes
}

// held reports whether a task must not pull yet.
func (r *ramp) held(taskID string) bool {
	at, ok := r.tasks[taskID]
	return ok && !at.has && !r.images[at.image].turn.has(at.node)
}

// waiting counts the nodes that wait for their turn.
func (r *ramp) waiting() (n int) {
	for _, p := range r.images {
		n += len(p.waits) - len(p.turn)
	}
	return n
}
