package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"shoal/worker/assignment"
)

var (
	errSilent = errors.New("the manager is silent")
	errEnded  = errors.New("the manager has ended the session")
)

// refusedError is a manager's answer to a hello that it does not accept.
type refusedError struct {
	kind error // an errdefs kind
	text string
}

func (e *refusedError) Error() string { return "refused: " + e.text }
func (e *refusedError) Unwrap() error { return e.kind }

// connection is one session with one manager.
type connection struct {
	s         *Session
	log       *slog.Logger
	silence   *time.Timer
	welcome   bool                         // of the reader
	specs     map[specKey]*assignment.Spec // of the reader
	opened    chan struct{}                // closed with the welcome
	heartbeat time.Duration                // set before opened is closed
}

type specKey struct {
	serviceID string
	revision  uint64
}

// run has the session. It returns when the session is over, and why.
func (c *connection) run(ctx context.Context, addr string) error {
	hello := c.hello(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.specs, c.opened = map[specKey]*assignment.Spec{}, make(chan struct{})
	c.silence = time.AfterFunc(Silence, func() { cancel(errSilent) })
	defer c.silence.Stop()

	d := &dialer{dial: c.s.cfg.Dial}
	transport, scheme, err := c.transport(d)
	if err != nil {
		return err
	}
	defer d.close()
	defer transport.CloseIdleConnections()
	body, up := io.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+addr+assignment.Path, body)
	if err != nil {
		return fmt.Errorf("manager %q: %w", addr, err)
	}
	g.Go(func() error {
		err := c.write(ctx, up, hello)
		return errors.Join(up.CloseWithError(err), err)
	})
	var answer error // what the manager said, or how its line ended
	g.Go(func() error {
		answer = c.read(transport, req)
		// Ends a write that is under way.
		return errors.Join(body.CloseWithError(answer), answer)
	})
	err = g.Wait()
	if errors.Is(err, io.ErrClosedPipe) && answer != nil {
		err = answer // the transport has closed the body because of it
	}
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		err = cause
	}
	return fmt.Errorf("session with %s: %w", addr, err)
}

func (c *connection) hello(ctx context.Context) assignment.Hello {
	cfg := c.s.cfg
	h := assignment.Hello{
		Version: assignment.Version, Boot: cfg.Boot, Addr: cfg.Addr,
		Description: c.s.currentDescription(ctx), Index: c.s.index, TunnelKey: cfg.TunnelKey,
	}
	_, h.Managed = cfg.Held()
	if cfg.Values != nil {
		h.Values = cfg.Values()
	}
	return h
}

// transport returns a transport for this session alone.
func (c *connection) transport(d *dialer) (*http.Transport, string, error) {
	t := &http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: time.Second, Protocols: new(http.Protocols)}
	if c.s.cfg.TLS == nil {
		t.Protocols.SetUnencryptedHTTP2(true)
		return t, "http", nil
	}
	config, err := c.s.cfg.TLS()
	if err != nil {
		return nil, "", fmt.Errorf("TLS settings: %w", err)
	}
	t.TLSClientConfig = config.Clone()
	t.Protocols.SetHTTP2(true)
	return t, "https", nil
}

// read opens the session and takes in the manager's lines.
func (c *connection) read(transport *http.Transport, req *http.Request) error {
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	lines := json.NewDecoder(resp.Body)
	for {
		var down assignment.Down
		if err := lines.Decode(&down); errors.Is(err, io.EOF) {
			return errEnded
		} else if err != nil {
			return err
		}
		// Applying may take its time; that is not the manager's silence.
		c.silence.Stop()
		if err := c.take(down); err != nil {
			return err
		}
		c.silence.Reset(Silence)
	}
}

func refusal(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil {
		return err
	}
	e := &refusedError{kind: errdefs.ErrUnavailable, text: refusalText(text)}
	switch resp.StatusCode {
	case http.StatusForbidden:
		e.kind = errdefs.ErrPermissionDenied
	case http.StatusConflict:
		e.kind = errdefs.ErrConflict
	case http.StatusServiceUnavailable:
		return errdefs.ErrUnavailable.WithMessage(e.text) // another manager may serve
	}
	return e
}

