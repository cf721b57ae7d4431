package cli

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/cli/format"
)

// maxBars: above it only the sums are shown, as Docker does.
const maxBars = 20

// defaultMonitor is how long all must run before it counts as converged, where
// the update configuration does not say.
const defaultMonitor = 5 * time.Second

// sight is what was seen of a service at one moment.
type sight struct {
	service swarm.Service
	tasks   []swarm.Task    // up to date with the spec
	down    map[string]bool // nodes that are down
}

// convergence follows a service until it has converged.
type convergence struct {
	// asked: the user asked for the rollback, so that it ends well.
	asked bool

	since   time.Time // all run since then; zero: not all run
	lost    bool      // they did once, and then did not
	rolling bool
	gaveUp  time.Time   // a place has been given up since then; zero: none
	slots   map[int]int // slot to place in the display
	reason  string      // why it rolled back
}

// outcome is how it stands after a sight.
type outcome struct {
	frame format.Frame
	done  bool
	err   error // paused, rolled back, or given up
}

// step takes the next sight. It is pure but for what c remembers.
func (c *convergence) step(s sight, now time.Time) outcome {
	if err := c.status(s.service.UpdateStatus); err != nil {
		return outcome{err: err}
	}
	o := outcome{}
	var all bool
	switch m := s.service.Spec.Mode; {
	case m.Replicated != nil && m.Replicated.Replicas != nil:
		all = c.replicated(s, *m.Replicated.Replicas, &o.frame)
	case m.Global != nil:
		all = c.global(s, &o.frame)
	case m.ReplicatedJob != nil || m.GlobalJob != nil:
		if o.done = job(s, &o.frame); !o.done {
			o.err = c.hopeless(s, now)
		}
		return o
	default:
		o.err = fmt.Errorf("unrecognized service mode")
		return o
	}
	if !all {
		if !c.since.IsZero() {
			c.lost = true
		}
		if c.lost {
			o.frame.Footer = "verify: Detected task failure"
		}
		c.since = time.Time{}
		o.err = c.hopeless(s, now)
		return o
	}
	c.lost = false
	if c.since.IsZero() {
		c.since = now
	}
	monitor := defaultMonitor
	if u := s.service.Spec.UpdateConfig; u != nil && u.Monitor != 0 {
		monitor = u.Monitor
	}
	left := monitor - now.Sub(c.since)
	if left > 0 {
		o.frame.Footer = fmt.Sprintf("verify: Waiting %d seconds to verify that tasks are stable...", (left+time.Second-1)/time.Second)
		return o
	}
	o.frame.Footer = fmt.Sprintf("verify: Service %s converged", s.service.ID)
	o.done = true
	if c.reason != "" && !c.asked {
		o.err = fmt.Errorf("service update rolled back: %s", c.reason)
	}
	return o
}

// status reads what the server says of the update. "completed" says nothing
// here: it may be left from an earlier update, and the tasks tell.
func (c *convergence) status(u *swarm.UpdateStatus) error {
	if u == nil {
		return nil
	}
	switch u.State {
	case swarm.UpdateStatePaused:
		return fmt.Errorf("service update paused: %s", u.Message)
	case swarm.UpdateStateRollbackPaused:
		return fmt.Errorf("service rollback paused: %s", u.Message)
	case swarm.UpdateStateRollbackStarted, swarm.UpdateStateRollbackCompleted:
		c.rolling = true
		if c.reason == "" { // what it began with says why, what it ends with does not
			c.reason = u.Message
		}
		if c.reason == "" {
			c.reason = "update failed"
		}
	case swarm.UpdateStateUpdating, swarm.UpdateStateCompleted:
		c.rolling, c.reason = false, ""
	}
	return nil
}

func (c *convergence) header(n, m int) string {
	if c.rolling {
		return fmt.Sprintf("overall progress: rolling back update: %d out of %d tasks", n, m)
	}
	return fmt.Sprintf("overall progress: %d out of %d tasks", n, m)
}

// order of task states; those above running are ends.
func order(s swarm.TaskState) int {
	switch s {
	case swarm.TaskStateNew:
		return 1
	case swarm.TaskStateAllocated:
		return 2
	case swarm.TaskStatePending:
		return 3
	case swarm.TaskStateAssigned:
		return 4
	case swarm.TaskStateAccepted:
		return 5
	case swarm.TaskStatePreparing:
		return 6
	case swarm.TaskStateReady:
		return 7
	case swarm.TaskStateStarting:
		return 8
	case swarm.TaskStateRunning:
		return 9
	case swarm.TaskStateComplete:
		return 10
	case swarm.TaskStateShutdown:
		return 11
	case swarm.TaskStateFailed:
		return 12
	case swarm.TaskStateRejected:
		return 13
	case swarm.TaskStateRemove, swarm.TaskStateOrphaned:
	}
	return 0
}

