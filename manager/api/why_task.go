package api

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/manager/orchestrator/restart"
	"shoal/raftstore/state"
)

func explainTask(v *state.View, t *state.Task, now time.Time) finding {
	why := finding{Why: Why{
		Kind: "task", ID: t.ID, Name: TaskName(v, t),
		State: t.Status.State.String(), DesiredState: t.Desired.String(),
	}}
	on := nodeName(v, t.NodeID)
	if t.Status.Message != "" {
		why.Evidence = append(why.Evidence, "message: "+t.Status.Message)
	}
	switch {
	case t.Status.State.Terminal():
		explainEnd(v, t, now, &why)
	case t.Desired > taskstate.Complete:
		why.Cause = "it is being stopped: another task has its place, or the service has shrunk or is gone"
		lateNode(v, t, &why)
	case t.Desired == taskstate.Ready && t.StartAfter.After(now) && !unplaceable(t):
		explainDelay(v, t, now, &why)
	case t.Status.State == taskstate.Pending:
		explainPending(v, t, now, &why)
	case t.Status.State == taskstate.New:
		explainNew(v, t, &why)
	case t.Desired == taskstate.Ready && t.Status.State == taskstate.Ready:
		why.Cause = "it is prepared and starts as soon as its predecessor has stopped"
	default:
		why.Cause = progress(t, on, now)
		lateNode(v, t, &why)
		if t.Status.State == taskstate.Starting {
			why.about = t
		}
	}
	return why
}

// explainEnd says how a task ended, and what follows.
func explainEnd(v *state.View, t *state.Task, now time.Time, why *finding) {
	cause, fix := ending(v, t)
	why.Cause, why.about = cause, t
	why.fix(fix)
	switch {
	case t.Desired > taskstate.Complete:
		why.Evidence = append(why.Evidence, "it belongs to the history: its place has been given to another task or is gone")
	case restart.Early(t) && t.StartAfter.After(now):
		why.Cause += "; " + nextTry(v, t, now, t.Restarts.Count+1, why)
	}
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
func lateNode(v *state.View, t *state.Task, why *finding) {
	n := v.Node(t.NodeID)
	switch {
	case t.NodeID == "":
	case n == nil:
		why.Evidence = append(why.Evidence, "node "+t.NodeID+" has been removed")
	case n.Status.State != swarm.NodeStateReady:
		why.Evidence = append(why.Evidence, fmt.Sprintf("node %s is %s: %s", nodeName(v, n.ID), n.Status.State, n.Status.Message))
		why.fix("bring node " + nodeName(v, n.ID) + " back: its daemon, its Docker Engine or its network")
	}
}

// explainDelay: the task waits because those before it ended too soon.
func explainDelay(v *state.View, t *state.Task, now time.Time, why *finding) {
	why.Cause = nextTry(v, t, now, t.Restarts.Count, why)
	if t.Restarts.Quick > 1 {
		why.Cause = fmt.Sprintf("crash loop: %d tasks in a row failed soon after their start; %s", t.Restarts.Quick, why.Cause)
	}
	if last := predecessor(v, t); last != nil {
		cause, fix := ending(v, last)
		why.Evidence = append(why.Evidence, fmt.Sprintf("before it, task %s: %s", last.ID, cause))
		why.fix(fix)
		why.about = last
	}
}

// nextTry is the countdown to the start of t, or of what follows it: the given
// number of the restarts of the slot.
func nextTry(v *state.View, t *state.Task, now time.Time, number uint64, why *finding) string {
	at := t.StartAfter
	why.RetryAt = &at
	wait := max(at.Sub(now).Round(time.Second), time.Second)
	text := fmt.Sprintf("restarting in %s (restart %d", wait, number)
	var policy *swarm.RestartPolicy
	if r := v.Revision(t.ServiceID, t.Revision); r != nil {
		policy = r.Spec.TaskTemplate.RestartPolicy
	}
	if policy != nil && policy.MaxAttempts != nil && *policy.MaxAttempts > 0 {
		text += fmt.Sprintf(", of %d at most", *policy.MaxAttempts)
		if policy.Window != nil && *policy.Window > 0 {
			text += fmt.Sprintf(" within %s", *policy.Window)
		}
	}
	if policy == nil || policy.Delay == nil || *policy.Delay < restart.MaxDelay {
		text += fmt.Sprintf("; the delay doubles with each quick failure, up to %s", strings.TrimSuffix(restart.MaxDelay.String(), "0s"))
	}
	return text + ")"
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
		cause = "node " + on + " could not start it"
	default:
		cause = "it failed on node " + on
	}
	if text != "" {
		cause += ": " + text
	}
	if t.Status.ExitCode != 0 && !strings.Contains(text, "exit") {
		cause += fmt.Sprintf(" (exit code %d)", t.Status.ExitCode)
	}
	if means := meaning(t.Status.ExitCode); means != "" && !strings.Contains(text, "unhealthy") && !strings.Contains(text, "out of memory") {
		cause += ": " + means
	}
	return cause, remedy(v, t, on)
}

// meaning is what an exit code says by custom: 128 and more are signals.
func meaning(code int) string {
	switch code {
	case 125:
		return "by custom, the container could not be run"
	case 126:
		return "the program is there but cannot be executed"
	case 127:
		return "the program, or one that it runs, was not found"
	case 128 + 1:
		return "ended by SIGHUP"
	case 128 + 2:
		return "interrupted (SIGINT)"
	case 128 + 3:
		return "ended by SIGQUIT"
	case 128 + 4:
		return "illegal instruction (SIGILL): is the image built for this processor?"
	case 128 + 6:
		return "it aborted (SIGABRT)"
	case 128 + 7:
		return "bus error (SIGBUS)"
	case 128 + 8:
		return "arithmetic error (SIGFPE)"
	case 128 + 9:
		return "killed (SIGKILL)"
	case 128 + 11:
		return "segmentation fault (SIGSEGV)"
	case 128 + 13:
		return "broken pipe (SIGPIPE)"
	case 128 + 15:
		return "ended by SIGTERM"
	}
	return ""
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
		{[]string{"unhealthy"}, "see what its health check said; if it needs longer to start: docker service update --health-start-period with more " + service},
		{[]string{"out of memory"}, memoryRemedy(v, t, service)},
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
		return "find out who killed it: its host for lack of memory (dmesg), or a docker kill; for a limit: docker service update --limit-memory with more, or none, " + service
	}
	return "read what it said: shoal logs " + t.ID
}

// memoryRemedy is about the limit that the kernel has enforced.
func memoryRemedy(v *state.View, t *state.Task, service string) string {
	r := v.Revision(t.ServiceID, t.Revision)
	if r == nil || r.Spec.TaskTemplate.Resources == nil || r.Spec.TaskTemplate.Resources.Limits == nil || r.Spec.TaskTemplate.Resources.Limits.MemoryBytes == 0 {
		return "it has no limit, so its host was short of memory: reserve what it needs with docker service update --reserve-memory " + service
	}
	limit := r.Spec.TaskTemplate.Resources.Limits.MemoryBytes
	return fmt.Sprintf("it needs more than its limit of %s: docker service update --limit-memory %s %s", memoryText(limit), exactMemory(2*limit), service)
}

func nodeName(v *state.View, id string) string {
	if n := v.Node(id); n != nil && n.Description.Hostname != "" {
		return n.Description.Hostname
	}
	return id
}
