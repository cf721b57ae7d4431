package logs

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/backoff"
	"shoal/raftstore/state"
)

// source is the log of one task's container.
type source struct {
	*collector
	task       *state.Task
	name, node string
	tty        bool
	fresh      bool // it came while logs were followed
	form       form

	last  string // time of the last line that was written
	broke error  // the client has gone
}

// follow reads the log until the task has ended. While its node is out of
// reach it tries again, and goes on where it stopped.
func (s *source) follow(ctx context.Context) error {
	wait := backoff.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second}
	said := false
	for {
		before := s.last
		err := s.copy(ctx)
		if s.broke != nil || ctx.Err() != nil {
			return s.broke
		}
		if s.last != before {
			wait.Reset()
			said = false
		}
		if err != nil && !errdefs.IsNotFound(err) && !said {
			said = true // once, until there is more: reasons change while it goes on
			if err := s.warn(err); err != nil {
				return err
			}
		}
		if s.ended() {
			return nil
		}
		if wait.Wait(ctx) != nil {
			return nil
		}
	}
}

// ended reports whether the task will say nothing more.
func (s *source) ended() bool {
	t := s.Store.View().Task(s.task.ID)
	return t == nil || t.Status.State.Terminal()
}

// idleTime is how long an engine has for the next piece of a log that is not
// followed, and so has an end: one that is stuck must not hide the others. 10s:
// an engine that takes longer is as good as lost.
const idleTime = 10 * time.Second

// copy writes the log to its present end, or for ever.
func (s *source) copy(ctx context.Context) error {
	ctx, idle := newIdle(ctx, s.options.follow)
	defer idle.end()
	stream, err := s.Open(ctx, s.task.NodeID, s.task.Status.ContainerID, s.query(s.last, s.fresh))
	if err != nil {
		return idle.reason(ctx, s.node, err)
	}
	defer stream.Close()
	r := newReader(idle.reader(stream), !s.tty, s.details)
	var batch []byte
	var stamp [stampSize]byte
	for {
		m, err := r.next()
		if (err != nil || m.stream == systemError) && len(batch) > 0 {
			if s.broke = s.out.write(batch, false); s.broke != nil {
				return s.broke
			}
			s.last = string(stamp[:])
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return idle.reason(ctx, s.node, fmt.Errorf("node %s was lost: %w", s.node, err))
		case m.stream == systemError: // of the node or its engine
			return fmt.Errorf("node %s: %s", s.node, m.text)
		}
		batch = s.form.append(batch, m)
		copy(stamp[:], m.stamp)
		more := r.more()
		if more && len(batch) < batchSize {
			continue
		}
		if s.broke = s.out.write(batch, more); s.broke != nil {
			return s.broke
		}
		if stamp[0] != 0 {
			s.last = string(stamp[:])
		}
		batch = batch[:0]
	}
}

// warn puts a line into the log that says what is missing from it.
func (s *source) warn(why error) error {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z")
	text := fmt.Sprintf("warning: the log of %s on node %s breaks off here: %v\n", s.name, s.node, why)
	s.broke = s.out.write(s.form.append(nil, message{stream: stderr, stamp: []byte(now), text: []byte(text)}), false)
	return s.broke
}