const running = 9

// best keeps one task per place: the one that wants to run, and of those the
// one that is least far, so that a replacement is shown as it comes up.
func best[K comparable](tasks []swarm.Task, down map[string]bool, place func(swarm.Task) K) map[K]swarm.Task {
	out := map[K]swarm.Task{}
	for _, t := range tasks {
		if order(t.DesiredState) == 0 || order(t.Status.State) == 0 || t.NodeID != "" && down[t.NodeID] {
			continue
		}
		if old, ok := out[place(t)]; ok {
			byDesired := order(old.DesiredState) - order(t.DesiredState)
			if byDesired < 0 || byDesired == 0 && order(old.Status.State) <= order(t.Status.State) {
				continue
			}
		}
		out[place(t)] = t
	}
	return out
}

func runs(t swarm.Task) bool {
	return order(t.DesiredState) <= running && t.Status.State == swarm.TaskStateRunning
}

func (c *convergence) replicated(s sight, replicas uint64, f *format.Frame) bool {
	bySlot := best(s.tasks, s.down, func(t swarm.Task) int { return t.Slot })
	if c.slots == nil {
		c.slots = map[int]int{}
	}
	slots := make([]int, 0, len(bySlot))
	for slot := range bySlot {
		slots = append(slots, slot)
	}
	sort.Ints(slots)
	n := 0
	if replicas <= maxBars {
		for i := range replicas {
			f.Bars = append(f.Bars, format.Bar{Name: fmt.Sprintf("%d/%d", i+1, replicas)})
		}
	}
	for _, slot := range slots {
		if _, ok := c.slots[slot]; !ok {
			c.slots[slot] = len(c.slots)
		}
		t := bySlot[slot]
		if runs(t) {
			n++
		}
		if at := c.slots[slot]; at < len(f.Bars) {
			fill(&f.Bars[at], t)
		}
	}
	f.Header = c.header(n, int(min(replicas, 1<<31))) //nolint:gosec // bounded
	return uint64(n) == replicas                      //nolint:gosec // not negative
}

func (c *convergence) global(s sight, f *format.Frame) bool {
	byNode := best(s.tasks, s.down, func(t swarm.Task) string { return t.NodeID })
	if len(byNode) == 0 {
		f.Header = "overall progress: waiting for new tasks"
		return false
	}
	nodes := make([]string, 0, len(byNode))
	n := 0
	for id, t := range byNode {
		nodes = append(nodes, id)
		if runs(t) {
			n++
		}
	}
	sort.Strings(nodes)
	if len(nodes) <= maxBars {
		for _, id := range nodes {
			b := format.Bar{Name: format.TruncateID(id)}
			fill(&b, byNode[id])
			f.Bars = append(f.Bars, b)
		}
	}
	f.Header = c.header(n, len(nodes))
	return n == len(nodes)
}

// job counts the tasks of the current iteration that are complete.
func job(s sight, f *format.Frame) bool {
	places := map[string]swarm.Task{}
	for _, t := range s.tasks {
		if !ofRun(s.service, t) || order(t.Status.State) == 0 {
			continue
		}
		place := placeOf(s.service, t)
		if old, ok := places[place]; !ok || order(old.Status.State) > order(t.Status.State) {
			places[place] = t
		}
	}
	complete, active := 0, 0
	for _, t := range places {
		switch {
		case t.Status.State == swarm.TaskStateComplete:
			complete++
		case order(t.Status.State) <= running:
			active++
		}
	}
	total := len(places)
	if m := s.service.Spec.Mode.ReplicatedJob; m != nil && m.TotalCompletions != nil {
		total = int(min(*m.TotalCompletions, 1<<31)) //nolint:gosec // bounded
	} else if total == 0 {
		f.Header = "job progress: waiting for tasks"
		return false
	}
	f.Header = fmt.Sprintf("job progress: %d out of %d complete, %d active", complete, total, active)
	if complete == total {
		f.Footer = "job complete"
	}
	return complete == total
}

// fill shows a task in its bar: its error, or how far it is.
func fill(b *format.Bar, t swarm.Task) {
	if t.Status.Err != "" {
		b.Text = shorten(t.Status.Err)
		return
	}
	if order(t.DesiredState) <= running && order(t.Status.State) <= running {
		b.Text, b.Current, b.Total = string(t.Status.State), order(t.Status.State), running
	}
}

// shorten keeps an error on one line of a narrow terminal.
func shorten(s string) string {
	const width = 75
	return format.Ellipsis(strings.Join(strings.Fields(s), " "), width)
}
