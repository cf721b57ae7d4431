package dispatcher

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sync/errgroup"

	"shoal/worker/assignment"
)

const (
	// maxLine is the longest line that a worker may send.
	maxLine = 16 << 20
	// sendGap is the least time between two lines of news: the first change
	// goes at once, those right behind it go together. Below what anyone notices.
	sendGap = 5 * time.Millisecond
	// writeGrace is how long the last line of an ending session may take.
	writeGrace = time.Second
)

var errClosed = errors.New("the worker has closed the session")

// session is the line to one worker.
type session struct {
	d      *Dispatcher
	nodeID string
	role   string // by the certificate
	hello  assignment.Hello

	ctx    context.Context //nolint:containedctx // ends with the session
	cancel context.CancelCauseFunc
	wake   chan struct{} // 1: there is mail
	heard  atomic.Int64  // the worker's last line, nanoseconds since d.born

	mail    mail           // guarded by hub.mu
	desired swarm.NodeRole // guarded by hub.mu
	on      ids            // networks that the node is on; replaced, not changed; guarded by hub.mu
	applied uint64         // of the reader

	sent      map[specKey]bool // of the writer
	shelf     *shelf           // of the writer
	sentIndex uint64           // of the writer
}

func (d *Dispatcher) newSession(ctx context.Context, nodeID, role string, hello assignment.Hello) *session {
	s := &session{d: d, nodeID: nodeID, role: role, hello: hello, wake: make(chan struct{}, 1), sent: map[specKey]bool{}, shelf: newShelf(hello.Values)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.hear()
	return s
}

func (s *session) end(cause error) { s.cancel(cause) }
func (s *session) ended() bool     { return s.ctx.Err() != nil }
func (s *session) wakeUp()         { wake(s.wake) }
func (s *session) hear()           { s.heard.Store(int64(time.Since(s.d.born))) }

// age is how long the worker has said nothing.
func (s *session) age() time.Duration {
	return time.Since(s.d.born) - time.Duration(s.heard.Load())
}

// serve speaks with the worker until the session ends, and returns why it did.
func (s *session) serve(w http.ResponseWriter, lines *bufio.Scanner) error {
	rc := http.NewResponseController(w)
	written := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		defer close(written)
		s.end(s.write(w, rc))
		return nil
	})
	g.Go(func() error {
		s.end(s.read(lines))
		return nil
	})
	// What blocks in a read or write is set free when the session ends.
	<-s.ctx.Done()
	cause := context.Cause(s.ctx)
	_ = rc.SetReadDeadline(time.Now()) // fails only on a connection that is gone
	grace := time.NewTimer(writeGrace)
	defer grace.Stop()
	select {
	case <-written:
	case <-grace.C:
		_ = rc.SetWriteDeadline(time.Now())
	}
	_ = g.Wait() // the goroutines return nil
	return cause
}

// read takes in the worker's lines.
func (s *session) read(lines *bufio.Scanner) error {
	silence := time.AfterFunc(DownAfter, func() { s.end(errSilent) })
	defer silence.Stop()
	for lines.Scan() {
		var up assignment.Up
		if err := json.Unmarshal(lines.Bytes(), &up); err != nil {
			return fmt.Errorf("line from the worker: %w", err)
		}
		s.hear()
		silence.Reset(DownAfter)
		if up.Description != nil {
			s.d.outbox.describe(s.nodeID, *up.Description)
		}
		if up.Applied > 0 {
			// What is repeated with heartbeats is for a leader that is new: it may wait
			// for the next report.
			s.d.outbox.apply(Applied{NodeID: s.nodeID, Boot: s.hello.Boot, Index: up.Applied}, up.Applied > s.applied)
			s.applied = up.Applied
		}
		if len(up.Statuses) > 0 {
			s.d.statuses.add(s.item(up))
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read from the worker: %w", err)
	}
	return errClosed
}

func (s *session) item(up assignment.Up) statusItem {
	item := statusItem{session: s, seq: up.Seq, statuses: make([]Status, len(up.Statuses))}
	for i, u := range up.Statuses {
		u.Status.Message, u.Status.Err = clip(u.Status.Message), clip(u.Status.Err)
		item.statuses[i] = Status{NodeID: s.nodeID, TaskID: u.TaskID, Status: u.Status}
	}
	return item
}

// clip cuts a text that is longer than anybody reads.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText-len("…")], "") + "…"
}

// write sends the session's mail as it comes, and a line every Heartbeat.
func (s *session) write(w io.Writer, rc *http.ResponseController) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	tick := time.NewTicker(Heartbeat)
	defer tick.Stop()
	line := s.d.hub.take(s)
	line.Welcome = &assignment.Welcome{Version: assignment.Version, ManagerID: s.d.cfg.NodeID, Heartbeat: Heartbeat}
	for {
		if line.Index == s.sentIndex {
			line.Index = 0
		} else {
			s.sentIndex = line.Index
		}
		for _, part := range split(line) {
			if err := errors.Join(enc.Encode(part), rc.Flush()); err != nil {
				return fmt.Errorf("write to the worker: %w", err)
			}
		}
		last := time.Now()
		select {
		case <-tick.C:
		case <-s.wake:
			if err := s.pause(sendGap - time.Since(last)); err != nil {
				return err
			}
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
		line = s.d.hub.take(s)
	}
}

func (s *session) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
