package orchestrator

import (
	"maps"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/manager/orchestrator/update"
	"shoal/raftstore/state"
)

// touched adds the services that a change may concern to ids.
func touched(v *state.View, events []state.Event, ids map[string]bool) {
	globals := false
	for _, e := range events {
		switch o := e.Object().(type) {
		case *state.Service:
			ids[o.ID] = true
		case *state.Task:
			if taskMatters(v, e) {
				ids[o.ServiceID] = true
			}
		case *state.Node:
			if !nodeMatters(e) {
				continue
			}
			globals = true
			for t := range v.TasksOfNode(o.ID) {
				ids[t.ServiceID] = true
			}
		}
	}
	if !globals {
		return
	}
	for s := range v.Services() {
		if isGlobal(s) {
			ids[s.ID] = true
		}
	}
}

// everything adds all services, and those that are gone but have tasks left.
func everything(v *state.View, ids map[string]bool) {
	for s := range v.Services() {
		ids[s.ID] = true
	}
	for t := range v.Tasks() {
		ids[t.ServiceID] = true
	}
}

// taskMatters leaves out the steps of a task's start. Its end calls for a
// decision; that it runs does so in an update, and where an old task may be
// waiting for it (start-first).
func taskMatters(v *state.View, e state.Event) bool {
	if e.New == nil {
		return true
	}
	if e.Old == nil {
		return false // made by this loop
	}
	before, after := e.Old.(*state.Task), e.New.(*state.Task)
	if before.MoveTo != after.MoveTo && after.MoveTo != "" {
		return true
	}
	if before.Status.State == after.Status.State {
		if after.Moves != "" && before.Status.Err != after.Status.Err {
			return true // it may be that the better place is none
		}
		// Without an address, it may be that its predecessor has to give its up.
		return after.Status.State == taskstate.New && after.Desired == taskstate.Ready && before.Status.Err != after.Status.Err
	}
	switch {
	case after.Status.State == taskstate.Ready && after.Desired == taskstate.Ready:
		return true // what it replaces may stop
	case after.Status.State != taskstate.Running:
		return after.Status.State.Terminal()
	}
	s := v.Service(after.ServiceID)
	return s != nil && (s.UpdateStatus != nil && s.UpdateStatus.CompletedAt == nil ||
		update.Config(s).Order == swarm.UpdateOrderStartFirst || after.Moves != "" || giving(v, after))
}

// giving reports whether another task of the slot is on a node that is drained
// so that it waits for this one.
func giving(v *state.View, t *state.Task) bool {
	for o := range v.TasksOfSlot(t.ServiceID, t.Slot) {
		if n := v.Node(o.NodeID); o.ID != t.ID && wanted(o) && n != nil && n.StartFirst {
			return true
		}
	}
	return false
}

// nodeMatters leaves out what no decision here depends on.
func nodeMatters(e state.Event) bool {
	if e.Old == nil || e.New == nil {
		return true
	}
	a, b := e.Old.(*state.Node), e.New.(*state.Node)
	fa, fb := facts(a), facts(b)
	return a.Status.State != b.Status.State || a.Spec.Availability != b.Spec.Availability || a.StartFirst != b.StartFirst ||
		fa.Hostname != fb.Hostname || fa.IP != fb.IP || fa.Role != fb.Role || fa.OS != fb.OS || fa.Arch != fb.Arch ||
		!maps.Equal(fa.NodeLabels, fb.NodeLabels) || !maps.Equal(fa.EngineLabels, fb.EngineLabels)
}
