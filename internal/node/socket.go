package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shoal/internal/pki"
	"shoal/manager/api"
	"shoal/manager/logs"
)

// serveSocket answers the Docker API on the unix socket until ctx ends.
func (n *Node) serveSocket(ctx context.Context) error {
	listener, err := listenUnix(n.cfg.Socket)
	if err != nil {
		return err
	}
	return serve(ctx, listener, n.dockerAPI(), nil)
}

// serve answers on l until ctx ends, then lets requests end for a moment.
func serve(ctx context.Context, l net.Listener, h http.Handler, configure func(*http.Server)) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	if configure != nil {
		configure(server)
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // connections that do not end by themselves
		}
	})
	err := server.Serve(l)
	if !stop() {
		<-stopped
	}
	if isClosed(err) {
		return ctx.Err()
	}
	return err
}

// listenUnix makes the socket: for root and the group docker, if there is one
// to share it with, is up to the directory; others cannot open it.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the socket has its own mode
		return nil, fmt.Errorf("socket directory: %w", err)
	}
	// The state directory is locked, so a socket that nobody answers on is one
	// that a dead daemon left behind; one that answers belongs to another.
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, failed("socket %s is in use by another process: choose another one with --socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // root and its group
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// dockerAPI is a Docker Engine's API: what is about the cluster is answered
// here or by a manager, the rest by the local engine.
func (n *Node) dockerAPI() http.Handler {
	local := http.NewServeMux()
	local.HandleFunc("GET /_ping", n.ping)
	local.HandleFunc("GET /version", n.version)
	local.HandleFunc("GET /info", n.info)
	local.HandleFunc("GET /events", n.events)
	local.HandleFunc("GET /services/{id}/logs", n.logs((*logs.Logs).Service))
	local.HandleFunc("GET /tasks/{id}/logs", n.logs((*logs.Logs).Task))
	local.HandleFunc("POST /shoal/v1/forward/{container}", n.forwardPort)
	n.networkRoutes(local)
	local.HandleFunc("POST /swarm/init", n.handleInit)
	local.HandleFunc("POST /swarm/join", n.handleJoin)
	local.HandleFunc("POST /swarm/leave", n.handleLeave)
	local.HandleFunc("POST /swarm/unlock", n.handleUnlock)
	local.HandleFunc("GET /shoal/v1/version", n.shoalVersion)
	local.HandleFunc("GET /shoal/v1/healthz", n.healthz)
	local.HandleFunc("GET /shoal/v1/readyz", n.readyz)
	local.Handle("GET /shoal/v1/metrics", n.metricsHandler())
	// Profiles tell much about a process: only who may use the socket sees them.
	local.HandleFunc("GET /shoal/v1/debug/profile", pprof.Profile)
	local.HandleFunc("GET /shoal/v1/debug/trace", pprof.Trace)
	local.HandleFunc("GET /shoal/v1/debug/{profile}", func(w http.ResponseWriter, r *http.Request) {
		pprof.Handler(r.PathValue("profile")).ServeHTTP(w, r)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bare, err := api.Unversioned(r)
		if err != nil {
			api.WriteError(w, err)
			return
		}
		if _, pattern := local.Handler(bare); pattern != "" {
			local.ServeHTTP(w, withOriginal(bare, r.URL.Path))
			return
		}
		if isCluster(bare.URL.Path) {
			n.cluster(w, bare)
			return
		}
		if n.elsewhere(w, withOriginal(bare, r.URL.Path)) {
			return
		}
		n.engine.ServeHTTP(w, r)
	})
}

// isCluster reports whether a path is about the cluster, so that only a
// manager can answer.
func isCluster(path string) bool {
	for _, root := range []string{"/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/shoal"} {
		if path == root || strings.HasPrefix(path, root+"/") {
			return true
		}
	}
	return false
}

// cluster has a manager answer.
func (n *Node) cluster(w http.ResponseWriter, r *http.Request) {
	m, failure := n.current()
	switch {
	case m == nil:
		writeError(w, http.StatusServiceUnavailable, errNoSwarm)
	case failure != nil && m.manager() == nil:
		writeError(w, http.StatusServiceUnavailable, fmt.Errorf("%w (%w)", errPreparing, failure))
	case m.manager() == nil && m.role() == pki.RoleManager:
		writeError(w, http.StatusServiceUnavailable, errPreparing)
	case m.manager() == nil:
		writeError(w, http.StatusServiceUnavailable, errWorker)
	default:
		m.manager().API().ServeHTTP(w, r)
	}
}

// What a node that is not a manager says; clients match these texts.
var (
	errNoSwarm   = unavailable(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	errWorker    = unavailable(`This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.`)
	errPreparing = unavailable("This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster.")
)
