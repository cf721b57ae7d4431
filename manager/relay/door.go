package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/versions"
)

// Door lets managers call this node's engine for containers of the cluster.
// Who calls is the business of whoever mounts it at Path.
type Door struct {
	// Engine reaches the engine, whatever the host of a request. Required.
	Engine http.RoundTripper
	// Version is the newest API version of the engine, empty if it is not known.
	Version func(ctx context.Context) string
	// Owns reports whether a container with these labels is one of the cluster's.
	Owns func(labels map[string]string) bool
	// Dial connects to a port in the network of a process.
	Dial func(ctx context.Context, pid int, port uint16) (net.Conn, error)
	Log  *slog.Logger
}

// subject is what the door wants to know of a container.
type subject struct {
	ID     string `json:"Id"`
	Config struct{ Labels map[string]string }
	State  struct{ Pid int }
}

// refused is an answer that the door gives instead of the engine's.
type refused struct {
	status int
	err    error
}

func (e *refused) Error() string { return e.err.Error() }

func refuse(status int, format string, args ...any) error {
	return &refused{status, fmt.Errorf(format, args...)}
}

// ServeHTTP implements http.Handler.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := d.serve(w, r); err != nil {
		status := http.StatusServiceUnavailable
		if own := (*refused)(nil); errors.As(err, &own) {
			status = own.status
		}
		writeError(w, status, err)
	}
}

// serve has written nothing when it returns an error.
func (d *Door) serve(w http.ResponseWriter, r *http.Request) error {
	version, path := splitVersion(strings.TrimPrefix(r.URL.Path, Path))
	if path == "/events" && r.Method == http.MethodGet {
		return d.events(w, r)
	}
	c, ok := parse(r.Method, path)
	if !ok {
		return refuse(http.StatusForbidden, "%s %s is not a call that a manager may make on another node", r.Method, path)
	}
	s, err := d.subject(r.Context(), c)
	if err != nil {
		return err
	}
	id := s.ID
	if c.exec {
		id = c.ID
	}
	// An engine that is older than the manager's answers in the newest version
	// that it has.
	target := c.path(id)
	if version != "" && !d.older(r.Context(), version) {
		target = "/v" + version + target
	}
	switch {
	case c.action == "forward":
		return d.forward(w, r, s)
	case c.hijacks():
		return d.hijack(w, r, target)
	}
	d.pass(w, r, target, c.flushInterval())
	return nil
}

// older reports whether the engine does not speak version.
func (d *Door) older(ctx context.Context, version string) bool {
	spoken := d.Version(ctx)
	return spoken != "" && versions.GreaterThan(version, spoken)
}

// subject finds the container of a call, and refuses those that are none of the
// cluster's.
func (d *Door) subject(ctx context.Context, c call) (s subject, err error) {
	container := c.ID
	if c.exec {
		var e struct{ ContainerID string }
		if err := d.get(ctx, "/exec/"+c.ID+"/json", &e); err != nil {
			return s, err
		}
		container = e.ContainerID
	}
	if err := d.get(ctx, "/containers/"+container+"/json", &s); err != nil {
		return s, err
	}
	if !d.Owns(s.Config.Labels) {
		return s, refuse(http.StatusForbidden, "container %s is neither of a task of this cluster nor on one of its networks: only its own node can reach it", c.ID)
	}
	return s, nil
}

// get asks the engine. What the engine refuses is refused as it does.
func (d *Door) get(ctx context.Context, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return refuse(http.StatusBadRequest, "%s: %w", path, err)
	}
	answer, err := d.Engine.RoundTrip(r)
	if err != nil {
		return d.down(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // the status says enough
		return &refused{answer.StatusCode, Refusal(answer.StatusCode, text)}
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

func (d *Door) down(err error) error {
	return fmt.Errorf("its Docker Engine does not answer: %w", err)
}

// pass hands a call on that has one body in and one out.
func (d *Door) pass(w http.ResponseWriter, r *http.Request, path string, flush time.Duration) {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "engine", "docker"
			p.Out.URL.Path, p.Out.URL.RawPath = path, ""
		},
		Transport:     d.Engine,
		FlushInterval: flush,
		ErrorLog:      slog.NewLogLogger(d.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				writeError(w, http.StatusServiceUnavailable, d.down(err))
			}
		},
	}
	proxy.ServeHTTP(w, r)
}

// hijack makes a call whose connection to the engine becomes a stream.
func (d *Door) hijack(w http.ResponseWriter, r *http.Request, path string) error {
	length, err := strconv.ParseInt(r.Header.Get(headerHijack), 10, 64)
	if err != nil || length < 0 || length > maxHead {
		return refuse(http.StatusBadRequest, "%s %q: want the length of the request before the stream, at most %d", headerHijack, r.Header.Get(headerHijack), maxHead)
	}
	request, err := http.NewRequestWithContext(r.Context(), r.Method, "http://docker"+path, io.LimitReader(r.Body, length))
	if err != nil {
		return refuse(http.StatusBadRequest, "%s: %w", path, err)
	}
	request.URL.RawQuery, request.ContentLength = r.URL.RawQuery, length
	if length == 0 {
		request.Body = http.NoBody
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	if kind := r.Header.Get("Content-Type"); kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	answer, err := d.Engine.RoundTrip(request)
	if err != nil {
		return d.down(err)
	}
	defer answer.Body.Close()
	stream, ok := answer.Body.(io.ReadWriteCloser)
	if answer.StatusCode != http.StatusSwitchingProtocols || !ok {
		copyAnswer(w, answer)
		return nil
	}
	kind := answer.Header.Get("Content-Type")
	if kind == "" {
		kind = "application/vnd.docker.raw-stream"
	}
	d.join(w, r, stream, kind)
	return nil
}

// forward makes a stream of a connection to a port of the container.
func (d *Door) forward(w http.ResponseWriter, r *http.Request, s subject) error {
	port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
	if err != nil || port == 0 {
		return refuse(http.StatusBadRequest, "port %q: want 1 to 65535", r.URL.Query().Get("port"))
	}
	if s.State.Pid == 0 {
		return refuse(http.StatusConflict, "container %s is not running", s.ID)
	}
	conn, err := d.Dial(r.Context(), s.State.Pid, uint16(port))
	if err != nil {
		return refuse(http.StatusServiceUnavailable, "port %d of container %s: %w", port, s.ID, err)
	}
	d.join(w, r, conn, "application/vnd.docker.raw-stream")
	return nil
}

// join copies between the caller and a stream until the stream's end, or until
// the caller goes. The end of what the caller sends is passed on by itself.
func (d *Door) join(w http.ResponseWriter, r *http.Request, stream io.ReadWriteCloser, kind string) {
	stop := context.AfterFunc(r.Context(), func() { stream.Close() })
	defer stop()
	w.Header().Set(headerHijack, kind)
	w.WriteHeader(http.StatusOK)
	out := flushing{w, http.NewResponseController(w)}
	if out.Flush() != nil {
		stream.Close()
		return
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		_, err := io.Copy(stream, r.Body)
		if half, ok := stream.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite() // what is closed already needs no end
		}
	}()
	_, _ = io.Copy(out, stream) // either end may go first
	stream.Close()
	r.Body.Close()
	<-fed
}

// flushing sends on what is written at once.
type flushing struct {
	w http.ResponseWriter
	*http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.Flush()
	}
	return n, err
}
