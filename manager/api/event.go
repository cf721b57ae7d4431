package api

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	timestamp "github.com/docker/docker/api/types/time"

	"shoal/raftstore/state"
)

// keepEvents is how many events of the cluster can be replayed, as in Docker.
const keepEvents = 256

// Run turns changes of the state into events until ctx ends. Every manager
// runs it; without it Events has nothing to tell.
func (a *API) Run(ctx context.Context) error {
	index := a.config.Store.View().Index()
	for {
		changed := a.config.Store.Changed() // taken before the read, so no change is missed
		v := a.config.Store.View()
		// A restored snapshot has no history: what it skipped is not told.
		if changes, ok := v.Since(index); ok {
			a.publish(v, changes, time.Now())
		}
		index = v.Index()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *API) publish(v *state.View, changes []state.Event, now time.Time) {
	var messages []events.Message
	values := valueNews{view: v, changes: changes, told: map[string]bool{}}
	for _, c := range changes {
		if m, ok := message(c, now); ok && !values.silent(c) {
			versioned(c, &m)
			messages = append(messages, m)
		}
	}
	if len(messages) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recent = append(a.recent, messages...)
	if extra := len(a.recent) - keepEvents; extra > 0 {
		a.recent = append([]events.Message(nil), a.recent[extra:]...)
	}
	a.total += uint64(len(messages))
	close(a.more)
	a.more = make(chan struct{})
}

// eventQuery is which events a client wants.
type eventQuery struct {
	since, until time.Time // zero: from now on, for ever
	filter       filter
}

// Events calls emit with the events of the cluster that a query of GET /events
// asks for, in order, until the query's end or that of ctx. A query that cannot
// be read is refused at once. A reader that falls more than 256 events behind
// misses some, as with Docker.
func (a *API) Events(ctx context.Context, query url.Values, emit func(any) error) error {
	q, err := parseEventQuery(query)
	if err != nil {
		return err
	}
	var end <-chan time.Time
	if !q.until.IsZero() {
		timer := time.NewTimer(time.Until(q.until))
		defer timer.Stop()
		end = timer.C
	}
	next := a.firstEvent(q.since.IsZero() && q.until.IsZero())
	for {
		messages, after, more := a.eventsFrom(next)
		next = after
		for _, m := range messages {
			if !q.matches(m) {
				continue
			}
			if err := emit(m); err != nil {
				return err
			}
		}
		select {
		case <-more:
		case <-end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func parseEventQuery(query url.Values) (q eventQuery, err error) {
	if q.since, err = eventTime(query, "since"); err != nil {
		return q, err
	}
	if q.until, err = eventTime(query, "until"); err != nil {
		return q, err
	}
	if !q.since.IsZero() && !q.until.IsZero() && q.since.After(q.until) {
		return q, invalid("`since` time (%s) cannot be after `until` time (%s)", query.Get("since"), query.Get("until"))
	}
	args, err := filters.FromJSON(query.Get("filters"))
	if err != nil {
		return q, invalid("%v", err)
	}
	q.filter = filter{args} // with any key: the engine has more of them
	return q, nil
}

// eventTime reads seconds, maybe with a fraction, since 1970.
func eventTime(query url.Values, name string) (time.Time, error) {
	text := query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	seconds, nanos, err := timestamp.ParseTimestamps(text, -1)
	if err != nil {
		return time.Time{}, invalid("invalid %s time %q: %v", name, text, err)
	}
	return time.Unix(seconds, nanos), nil
}

// firstEvent is the number of the event to begin with.
func (a *API) firstEvent(newOnly bool) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if newOnly {
		return a.total
	}
	return a.total - uint64(len(a.recent))
}

// eventsFrom returns the events from number next on, the number after them,
// and what is closed when there are more.
func (a *API) eventsFrom(next uint64) ([]events.Message, uint64, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.total - uint64(len(a.recent))
	next = max(next, first)
	return a.recent[next-first:], a.total, a.more
}

func (q eventQuery) matches(m events.Message) bool {
	at, f := time.Unix(0, m.TimeNano), q.filter
	if !q.since.IsZero() && at.Before(q.since) || !q.until.IsZero() && at.After(q.until) {
		return false
	}
	if !f.exact("type", string(m.Type)) || !f.exact("event", string(m.Action)) || !f.exact("scope", m.Scope) ||
		!f.labels("label", m.Actor.Attributes) {
		return false
	}
	// A filter for one type of object, such as service=web, hides the others.
	for _, t := range []events.Type{
		events.ServiceEventType, events.NodeEventType, events.NetworkEventType, events.SecretEventType, events.ConfigEventType,
		events.ContainerEventType, events.ImageEventType, events.VolumeEventType, events.PluginEventType, events.DaemonEventType,
	} {
		if f.has(string(t)) && !f.fuzzy(string(t), m.Actor.ID, m.Actor.Attributes["name"]) {
			return false
		}
	}
	return true
}

// message is the event that a change means to users, if it means any: tasks
// and what only shoal knows have none.
func message(c state.Event, now time.Time) (events.Message, bool) {
	var kind events.Type
	var meta swarm.Meta
	attributes := map[string]string{}
	id := c.Object().Key()
	switch o := c.Object().(type) {
	case *state.Service:
		kind, meta, attributes["name"] = events.ServiceEventType, o.Meta, o.Spec.Name
		if old, ok := c.Old.(*state.Service); ok && c.New != nil {
			serviceChanges(attributes, old, o)
		}
	case *state.Node:
		kind, meta, attributes["name"] = events.NodeEventType, o.Meta, o.Spec.Name
		if o.Spec.Name == "" {
			attributes["name"] = o.Description.Hostname
		}
		if old, ok := c.Old.(*state.Node); ok && c.New != nil {
			nodeChanges(attributes, old, o)
		}
	case *state.Network:
		kind, meta, attributes["name"] = events.NetworkEventType, o.Meta, o.Spec.Name
		attributes["type"] = "overlay"
	case *state.Secret:
		kind, meta, attributes["name"] = events.SecretEventType, o.Meta, o.Spec.Name
	case *state.Config:
		kind, meta, attributes["name"] = events.ConfigEventType, o.Meta, o.Spec.Name
	default:
		return events.Message{}, false
	}
	action, at := events.ActionUpdate, meta.UpdatedAt
	switch {
	case c.New == nil:
		action, at = events.ActionRemove, now // a deletion has no time of its own
	case c.Old == nil:
		action, at = events.ActionCreate, meta.CreatedAt
	}
	return events.Message{
		Type: kind, Action: action, Actor: events.Actor{ID: id, Attributes: attributes},
		Scope: "swarm", Time: at.Unix(), TimeNano: at.UnixNano(),
	}, true
}

func note(attributes map[string]string, key, old, current string) {
	if old != current {
		attributes[key+".old"], attributes[key+".new"] = old, current
	}
}

func serviceChanges(attributes map[string]string, old, s *state.Service) {
	if a, b := old.Spec.TaskTemplate.ContainerSpec, s.Spec.TaskTemplate.ContainerSpec; a != nil && b != nil {
		note(attributes, "image", a.Image, b.Image)
	}
	if a, b := old.Spec.Mode.Replicated, s.Spec.Mode.Replicated; a != nil && b != nil {
		note(attributes, "replicas", strconv.FormatUint(deref(a.Replicas), 10), strconv.FormatUint(deref(b.Replicas), 10))
	}
	switch {
	case s.UpdateStatus == nil:
	case old.UpdateStatus == nil:
		attributes["updatestate.new"] = string(s.UpdateStatus.State)
	default:
		note(attributes, "updatestate", string(old.UpdateStatus.State), string(s.UpdateStatus.State))
	}
}

func nodeChanges(attributes map[string]string, old, n *state.Node) {
	note(attributes, "availability", string(old.Spec.Availability), string(n.Spec.Availability))
	note(attributes, "role", string(old.Spec.Role), string(n.Spec.Role))
	note(attributes, "state", string(old.Status.State), string(n.Status.State))
}
