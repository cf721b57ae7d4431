package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

func (s *shell) nodeDrain() *command {
	var (
		wait    bool
		timeout time.Duration
		f       = &flags{}
	)
	f.toggle(&wait, "wait", "Start the successor of each task before the task stops, and wait until none is left")
	f.add(&span{p: &timeout}, "duration", "wait-timeout", "Give up waiting after this time, with exit code 124; the drain goes on").def("0 = wait as long as it takes")
	return &command{
		name: "drain", operands: "[OPTIONS] NODE [NODE...]", short: "Move all tasks off nodes and give them no new ones",
		long: "Same as 'shoal node update --availability drain' for each node. With --wait, each task of a replicated service serves until its successor runs," +
			" whatever the service's update order is, and the command ends when nothing runs on the nodes any more: not before every task has found another place." +
			"\n\nExit codes: 0 drained, 1 refused, 124 --wait-timeout passed, 130 interrupted while waiting (the drain goes on).",
		flags: f, min: 1, max: -1, completes: "node",
		run: func(ctx context.Context, args []string) error { return s.runNodeDrain(ctx, args, wait, timeout) },
	}
}

func (s *shell) runNodeDrain(ctx context.Context, refs []string, wait bool, timeout time.Duration) error {
	if !wait {
		change := func(n *swarm.Node) error {
			n.Spec.Availability = swarm.NodeAvailabilityDrain
			return nil
		}
		return s.updateNodes(ctx, refs, change, func(ref string) { fmt.Fprintln(s.out, ref) })
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	ids := make([]string, len(refs))
	for i, ref := range refs {
		if err := reread(func() error { ids[i], err = s.drainGently(ctx, api, ref); return err }); err != nil {
			return err
		}
	}
	waiting := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for i, id := range ids {
		left, err := s.untilEmpty(waiting, api, refs[i], id)
		switch {
		case ctx.Err() != nil:
			fmt.Fprintf(s.err, "Operation continuing in background.\nUse `shoal node ps %s` to check progress.\n", refs[i])
			return &exitError{code: codeInterrupted}
		case waiting.Err() != nil:
			return &exitError{code: codeTimeout, err: fmt.Errorf("%d tasks are left on node %s after --wait-timeout %s; the drain continues in background, see 'shoal node ps %s', and 'shoal why TASK' for one that waits for a place", left, refs[i], timeout, refs[i])}
		case err != nil:
			return err
		}
		fmt.Fprintln(s.out, refs[i])
	}
	return nil
}

// drainGently returns the node's ID.
func (s *shell) drainGently(ctx context.Context, api *client.Client, ref string) (string, error) {
	id, err := nodeRef(ctx, api, ref)
	if err != nil {
		return "", err
	}
	node, _, err := api.NodeInspectWithRaw(ctx, id)
	if err != nil {
		return "", err
	}
	node.Spec.Availability = swarm.NodeAvailabilityDrain
	body, err := json.Marshal(node.Spec)
	if err != nil {
		return "", err
	}
	query := url.Values{"version": {node.Version.String()}, "startFirst": {"true"}}
	path := "/nodes/" + url.PathEscape(node.ID) + "/update?" + query.Encode()
	return node.ID, s.callWith(ctx, http.MethodPost, path, http.Header{}, bytes.NewReader(body), nil)
}

// untilEmpty waits until no task runs, or is to run, on a node. It returns how
// many were left when it was last seen.
func (s *shell) untilEmpty(ctx context.Context, api *client.Client, ref, id string) (left int, err error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	shown, seen := -1, time.Now()
	for {
		tasks, err := api.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("node", id))})
		switch {
		case err == nil:
			seen, left = time.Now(), alive(tasks)
		case ctx.Err() != nil || time.Since(seen) > pollPatience:
			return left, err
		}
		if left == 0 && err == nil {
			return 0, nil
		}
		if left != shown {
			fmt.Fprintf(s.err, "%s: %d tasks left\n", ref, left)
			shown = left
		}
		select {
		case <-ctx.Done():
			return left, ctx.Err()
		case <-tick.C:
		}
	}
}

// alive counts tasks that have not ended.
func alive(tasks []swarm.Task) (n int) {
	for _, t := range tasks {
		switch t.Status.State {
		case swarm.TaskStateComplete, swarm.TaskStateShutdown, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		default:
			n++
		}
	}
	return n
}
