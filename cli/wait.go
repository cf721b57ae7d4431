package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/moby/term"

	"shoal/cli/format"
)

const (
	// pollEvery is Docker's period.
	pollEvery = 200 * time.Millisecond
	// pollPatience: a change of leader takes a second or two.
	pollPatience = 15 * time.Second
)

// waitFlags say whether and how long to wait for a service.
type waitFlags struct {
	detach, quiet bool
	timeout       time.Duration
	rollback      bool // the user asked for it
}

func (w *waitFlags) add(f *flags) {
	f.toggle(&w.detach, "detach,d", "Exit immediately instead of waiting for the service to converge")
	f.toggle(&w.quiet, "quiet,q", "Suppress progress output")
	f.add(&span{p: &w.timeout}, "duration", "wait-timeout", "Give up waiting after this time, with exit code 124; the service is left as it is").def("0 = wait as long as it takes")
}

// watched is where sights come from.
type watched interface {
	look(ctx context.Context) (sight, error)
}

// wait shows the service's progress until it has converged.
func (s *shell) wait(ctx context.Context, api *client.Client, w waitFlags, ref string) error {
	return s.follow(ctx, w, ref, &apiSource{api: api, ref: ref}, s.progress(w.quiet))
}

// progress picks how to show it: redrawn on a terminal, else a line per change.
func (s *shell) progress(quiet bool) format.Progress {
	if quiet {
		return format.Silent{}
	}
	f, ok := s.out.(*os.File)
	if !ok || !term.IsTerminal(f.Fd()) || s.getenv("TERM") == "dumb" {
		return format.NewLines(s.out)
	}
	size := func() (width, height int) {
		ws, err := term.GetWinsize(f.Fd())
		if err != nil || ws.Width == 0 {
			return 80, 24 // the size of a terminal that does not tell
		}
		return int(ws.Width), int(ws.Height)
	}
	return format.NewScreen(s.out, size)
}

// follow is wait with its edges cut off.
func (s *shell) follow(parent context.Context, w waitFlags, ref string, from watched, show format.Progress) error {
	ctx := parent
	if w.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(parent, w.timeout)
		defer cancel()
	}
	c := convergence{asked: w.rollback}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last format.Frame
	seen := time.Now()
	for {
		got, err := from.look(ctx)
		switch {
		case ctx.Err() != nil:
			return s.leaveBehind(parent, w, ref, last)
		case err != nil && (errdefs.IsNotFound(err) || time.Since(seen) > pollPatience):
			return err
		case err == nil:
			seen = time.Now()
			o := c.step(got, seen)
			if o.frame.Header != "" {
				last = o.frame
				show.Show(o.frame)
			}
			if o.err != nil {
				return fmt.Errorf("%w; see 'shoal why %s'", o.err, ref)
			}
			if o.done {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return s.leaveBehind(parent, w, ref, last)
		case <-tick.C:
		}
	}
}

// leaveBehind says that the service goes on without us.
func (s *shell) leaveBehind(parent context.Context, w waitFlags, ref string, last format.Frame) error {
	if parent.Err() == nil {
		where := ""
		if last.Header != "" {
			where = " (" + last.Header + ")"
		}
		return &exitError{code: codeTimeout, err: fmt.Errorf("service %s has not converged within --wait-timeout %s%s; it continues in background, see 'shoal why %s'", ref, w.timeout, where, ref)}
	}
	fmt.Fprintf(s.err, "Operation continuing in background.\nUse `shoal service ps %s` to check progress, `shoal why %s` to see what it waits for.\n", ref, ref)
	return &exitError{code: codeInterrupted}
}

// apiSource looks through the API.
type apiSource struct {
	api    *client.Client
	ref    string
	down   map[string]bool
	looked time.Time // when the nodes were listed
}

// nodesEvery: nodes go down within seconds, not milliseconds.
const nodesEvery = time.Second

func (a *apiSource) look(ctx context.Context) (sight, error) {
	service, _, err := a.api.ServiceInspectWithRaw(ctx, a.ref, swarm.ServiceInspectOptions{})
	if err != nil {
		return sight{}, err
	}
	a.ref = service.ID
	tasks, err := a.api.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(
		filters.Arg("service", service.ID), filters.Arg("_up-to-date", "true"))})
	if err != nil {
		return sight{}, err
	}
	if time.Since(a.looked) >= nodesEvery {
		if err := a.listNodes(ctx); err != nil {
			return sight{}, err
		}
	}
	return sight{service: service, tasks: tasks, down: a.down}, nil
}

func (a *apiSource) listNodes(ctx context.Context) error {
	nodes, err := a.api.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return err
	}
	a.down = map[string]bool{}
	for _, n := range nodes {
		if n.Status.State == swarm.NodeStateDown {
			a.down[n.ID] = true
		}
	}
	a.looked = time.Now()
	return nil
}
