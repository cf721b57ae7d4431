package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/containerd/errdefs"

	"shoal/manager/api"
	"shoal/raftstore/state"
)

// maxTail bounds what is kept of one line.
const maxTail = 4 << 10

// Tail returns the last lines of a task's container, both streams together. It
// takes as long as ctx lets it.
func (l *Logs) Tail(ctx context.Context, t *state.Task, lines int) ([]string, error) {
	v := l.Store.View()
	stream, err := l.Open(ctx, t.NodeID, t.Status.ContainerID, url.Values{
		"stdout": {"1"}, "stderr": {"1"}, "timestamps": {"1"}, "tail": {strconv.Itoa(lines)},
	})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var got []string
	r := newReader(stream, !api.TaskTTY(v, t), false)
	for {
		m, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return got, nil
		case err != nil:
			return got, fmt.Errorf("node %s was lost: %w", api.NodeName(v, t.NodeID), err)
		case m.stream == systemError:
			return got, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("node %s: %s", api.NodeName(v, t.NodeID), m.text))
		}
		if len(m.stamp) == 0 && len(got) > 0 { // a piece of a long line
			got[len(got)-1] += string(m.text[:min(len(m.text), max(0, maxTail-len(got[len(got)-1])))])
			continue
		}
		got = append(got, string(m.text[:min(len(m.text), maxTail)]))
		if len(got) > lines { // an engine that does not count
			got = got[1:]
		}
	}
}
