package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"shoal/manager/api"
	"shoal/manager/relay"
	"shoal/raftstore/state"
)

const (
	// witnessTime is how long a node has to tell of a container: whoever asks why
	// waits for it. 3s: a node that is lost is noticed by then.
	witnessTime = 3 * time.Second
	tailLines   = 10
	// Of the health checks, which may say anything.
	maxCheckups = 3
	maxCheckup  = 1 << 10
	maxInspect  = 1 << 20
)

// witness asks engines about containers.
type witness struct {
	tail    func(ctx context.Context, t *state.Task, lines int) ([]string, error)
	inspect func(ctx context.Context, nodeID, containerID string) (io.ReadCloser, error)
	name    func(nodeID string) string
}

func (m *Manager) witness(ctx context.Context, t *state.Task) api.Testimony {
	return witness{
		tail: m.Logs().Tail, name: m.NodeName,
		inspect: func(ctx context.Context, nodeID, containerID string) (io.ReadCloser, error) {
			return m.relay.Open(ctx, relay.Target{NodeID: nodeID, Name: m.NodeName(nodeID), Path: "/containers/" + containerID + "/json"})
		},
	}.ask(ctx, t)
}

// ask returns what can be learnt within a few seconds.
func (w witness) ask(ctx context.Context, t *state.Task) api.Testimony {
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	var (
		out   api.Testimony
		state *container.State
		g     errgroup.Group
		errs  [2]error
	)
	g.Go(func() error {
		out.Output, errs[0] = w.tail(ctx, t, tailLines)
		return nil
	})
	g.Go(func() error {
		state, errs[1] = w.state(ctx, t)
		return nil
	})
	_ = g.Wait() // they return none
	for _, err := range errs {
		if err != nil {
			out.Missing = missing(out.Missing, w.reason(ctx, t, err))
		}
	}
	if state != nil {
		out.OOM = state.OOMKilled
		out.Health = checkups(state.Health)
	}
	return out
}

func (w witness) state(ctx context.Context, t *state.Task) (*container.State, error) {
	body, err := w.inspect(ctx, t.NodeID, t.Status.ContainerID)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var got struct{ State *container.State }
	if err := json.NewDecoder(io.LimitReader(body, maxInspect)).Decode(&got); err != nil { //nolint:musttag // named as in Docker's API
		return nil, fmt.Errorf("what node %s says of the container cannot be read: %w", w.name(t.NodeID), err)
	}
	return got.State, nil
}

func (w witness) reason(ctx context.Context, t *state.Task, err error) string {
	switch {
	case errdefs.IsNotFound(err):
		return fmt.Sprintf("the container is gone from node %s", w.name(t.NodeID))
	case ctx.Err() != nil:
		return fmt.Sprintf("node %s has not answered within %s", w.name(t.NodeID), witnessTime)
	}
	return err.Error()
}

// missing adds a reason, once.
func missing(reasons []string, reason string) []string {
	if slices.Contains(reasons, reason) {
		return reasons
	}
	return append(reasons, reason)
}

// checkups are the last failed ones, those that say the same counted.
func checkups(h *container.Health) (all []api.Checkup) {
	if h == nil {
		return nil
	}
	for _, r := range h.Log {
		if r == nil || r.ExitCode == 0 {
			continue
		}
		c := api.Checkup{At: r.End, ExitCode: r.ExitCode, Output: r.Output[:min(len(r.Output), maxCheckup)], Times: 1}
		if n := len(all); n > 0 && all[n-1].ExitCode == c.ExitCode && all[n-1].Output == c.Output {
			c.Times += all[n-1].Times
			all = all[:n-1]
		}
		all = append(all, c)
	}
	return all[max(0, len(all)-maxCheckups):]
}
