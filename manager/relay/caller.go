package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
)

// Config is what a Caller needs. Zero values take the default named.
type Config struct {
	// Dial connects to the cluster listener of a node, and makes sure that it is
	// that node. Required.
	Dial func(ctx context.Context, nodeID string) (net.Conn, error)
	Log  *slog.Logger // slog.Default()
}

// Caller has the engines of other nodes answer.
type Caller struct {
	transport *http.Transport
	log       *slog.Logger
}

// New returns a Caller. Close it.
func New(c Config) *Caller {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Caller{log: c.Log, transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // as between managers
			defer cancel()
			nodeID, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return c.Dial(ctx, nodeID)
		},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
		IdleConnTimeout:    time.Minute,
		// A node that is lost is noticed after 3 s, whatever flows. What waits for a
		// slow reader is a stream's window: 256 KiB are 5 MB/s at 50 ms.
		HTTP2: &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: 2 * time.Second, MaxReceiveBufferPerStream: 256 << 10},
	}}
}

// Close gives idle connections up. What runs goes on.
func (c *Caller) Close() { c.transport.CloseIdleConnections() }

// Target is where a call goes.
type Target struct {
	NodeID string
	Name   string // of the node, for messages
	Path   string // of the Docker API, with a version or without
	Query  string
	// TTY says that the container has one, so that its streams are not framed.
	TTY bool
}

func (t Target) url() *url.URL {
	return &url.URL{Scheme: "https", Host: t.NodeID, Path: Path + t.Path, RawQuery: t.Query}
}

// lost is the error of a node that does not answer.
func (t Target) lost(err error) error {
	return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("node %s cannot be reached: %v", t.Name, err))
}

// Open sends a GET and returns the body of the answer, which is a stream until
// ctx ends.
func (c *Caller) Open(ctx context.Context, t Target) (io.ReadCloser, error) {
	r := (&http.Request{Method: http.MethodGet, URL: t.url(), Header: http.Header{}}).WithContext(ctx)
	response, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, t.lost(err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // the status says enough
	return nil, Refusal(response.StatusCode, text)
}

// Serve has the node of t answer r. alter may change the answer; nil: not.
func (c *Caller) Serve(w http.ResponseWriter, r *http.Request, t Target, alter func(*http.Response) error) {
	_, path := splitVersion(t.Path)
	what, _ := parse(r.Method, path)
	if what.hijacks() {
		c.hijack(w, r, t, what)
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL, p.Out.Host = t.url(), ""
		},
		Transport:      c.transport,
		FlushInterval:  what.flushInterval(),
		ModifyResponse: alter,
		ErrorLog:       slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				writeError(w, http.StatusServiceUnavailable, t.lost(err))
			}
		},
	}
	if what.action == "logs" {
		proxy.ModifyResponse = func(answer *http.Response) error {
			if answer.StatusCode == http.StatusOK {
				answer.Body = &farewell{ReadCloser: answer.Body, target: t}
			}
			return nil
		}
	}
	proxy.ServeHTTP(w, r)
}

// hijack has the connection of a client become a stream to the other node.
func (c *Caller) hijack(w http.ResponseWriter, r *http.Request, t Target, what call) {
	head, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHead))
	if err != nil {
		writeError(w, http.StatusBadRequest, fmt.Errorf("read the request: %w", err))
		return
	}
	var start struct{ Tty bool } // of an exec
	if json.Unmarshal(head, &start) == nil && start.Tty {
		t.TTY = true
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stdin, feed := io.Pipe()
	defer stdin.Close()
	request := (&http.Request{Method: r.Method, URL: t.url(), Header: http.Header{}, Body: body{io.MultiReader(bytes.NewReader(head), stdin), stdin}, ContentLength: -1}).WithContext(ctx)
	request.Header.Set(headerHijack, strconv.Itoa(len(head)))
	if kind := r.Header.Get("Content-Type"); kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	answer, err := c.transport.RoundTrip(request)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, t.lost(err))
		return
	}
	defer answer.Body.Close()
	kind := answer.Header.Get(headerHijack)
	if kind == "" { // refused, or nothing to stream
		copyAnswer(w, answer)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeError(w, http.StatusInternalServerError, fmt.Errorf("this connection cannot become a stream: %w", err))
		return
	}
	// Through the server's own reader, the end of what the client sends would end
	// r's context: it is read past it, but for what is in it already.
	early := io.LimitReader(buffered.Reader, int64(buffered.Reader.Buffered()))
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		_, err := io.Copy(feed, io.MultiReader(early, conn))
		_ = feed.CloseWithError(err) // nil is the end of what the client sends: the answer goes on
	}()
	if _, err := io.WriteString(conn, upgraded(r, kind)); err == nil {
		var in io.Reader = &farewell{ReadCloser: answer.Body, target: t}
		if what.action == "forward" { // bytes of somebody's protocol
			in = answer.Body
		}
		_, _ = io.Copy(conn, in) // the client has gone, if it fails
	}
	cancel()
	conn.Close()
	stdin.Close()
	<-fed
}

// upgraded is how an engine says that the connection is a stream from here on.
func upgraded(r *http.Request, kind string) string {
	if r.Header.Get("Upgrade") == "" { // clients of old
		return "HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\n\r\n"
	}
	return "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + kind + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
}

func copyAnswer(w http.ResponseWriter, answer *http.Response) {
	if kind := answer.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body) // the client has gone, if it fails
}

// body is a request's body whose end is closed with it.
type body struct {
	io.Reader
	io.Closer
}

// farewell ends a stream of a container's output whose node is lost with a line
// that says so: to the client it would look like its proper end.
type farewell struct {
	io.ReadCloser
	target Target
	rest   *bytes.Reader // nil: the node is there
}

func (f *farewell) Read(p []byte) (int, error) {
	if f.rest != nil {
		return f.rest.Read(p)
	}
	n, err := f.ReadCloser.Read(p)
	if err == nil || err == io.EOF || errors.Is(err, context.Canceled) {
		return n, err
	}
	text := "node " + f.target.Name + " was lost: " + err.Error()
	if f.target.TTY {
		text = "\r\n" + text + "\r\n"
	} else {
		text = string(frame(systemError, text))
	}
	f.rest = bytes.NewReader([]byte(text))
	return n, nil
}
