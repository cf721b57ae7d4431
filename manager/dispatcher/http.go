package dispatcher

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"shoal/worker/assignment"
)

// helloTimeout is how long a worker may take to say hello.
const helloTimeout = 5 * time.Second

// ServeHTTP serves one session: POST assignment.Path over HTTP/2. What it
// refuses has a status and a plain text: 403 for a node that is not of this
// cluster, 409 for a copy of a node that is alive, 503 while this manager
// cannot serve.
func (d *Dispatcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nodeID, role, ok := d.cfg.Identity(r)
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "a session is opened with POST", http.StatusMethodNotAllowed)
		return
	case r.ProtoMajor < 2:
		http.Error(w, "a session needs HTTP/2", http.StatusHTTPVersionNotSupported)
		return
	case !ok || role != "worker" && role != "manager":
		http.Error(w, "a session needs the certificate of a node", http.StatusForbidden)
		return
	}
	rc := http.NewResponseController(w)
	// A server's timeouts are for short requests. On HTTP/2 these never fail.
	_ = rc.SetReadDeadline(time.Now().Add(helloTimeout))
	_ = rc.SetWriteDeadline(time.Time{})
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, maxLine)
	hello, err := readHello(lines)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = rc.SetReadDeadline(time.Time{})
	d.session(w, r, nodeID, role, hello, lines)
}

func readHello(lines *bufio.Scanner) (assignment.Hello, error) {
	if !lines.Scan() {
		return assignment.Hello{}, errors.Join(errors.New("no hello"), lines.Err())
	}
	var up assignment.Up
	if err := json.Unmarshal(lines.Bytes(), &up); err != nil {
		return assignment.Hello{}, fmt.Errorf("hello: %w", err)
	}
	switch {
	case up.Hello == nil:
		return assignment.Hello{}, errors.New("the first line is not a hello")
	case up.Hello.Version != assignment.Version:
		return assignment.Hello{}, fmt.Errorf("hello has version %d, this manager speaks %d", up.Hello.Version, assignment.Version)
	case up.Hello.Boot == "":
		return assignment.Hello{}, errors.New("hello without a boot id")
	}
	return *up.Hello, nil
}

// session opens, serves and closes a session.
func (d *Dispatcher) session(w http.ResponseWriter, r *http.Request, nodeID, role string, hello assignment.Hello, lines *bufio.Scanner) {
	log := d.cfg.Log.With("node", nodeID, "from", r.RemoteAddr)
	s := d.newSession(r.Context(), nodeID, role, hello)
	defer s.end(errClosed)
	if err := d.open(r, s); err != nil {
		d.metrics.refused.Inc()
		level := slog.LevelInfo
		if errdefs.IsUnavailable(err) {
			level = slog.LevelDebug // without a leader every worker asks every two seconds
		}
		log.Log(r.Context(), level, "session refused", "error", err)
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	log.Debug("session opened", "index", hello.Index, "boot", hello.Boot)
	w.Header().Set("Content-Type", "application/x-ndjson")
	err := s.serve(w, lines)
	if d.hub.detach(s) {
		d.outbox.close(nodeID, hello.Boot)
	}
	log.Debug("session ended", "cause", err)
}

// open gets the leader's grant and registers the session.
func (d *Dispatcher) open(r *http.Request, s *session) error {
	ctx, cancel := context.WithTimeout(r.Context(), openTimeout)
	defer cancel()
	x := Opened{NodeID: s.nodeID, Boot: s.hello.Boot, Addr: nodeAddr(s.hello.Addr, r.RemoteAddr), Description: s.hello.Description, TunnelKey: s.hello.TunnelKey}
	if err := d.outbox.grant(ctx, x); err != nil {
		return err
	}
	if err := d.hub.attach(ctx, s); err != nil {
		d.outbox.close(s.nodeID, s.hello.Boot)
		return err
	}
	return nil
}

func refusedError(r Refusal) error {
	if r.Clone {
		return fmt.Errorf("%s: %w", r.Reason, errdefs.ErrConflict)
	}
	return fmt.Errorf("%s: %w", r.Reason, errdefs.ErrPermissionDenied)
}

func statusOf(err error) int {
	switch {
	case errdefs.IsConflict(err):
		return http.StatusConflict
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	default:
		return http.StatusServiceUnavailable
	}
}
