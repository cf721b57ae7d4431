package logs

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/manager/api"
	"shoal/raftstore/state"
)

const (
	// atOnce is how many containers are read at a time when nothing is followed.
	atOnce = 64
	// quiet is between two looks for new tasks: below what a user notices.
	quiet = 100 * time.Millisecond
)

// selection is which tasks' logs are wanted: a service's, or one.
type selection struct {
	serviceID, taskID string
	tty               bool // the answer is not framed
}

func (s selection) tasks(v *state.View) iter.Seq[*state.Task] {
	if s.serviceID != "" {
		return v.TasksOfService(s.serviceID)
	}
	return func(yield func(*state.Task) bool) {
		if t := v.Task(s.taskID); t != nil {
			yield(t)
		}
	}
}

// there reports whether what was selected still exists.
func (s selection) there(v *state.View) bool {
	if s.serviceID != "" {
		return v.Service(s.serviceID) != nil
	}
	t := v.Task(s.taskID)
	return t != nil && !t.Status.State.Terminal()
}

// collector answers one request.
type collector struct {
	Config
	options
	selection

	out  *output
	seen map[string]bool // tasks whose logs are read, or were

	mu      sync.Mutex
	missing []string // why something is not there, once each
}

// run returns when all is read, when nothing more can come, or when ctx or the
// client ends.
func (c *collector) run(ctx context.Context) error {
	if c.follow && !c.end.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.end)
		defer cancel()
	}
	g, ctx := errgroup.WithContext(ctx)
	slots := semaphore.NewWeighted(atOnce)
	var err error
	for fresh := false; ; fresh = true {
		changed := c.Store.Changed() // taken before the read, so no task is missed
		v := c.Store.View()
		for t := range c.tasks(v) {
			if c.seen[t.ID] || !c.ready(v, t) {
				continue
			}
			c.seen[t.ID] = true
			g.Go(func() error { return c.read(ctx, slots, t, fresh) })
		}
		if !c.follow || !c.there(v) {
			break
		}
		if err = backoff.Pause(ctx, quiet); err != nil {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	if failed := g.Wait(); failed != nil { // the reason why ctx has ended
		return failed
	}
	if err != nil {
		return err
	}
	return c.sayMissing()
}

// ready reports whether there is something to read of a task, as far as is
// known. Those that will never have anything are told of.
func (c *collector) ready(v *state.View, t *state.Task) bool {
	switch {
	case t.NodeID == "":
		if !c.follow && c.taskID != "" {
			c.note(fmt.Sprintf("task %s has not been scheduled", t.ID))
		}
		return false
	case t.Status.ContainerID == "":
		return false
	case t.Status.State < taskstate.Starting: // its log would end before it begins
		return false
	}
	return v.Node(t.NodeID) != nil // else the container is gone
}

// read reads the log of a task's container, to the end of the task if logs are
// followed. It fails only if the client has gone.
func (c *collector) read(ctx context.Context, slots *semaphore.Weighted, t *state.Task, fresh bool) error {
	v := c.Store.View()
	s := &source{collector: c, task: t, name: api.TaskName(v, t), node: api.NodeName(v, t.NodeID), tty: api.TaskTTY(v, t), fresh: fresh}
	s.form = form{framed: c.out.framed, timestamps: c.timestamps, details: c.details, own: attributesOf(t)}
	if !c.follow {
		if err := slots.Acquire(ctx, 1); err != nil {
			return err
		}
		defer slots.Release(1)
		err := s.copy(ctx)
		if err != nil && !errdefs.IsNotFound(err) && s.broke == nil {
			c.note(err.Error())
		}
		return s.broke
	}
	return s.follow(ctx)
}

// note remembers why something is missing.
func (c *collector) note(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.missing {
		if known == why {
			return
		}
	}
	c.missing = append(c.missing, why)
}

// sayMissing ends an answer that is not whole as Swarm does: clients report it
// and fail.
func (c *collector) sayMissing() error {
	if len(c.missing) == 0 {
		return c.out.flush()
	}
	f := form{framed: c.out.framed}
	text := "Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream. some logs could not be retrieved for the following reasons: " +
		strings.Join(c.missing, ", ") + "\n"
	return c.out.write(f.append(nil, message{stream: systemError, text: []byte(text)}), false)
}
