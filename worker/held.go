package worker

import (
	"maps"
	"slices"
	"sync"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
)

// memory is what a worker holds, as it is kept on disk.
type memory struct {
	Tasks    []assignment.Task    `json:"tasks"`
	Specs    []assignment.Spec    `json:"specs"`
	Managers []assignment.Manager `json:"managers"`
	// Fabric is what is known of the cluster's networks; none: nothing yet.
	Fabric *assignment.Known `json:"fabric,omitempty"`
}

type specKey struct {
	serviceID string
	revision  uint64
}

// held is what the worker has been assigned, with its own statuses. It is safe
// for concurrent use.
type held struct {
	dirty chan struct{} // holds one token while the disk is behind

	mu    sync.Mutex
	known map[string]assignment.Task
	mgrs  []assignment.Manager
	at    uint64 // index up to which a manager has confirmed the tasks
	full  bool   // a manager has sent the whole set in this life
}

func newHeld(m memory) *held {
	h := &held{dirty: make(chan struct{}, 1), known: map[string]assignment.Task{}, mgrs: m.Managers}
	specs := map[specKey]*assignment.Spec{}
	for i := range m.Specs {
		specs[specKey{m.Specs[i].ServiceID, m.Specs[i].Revision}] = &m.Specs[i]
	}
	for _, t := range m.Tasks {
		t.Spec = specs[specKey{t.ServiceID, t.Revision}]
		h.known[t.ID] = t
	}
	return h
}

// memory returns what goes to disk: each spec once, and with the credentials for
// its registry only while a task has still to pull.
func (h *held) memory() memory {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := memory{Tasks: h.tasksLocked(), Managers: slices.Clone(h.mgrs)}
	at := map[specKey]int{}
	for _, t := range m.Tasks {
		if t.Spec == nil {
			continue
		}
		key := specKey{t.ServiceID, t.Revision}
		i, ok := at[key]
		if !ok {
			i = len(m.Specs)
			at[key] = i
			m.Specs = append(m.Specs, *t.Spec)
			m.Specs[i].RegistryAuth = ""
		}
		if assignment.NeedsImage(t.Desired, t.Status.State) && t.Spec.RegistryAuth != "" {
			m.Specs[i].RegistryAuth = t.Spec.RegistryAuth
		}
	}
	return m
}

// apply takes in a manager's line. It returns all tasks, and whether these are
// known to be all: only a manager's word in this life counts for that, as the
// disk may be behind.
func (h *held) apply(down assignment.Down) (tasks []assignment.Task, complete bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if down.Index > 0 {
		h.at = down.Index
	}
	if !changes(down) {
		return nil, h.full
	}
	before := h.known
	if down.Full {
		h.full = true
		h.known = map[string]assignment.Task{}
	}
	for _, t := range down.Tasks {
		if t.Spec == nil {
			t.Spec = before[t.ID].Spec
		}
		h.known[t.ID] = t
	}
	for _, id := range down.Remove {
		delete(h.known, id)
	}
	h.touchLocked()
	return h.tasksLocked(), h.full
}

// changes reports whether a line says more than how far it goes.
func changes(down assignment.Down) bool {
	return changesTasks(down) || down.Fabric != nil
}

func changesTasks(down assignment.Down) bool {
	return down.Full || len(down.Tasks)+len(down.Remove)+len(down.Specs) > 0
}

func (h *held) tasks() []assignment.Task {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tasksLocked()
}

func (h *held) tasksLocked() []assignment.Task {
	tasks := make([]assignment.Task, 0, len(h.known))
	for _, id := range slices.Sorted(maps.Keys(h.known)) {
		tasks = append(tasks, h.known[id])
	}
	return tasks
}

// index returns up to where the tasks are known, 0 until a manager has sent
// them all: a worker that starts asks for everything.
func (h *held) index() (uint64, []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.full {
		return 0, nil
	}
	return h.at, slices.Sorted(maps.Keys(h.known))
}

func (h *held) setStatus(taskID string, s taskstate.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t, ok := h.known[taskID]; ok {
		t.Status = s
		h.known[taskID] = t
		h.touchLocked()
	}
}

func (h *held) managers() []assignment.Manager {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.mgrs)
}

func (h *held) setManagers(m []assignment.Manager) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mgrs = slices.Clone(m)
	h.touchLocked()
}

func (h *held) touchLocked() {
	select {
	case h.dirty <- struct{}{}:
	default:
	}
}

// markDirty asks for another write, after one that has failed.
func (h *held) markDirty() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.touchLocked()
}
