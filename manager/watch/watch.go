// Package watch gathers what the containers of the cluster do, as the engines of
// their nodes tell it, for GET /events.
//
// It runs on the manager that is asked, while it is asked, and writes nothing.
package watch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	timestamp "github.com/docker/docker/api/types/time"
	"golang.org/x/sync/errgroup"

	"shoal/internal/backoff"
	"shoal/manager/api"
	"shoal/raftstore/state"
)

// Attributes that say where a container is.
const (
	NodeID   = "node.id"
	NodeName = "node.name"
)

// Store is what is needed of the replicated state.
type Store interface {
	View() *state.View
	Changed() <-chan struct{}
}

// Config is what a Watch needs. Zero values take the default named.
type Config struct {
	Store Store // required
	// Open asks a node for the events of its containers, GET /events of its engine.
	// Required.
	Open func(ctx context.Context, nodeID string, query url.Values) (io.ReadCloser, error)
	// Here is the node of this manager, whose engine is asked by itself.
	Here string
	Log  *slog.Logger // slog.Default()
}

// Watch gathers events.
type Watch struct{ Config }

// New returns a Watch. It holds nothing between requests.
func New(c Config) *Watch {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Watch{c}
}

// quiet is between two looks for new nodes.
const quiet = 100 * time.Millisecond

// request is one query.
type request struct {
	*Watch
	query url.Values // as nodes are asked
	nodes []string   // values of the filter node; none: all but this one
	begun time.Time
	until time.Time // zero: for ever
	emit  func(any) error
	asked map[string]bool
}

// Events calls emit with the events that match a query of GET /events, until
// the query's end or that of ctx. Emit may be called by several goroutines.
// A node that is out of reach is asked again; what it has missed by then it is
// asked for.
func (w *Watch) Events(ctx context.Context, query url.Values, emit func(any) error) error {
	r := &request{Watch: w, begun: time.Now(), emit: emit, asked: map[string]bool{}}
	wanted, err := r.parse(query)
	if err != nil || !wanted {
		return err
	}
	if !r.until.IsZero() && r.until.After(r.begun) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.until)
		defer cancel()
	}
	g, ctx := errgroup.WithContext(ctx)
	for {
		changed := w.Store.Changed()
		r.start(ctx, g)
		if !r.until.IsZero() && !r.until.After(r.begun) {
			return g.Wait() // the past has the nodes that there are
		}
		if backoff.Pause(ctx, quiet) != nil {
			return g.Wait()
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// parse reports whether anything here can match.
func (r *request) parse(query url.Values) (wanted bool, err error) {
	args, err := filters.FromJSON(query.Get("filters"))
	if err != nil {
		return false, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	if !args.ExactMatch("type", string(events.ContainerEventType)) || !args.ExactMatch("scope", "local") {
		return false, nil
	}
	r.nodes = args.Get("node")
	for _, n := range r.nodes {
		args.Del("node", n)
	}
	text, err := filters.ToJSON(args)
	if err != nil {
		return false, err
	}
	r.query = url.Values{"filters": {text}}
	for _, name := range []string{"since", "until"} {
		if v := query.Get(name); v != "" {
			r.query.Set(name, v)
		}
	}
	seconds, nanos, err := timestamp.ParseTimestamps(query.Get("until"), -1)
	if err != nil {
		return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid until time %q: %v", query.Get("until"), err))
	}
	if seconds >= 0 {
		r.until = time.Unix(seconds, nanos)
	}
	return true, nil
}

// start asks the nodes that have not been asked yet.
func (r *request) start(ctx context.Context, g *errgroup.Group) {
	for n := range r.Store.View().Nodes() {
		if r.asked[n.ID] || !r.wants(n) {
			continue
		}
		r.asked[n.ID] = true
		g.Go(func() error { return r.node(ctx, n.ID) })
	}
}

// wants: without a filter, this node's engine tells by itself.
func (r *request) wants(n *state.Node) bool {
	if len(r.nodes) == 0 {
		return n.ID != r.Here
	}
	return slices.ContainsFunc(r.nodes, func(ref string) bool {
		return strings.HasPrefix(n.ID, ref) || strings.HasPrefix(n.Spec.Name, ref) || strings.HasPrefix(n.Description.Hostname, ref)
	})
}

// node hands on the events of one node, while it is of the cluster. It fails
// only if nobody listens any more.
func (r *request) node(ctx context.Context, id string) error {
	wait := backoff.Backoff{Min: 500 * time.Millisecond, Max: 10 * time.Second}
	query := url.Values{}
	for k, v := range r.query {
		query[k] = v
	}
	last, broke := r.begun.UnixNano()-1, error(nil)
	for {
		began := time.Now()
		err := r.listen(ctx, id, query, func(e events.Message) error {
			last = max(last, e.TimeNano)
			broke = r.emit(e)
			return broke
		})
		v := r.Store.View()
		switch {
		case broke != nil:
			return broke
		case ctx.Err() != nil, err == nil && !r.until.IsZero(), v.Node(id) == nil:
			return nil
		case !r.until.IsZero() && !r.until.After(r.begun):
			r.Log.Warn("events of a node are missing from an answer", "node", id, "error", err)
			return nil
		}
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		if wait.Wait(ctx) != nil {
			return nil
		}
		next := time.Unix(0, last+1)
		query.Set("since", fmt.Sprintf("%d.%09d", next.Unix(), next.Nanosecond()))
	}
}

func (r *request) listen(ctx context.Context, id string, query url.Values, take func(events.Message) error) error {
	stream, err := r.Open(ctx, id, query)
	if err != nil {
		return err
	}
	defer stream.Close()
	return Read(stream, func(e events.Message) error {
		return take(Placed(e, id, api.NodeName(r.Store.View(), id)))
	})
}

// Placed is an event of a container with where it is.
func Placed(e events.Message, nodeID, name string) events.Message {
	if e.Actor.Attributes == nil {
		e.Actor.Attributes = map[string]string{}
	}
	e.Actor.Attributes[NodeID], e.Actor.Attributes[NodeName] = nodeID, name
	return e
}
