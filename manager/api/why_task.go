package api

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

func explainTask(v *state.View, t *state.Task, now time.Time) Why {
	why := Why{
		Kind: "task", ID: t.ID, Name: TaskName(v, t),
		State: t.Status.State.String(), DesiredState: t.Desired.String(),
	}
	on := nodeName(v, t.NodeID)
	if t.Status.Message != "" {
		why.Evidence = append(why.Evidence, "message: "+t.Status.Message)
	}
	switch {
	case t.Status.State.Terminal():
		why.Cause, why.Fix = ending(v, t)
		if t.Desired > taskstate.Complete {
			why.Evidence = append(why.Evidence, "it belongs to the history: its place has been given to another task or is gone")
		}
	case t.Desired > taskstate.Complete:
		why.Cause = "it is being stopped: another task has its place, or the service has shrunk or is gone"
		lateNode(v, t, &why)
	case t.Status.State == taskstate.Pending:
		explainPending(v, t, &why)
	case t.Status.State == taskstate.New:
		explainNew(v, t, &why)
	case t.Desired == taskstate.Ready && t.StartAfter.After(now):
		explainDelay(v, t, now, &why)
	case t.Desired == taskstate.Ready && t.Status.State == taskstate.Ready:
		why.Cause = "it is prepared and starts as soon as its predecessor has stopped"
	default:
		why.Cause = progress(t, on, now)
		lateNode(v, t, &why)
	}
	return why
}

// progress says what a worker is doing with a task.
func progress(t *state.Task, on string, now time.Time) string {
	since := ""
	if !t.Status.At.IsZero() {
		since = " for " + now.Sub(t.Status.At).Round(time.Second).String()
	}
	switch t.Status.State {
	case taskstate.Assigned:
		return "node " + on + " has not taken it up yet"
	case taskstate.Accepted, taskstate.Preparing:
		return "node " + on + " is pulling the image or creating the container" + since
	case taskstate.Ready:
		return "its container is about to be started on node " + on
	case taskstate.Starting:
		return "its container runs on node " + on + since + " but its health check has not passed yet"
	default:
		return "it runs on node " + on + since
	}
}

// lateNode adds that the task's node is not heard of.
func lateNode(v *state.View, t *state.Task, why *Why) {
	n := v.Node(t.NodeID)
	switch {
	case t.NodeID == "":
	case n == nil:
		why.Evidence = append(why.Evidence, "node "+t.NodeID+" has been removed")
	case n.Status.State != swarm.NodeStateReady:
		why.Evidence = append(why.Evidence, fmt.Sprintf("node %s is %s: %s", nodeName(v, n.ID), n.Status.State, n.Status.Message))
		why.Fix = "bring node " + nodeName(v, n.ID) + " back: its daemon, its Docker Engine or its network"
	}
}

// explainDelay: the task waits because those before it ended too soon.
func explainDelay(v *state.View, t *state.Task, now time.Time, why *Why) {
	wait := t.StartAfter.Sub(now).Round(time.Second)
	why.Cause = fmt.Sprintf("it starts in %s, after the restart delay", wait)
	if t.Restarts.Quick > 1 {
		why.Cause = fmt.Sprintf("crash loop: %d tasks in a row failed soon after their start; the next try is in %s", t.Restarts.Quick, wait)
	}
	if t.Restarts.Count > 0 {
		why.Evidence = append(why.Evidence, fmt.Sprintf("restarts of this slot: %d", t.Restarts.Count))
	}
	if last := predecessor(v, t); last != nil {
		cause, fix := ending(v, last)
		why.Evidence = append(why.Evidence, fmt.Sprintf("before it, task %s: %s", last.ID, cause))
		why.Fix = fix
	}
}

// predecessor is the task that last ended in t's place.
func predecessor(v *state.View, t *state.Task) (last *state.Task) {
	for o := range v.TasksOfSlot(t.ServiceID, t.Slot) {
		if o.ID == t.ID || !o.Status.State.Terminal() || t.Slot == 0 && o.NodeID != t.NodeID {
			continue
		}
		if last == nil || o.Status.At.After(last.Status.At) {
			last = o
		}
	}
	return last
}

// ending says how a task ended, and what would help if that is known.
func ending(v *state.View, t *state.Task) (cause, fix string) {
	on := nodeName(v, t.NodeID)
	text := cmp.Or(t.Status.Err, t.Status.Message)
	switch t.Status.State {
	case taskstate.Complete:
		return "it ended by itself with exit code 0 on node " + on, "if it should keep running: check what its command does; a service's process must stay in the foreground"
	case taskstate.Shutdown:
		return "it was stopped on node " + on, ""
	case taskstate.Orphaned:
		return "its node " + on + " is gone for good", ""
	case taskstate.Rejected:
		cause = "node " + on + " could not start it: " + text
	default:
		cause = "it failed on node " + on + ": " + text
	}
	if t.Status.ExitCode != 0 && !strings.Contains(text, "exit") {
		cause += fmt.Sprintf(" (exit code %d)", t.Status.ExitCode)
	}
	return cause, remedy(v, t, on)
}

// remedy knows the usual reasons by the engine's words for them.
func remedy(v *state.View, t *state.Task, on string) string {
	service, image := t.ServiceID, ""
	if s := v.Service(t.ServiceID); s != nil {
		service = s.Spec.Name
	}
	if r := v.Revision(t.ServiceID, t.Revision); r != nil && r.Spec.TaskTemplate.ContainerSpec != nil {
		image = r.Spec.TaskTemplate.ContainerSpec.Image
	}
	known := []struct {
		words []string
		fix   string
	}{
		{
			[]string{"pull access denied", "unauthorized", "authentication required", "no basic auth"},
			"docker login to the registry of " + image + ", then docker service update --with-registry-auth " + service,
		},
		{
			[]string{"No such image", "manifest unknown", "not found: manifest", "repository does not exist", "name unknown"},
			"check the name and tag of image " + image + " and that node " + on + " reaches its registry",
		},
		{[]string{"bind source path does not exist"}, "create the directory on node " + on + ", or use a volume"},
		{[]string{"port is already allocated", "address already in use"}, "free the port on node " + on + ", or publish another one"},
		{[]string{"executable file not found", "no such file or directory", "permission denied: unknown"}, "check the command: image " + image + " has no such program"},
		{[]string{"unhealthy"}, "see the container's health log: docker inspect " + short(t.Status.ContainerID) + " on node " + on},
		{[]string{"no longer meets constraints"}, "it is replaced on a node that meets them, if there is one"},
	}
	for _, k := range known {
		for _, words := range k.words {
			if strings.Contains(t.Status.Err, words) {
				return k.fix
			}
		}
	}
	return remedyByCode(t, service)
}

func remedyByCode(t *state.Task, service string) string {
	switch t.Status.ExitCode {
	case 0:
		return ""
	case 126, 127:
		return "check the command: the program cannot be run (exit code 126) or is not in the image (127)"
	case 137:
		return "it was killed, most often for lack of memory: docker service update --limit-memory with more, or none, " + service
	}
	return "read what it said: shoal logs " + t.ID
}

func short(id string) string { return id[:min(12, len(id))] }

func nodeName(v *state.View, id string) string {
	if n := v.Node(id); n != nil && n.Description.Hostname != "" {
		return n.Description.Hostname
	}
	return id
}
