// Package logs answers GET /services/{id}/logs and /tasks/{id}/logs: it reads the
// logs of tasks' containers on whatever nodes they are, and merges them.
//
// It runs on the manager that is asked, from the manager's own replica of the
// state, and writes nothing. What it holds is bounded for each container, and
// nothing grows with what a log holds: who reads slowly slows the engines down.
package logs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/containerd/errdefs"

	"shoal/manager/api"
	"shoal/raftstore/state"
)

// Store is what the logs need of the replicated state.
type Store interface {
	View() *state.View
	Changed() <-chan struct{}
}

// Config is what Logs needs. Zero values take the default named.
type Config struct {
	Store Store // required
	// Open reads the log of a container on a node: a query of the engine's GET
	// /containers/ID/logs, and its answer. Required.
	Open func(ctx context.Context, nodeID, containerID string, query url.Values) (io.ReadCloser, error)
	// Current reports whether the view has all that is confirmed; nil: always. If
	// not, what is missing from it is waited for.
	Current func(ctx context.Context) bool
	Log     *slog.Logger // slog.Default()
}

// Logs serves the two calls.
type Logs struct{ Config }

// New returns Logs. It holds nothing between requests.
func New(c Config) *Logs {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Current == nil {
		c.Current = func(context.Context) bool { return true }
	}
	return &Logs{c}
}

// Service answers GET /services/{id}/logs.
func (l *Logs) Service(w http.ResponseWriter, r *http.Request) {
	l.answer(w, r, func(v *state.View) (selection, error) {
		s, err := api.FindService(v, r.PathValue("id"))
		if err != nil {
			return selection{}, err
		}
		c := s.Spec.TaskTemplate.ContainerSpec
		return selection{serviceID: s.ID, tty: c != nil && c.TTY}, nil
	})
}

// Task answers GET /tasks/{id}/logs.
func (l *Logs) Task(w http.ResponseWriter, r *http.Request) {
	l.answer(w, r, func(v *state.View) (selection, error) {
		t, err := api.FindTask(v, r.PathValue("id"))
		if err != nil {
			return selection{}, err
		}
		return selection{taskID: t.ID, tty: api.TaskTTY(v, t)}, nil
	})
}

func (l *Logs) answer(w http.ResponseWriter, r *http.Request, find func(*state.View) (selection, error)) {
	opt, err := parseOptions(r.URL.Query())
	if err != nil {
		api.WriteError(w, err)
		return
	}
	chosen, err := l.find(r.Context(), find)
	if err == nil {
		err = opt.checkTail() // Swarm looks for the service first
	}
	if err != nil {
		api.WriteError(w, err)
		return
	}
	kind := "application/vnd.docker.raw-stream"
	if !chosen.tty && api.AtLeast(r, "1.42") {
		kind = "application/vnd.docker.multiplexed-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	out := newOutput(w, http.NewResponseController(w).Flush, !chosen.tty)
	if out.flush() != nil {
		return // the client has gone
	}
	c := &collector{Config: l.Config, options: opt, selection: chosen, out: out, seen: map[string]bool{}}
	if err := c.run(r.Context()); err != nil && r.Context().Err() == nil {
		l.Log.Debug("logs ended early", "path", r.URL.Path, "error", err)
	}
}

// patience is how long a manager that follows is given to hear of what the
// leader has confirmed.
const patience = 500 * time.Millisecond

// find looks again while this manager may not have heard of it yet.
func (l *Logs) find(ctx context.Context, find func(*state.View) (selection, error)) (selection, error) {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		changed := l.Store.Changed()
		chosen, err := find(l.Store.View())
		if !errdefs.IsNotFound(err) || l.Current(ctx) {
			return chosen, err
		}
		select {
		case <-changed:
		case <-wait.Done():
			return chosen, errors.Join(err, ctx.Err())
		}
	}
}