// refusalText is what a manager says, in plain text or as {"message": …}.
func refusalText(body []byte) string {
	var answer struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.Message != "" {
		return answer.Message
	}
	return strings.TrimSpace(string(body))
}

// take acts on one line.
func (c *connection) take(down assignment.Down) error {
	if !c.welcome {
		if down.Welcome == nil || down.Welcome.Version != assignment.Version || down.Welcome.Heartbeat <= 0 {
			return fmt.Errorf("the manager does not welcome this node: %w", errdefs.ErrFailedPrecondition)
		}
		c.open(down.Welcome)
	}
	if down.Ack > 0 {
		c.s.queue.ack(down.Ack)
	}
	if err := c.apply(down); err != nil {
		return err
	}
	c.callBack(down)
	return nil
}

func (c *connection) open(w *assignment.Welcome) {
	c.welcome = true
	c.heartbeat = w.Heartbeat
	clear(c.s.faults)
	c.s.queue.reset()
	c.s.metrics.open.Set(1)
	c.s.cfg.OnSession(true)
	c.log.Info("session opened", "managerID", w.ManagerID, "index", c.s.index)
	close(c.opened)
}

// apply hands assignments to the worker and remembers how far they go.
func (c *connection) apply(down assignment.Down) error {
	for i := range down.Specs {
		spec := &down.Specs[i]
		c.specs[specKey{spec.ServiceID, spec.Revision}] = spec
	}
	for i := range down.Tasks {
		task := &down.Tasks[i]
		task.Spec = c.specs[specKey{task.ServiceID, task.Revision}]
	}
	if down.Full || down.Fabric != nil || len(down.Tasks)+len(down.Remove)+len(down.Specs)+len(down.Values)+len(down.Forget) > 0 || down.Index > c.s.index {
		if err := c.s.cfg.Apply(down); err != nil {
			c.s.index = 0 // what the worker has now is not known: ask for everything
			return fmt.Errorf("apply assignments: %w", err)
		}
	}
	if down.Index > 0 {
		c.s.index = down.Index
	}
	return nil
}

func (c *connection) callBack(down assignment.Down) {
	if len(down.Managers) > 0 {
		c.s.mu.Lock()
		c.s.named = down.Managers
		c.s.mu.Unlock()
		c.s.cfg.OnManagers(down.Managers)
	}
	if len(down.GossipKeys) > 0 {
		c.s.cfg.OnGossipKeys(down.GossipKeys)
	}
	if down.Role != "" {
		c.s.cfg.OnRole(down.Role)
	}
}

// write sends the hello, then statuses as they come and something every
// heartbeat.
func (c *connection) write(ctx context.Context, w io.Writer, hello assignment.Hello) error {
	enc := json.NewEncoder(w) // one Write a line
	enc.SetEscapeHTML(false)
	if err := enc.Encode(assignment.Up{Hello: &hello}); err != nil {
		return err
	}
	select {
	case <-c.opened:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	tick := time.NewTicker(c.heartbeat)
	defer tick.Stop()
	for {
		var up assignment.Up
		up.Statuses, up.Seq = c.s.queue.next()
		if up.Statuses == nil {
			select {
			case <-c.s.queue.wake:
				continue
			case <-c.s.applied:
			case <-c.s.describe:
				d := c.s.currentDescription(ctx)
				up.Description = &d
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		up.Applied = c.s.appliedIndex()
		if err := enc.Encode(up); err != nil {
			return err
		}
	}
}

// dialer opens the one connection of a session and can cut it.
type dialer struct {
	dial func(context.Context, string) (net.Conn, error)

	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

// DialContext dials like http.Transport wants it to.
func (d *dialer) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := d.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	d.conn = conn
	return conn, nil
}

// close cuts the connection: on a dead line a polite end would wait for long.
func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.conn != nil {
		_ = d.conn.Close() // it may be closed already
	}
}
