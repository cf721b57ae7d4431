package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/docker/docker/api/types/registry"
)

// engineProxy passes calls that are not about the cluster to the local Docker
// Engine: streams and hijacked connections included.
type engineProxy struct {
	socket    string
	transport *http.Transport
	proxy     *httputil.ReverseProxy

	mu      sync.Mutex
	version string // newest API version of the engine, as last heard
}

func newEngineProxy(cfg Config) *engineProxy {
	e := &engineProxy{socket: cfg.engineSocket()}
	e.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
		},
		DisableCompression: true,     // pass on what the engine sends
		ReadBufferSize:     16 << 10, // of logs, many lines at once
	}
	e.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "engine", "docker"
		},
		Transport:     e.transport,
		FlushInterval: -1, // logs and events at once
		ErrorLog:      slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				writeError(w, http.StatusServiceUnavailable, fmt.Errorf("the Docker Engine at unix://%s does not answer: %w", e.socket, err))
			}
		},
	}
	return e
}

func (e *engineProxy) close() { e.transport.CloseIdleConnections() }

func (e *engineProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.proxy.ServeHTTP(w, r)
}

// ask sends a GET to the engine.
func (e *engineProxy) ask(ctx context.Context, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := e.transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("the Docker Engine at unix://%s does not answer: %w", e.socket, err)
	}
	return response, nil
}

// get asks the engine and decodes its answer.
func (e *engineProxy) get(ctx context.Context, path string, into any) error {
	response, err := e.ask(ctx, path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the Docker Engine answers %s to %s", response.Status, path)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// distribution has the engine ask the registry of an image what it has.
func (e *engineProxy) distribution(ctx context.Context, image, auth string) (found registry.DistributionInspect, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/distribution/"+image+"/json", nil)
	if err != nil {
		return found, err
	}
	if auth != "" {
		r.Header.Set(registry.AuthHeader, auth)
	}
	response, err := e.transport.RoundTrip(r)
	if err != nil {
		return found, fmt.Errorf("the Docker Engine at unix://%s does not answer: %w", e.socket, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return found, fmt.Errorf("the Docker Engine answers %s when asked for the digest of %s", response.Status, image)
	}
	return found, json.NewDecoder(response.Body).Decode(&found)
}

// apiVersion is the newest API version that the engine speaks; the last one
// heard while it is down, empty if it was never up.
func (e *engineProxy) apiVersion(ctx context.Context) string {
	var v struct {
		APIVersion string `json:"ApiVersion"`
	}
	err := e.get(ctx, "/version", &v)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && v.APIVersion != "" {
		e.version = v.APIVersion
	}
	return e.version
}

// introduce tells what the engine's own answer to a ping says of it: which
// builder clients should use, and whether it is experimental.
func (e *engineProxy) introduce(ctx context.Context, h http.Header) {
	h.Set("Docker-Experimental", "false")
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	response, err := e.ask(ctx, "/_ping")
	if err != nil {
		return // a ping of shoal does not fail because the engine is down
	}
	defer response.Body.Close()
	for _, name := range []string{"Docker-Experimental", "Builder-Version"} {
		if value := response.Header.Get(name); value != "" {
			h.Set(name, value)
		}
	}
}

func writeError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()}) // fails if the client has gone
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails if the client has gone
}

// isClosed reports whether a server ended because it was told to.
func isClosed(err error) bool {
	return err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed)
}
