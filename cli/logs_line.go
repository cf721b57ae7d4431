package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// namedLines puts before each line whose it is: what is written to it is one
// line, with its attributes.
type namedLines struct {
	out   io.Writer
	names *taskNames
	flags *logsFlags
}

const attributePrefix = "com.docker.swarm."

// Write implements io.Writer.
func (n *namedLines) Write(p []byte) (int, error) {
	line, stamp := p, ""
	if n.flags.Timestamps {
		before, after, _ := bytes.Cut(line, []byte(" "))
		stamp, line = string(before)+" ", after
	}
	text, line, found := bytes.Cut(line, []byte(" "))
	details, err := url.ParseQuery(strings.ReplaceAll(string(text), ",", "&"))
	if !found || err != nil {
		return 0, fmt.Errorf("a line of the log does not say whose it is: %q", p)
	}
	name := n.names.of(details.Get(attributePrefix+"task.id"), details.Get(attributePrefix+"service.id"), details.Get(attributePrefix+"node.id"))
	extra := ""
	if n.flags.Details {
		extra = shownDetails(details)
	}
	_, err = fmt.Fprintf(n.out, "%s%s    | %s%s", stamp, name, extra, line)
	return len(p), err
}

// shownDetails are those that say something beside whose line it is.
func shownDetails(details url.Values) string {
	var shown []string
	for _, k := range slices.Sorted(maps.Keys(details)) {
		if k != "" && !strings.HasPrefix(k, attributePrefix) {
			shown = append(shown, k+"="+details.Get(k))
		}
	}
	if len(shown) == 0 {
		return ""
	}
	return strings.Join(shown, ",") + " "
}

// taskNames turns ids into "web.1.abc@node".
type taskNames struct {
	ctx   context.Context //nolint:containedctx // of the one command that writes lines
	api   *client.Client
	flags *logsFlags

	names map[string]string // by task
	nodes map[string]string
}

func (t *taskNames) of(taskID, serviceID, nodeID string) string {
	if name, ok := t.names[taskID]; ok {
		return name
	}
	if t.names == nil {
		t.names, t.nodes = map[string]string{}, map[string]string{}
	}
	name := t.task(taskID, serviceID, nodeID)
	t.names[taskID] = name
	return name
}

func (t *taskNames) task(taskID, serviceID, nodeID string) string {
	slot, service, node := nodeID, serviceID, nodeID
	if task, _, err := t.api.TaskInspectWithRaw(t.ctx, taskID); err == nil && task.Slot != 0 {
		slot = strconv.Itoa(task.Slot)
	}
	if !t.flags.noResolve {
		if s, _, err := t.api.ServiceInspectWithRaw(t.ctx, serviceID, swarm.ServiceInspectOptions{}); err == nil {
			service = s.Spec.Name
		}
		node = t.node(nodeID)
	}
	name := service + "." + slot
	if !t.flags.noIDs {
		name += "." + t.short(taskID)
	}
	if node == nodeID {
		node = t.short(nodeID)
	}
	return name + "@" + node
}

func (t *taskNames) short(id string) string {
	if t.flags.noTrunc || len(id) <= 12 {
		return id
	}
	return id[:12]
}

func (t *taskNames) node(id string) string {
	if len(t.nodes) == 0 {
		nodes, err := t.api.NodeList(t.ctx, swarm.NodeListOptions{Filters: filters.NewArgs()})
		if err != nil {
			return id
		}
		for _, n := range nodes {
			t.nodes[n.ID] = n.Description.Hostname
			if n.Spec.Name != "" {
				t.nodes[n.ID] = n.Spec.Name
			}
		}
	}
	if name := t.nodes[id]; name != "" {
		return name
	}
	return id
}
