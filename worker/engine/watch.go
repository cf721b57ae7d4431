package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// overlap is how far a watch looks back: the engine says that it listens a
// moment before it does.
const overlap = time.Second

// greetTime is how long an engine may take to say that it is there.
const greetTime = 10 * time.Second

// greet agrees with the engine on an API version. Without it, an engine that
// hangs would look like one where nothing happens.
func (e *Engine) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	_, err := e.APIVersion(ctx)
	return err
}

// Watch calls notify for what happens to containers that carry label with
// this value, first of all with Event.Resync. It returns when the engine is
// gone or ctx ends, never nil. Call it again to go on.
func (e *Engine) Watch(ctx context.Context, label, value string, notify func(Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := e.greet(ctx); err != nil {
		return fmt.Errorf("watch engine: %w", err)
	}
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("label", label+"="+value))
	for _, action := range []string{"die", "oom", "destroy", "health_status"} {
		args.Add("event", action)
	}
	since := time.Now().Add(-overlap)
	messages, errs := e.client().Events(ctx, events.ListOptions{
		Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()), Filters: args,
	})
	notify(Event{Resync: true})
	for {
		select {
		case m := <-messages:
			notify(Event{ContainerID: m.Actor.ID, Name: m.Actor.Attributes["name"], Labels: m.Actor.Attributes})
		case err := <-errs:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			e.renew()
			return fmt.Errorf("watch engine: %w: event stream ended: %w", errdefs.ErrUnavailable, err)
		}
	}
}
