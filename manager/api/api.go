// Package api answers the Docker-compatible calls that read or change the
// state of the cluster, and what is under /shoal/v1: why, which explains it, the
// revisions and updates of services, and where their tasks would be better.
//
// It owns what users ask for: specs of services, nodes and the cluster,
// networks, the places of containers on them, secrets and configs. A
// write is decoded and checked first, then one short plan compares it with the
// state and proposes it. What this version cannot honour is refused by name,
// and so is a field that it does not know; nothing is left out in silence.
//
// Handlers run on the leader. Finding the leader, the version prefix of paths
// and every call that is not about the cluster are the business of whoever
// mounts the Routes.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/raftstore/state"
)

// Versions of the Docker API that are spoken. The highest is that of the types
// and the client that shoal is built with; the lowest is what Docker still
// spoke in the 20.10 days.
const (
	MaxVersion = "1.51"
	MinVersion = "1.24"
)

// Store is what the API needs of the replicated state.
type Store interface {
	Changed() <-chan struct{}
	View() *state.View
	Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error
}

// Peer is a manager as the consensus sees it.
type Peer struct {
	NodeID    string
	Addr      string // host:port of its cluster listener
	Leader    bool
	Reachable bool
}

// Config is what an API needs. Zero values take the default named.
type Config struct {
	Store Store // required
	// Linearizable returns a view that holds every write acknowledged before
	// the call. Store.View, if nil.
	Linearizable func(context.Context) (*state.View, error)
	// Peers returns the members of the consensus; nil: none are known.
	Peers func() []Peer
	// Tokens returns the join tokens as text. Required for GET /swarm.
	Tokens func(*state.View) (worker, manager string)
	// RotateTokens returns a copy of the cluster with new join tokens for roles.
	// It is pure: plans call it. nil: rotation is refused.
	RotateTokens func(c *state.Cluster, roles ...swarm.NodeRole) (*state.Cluster, error)
	// NodeRemoved returns what becomes of the cluster when a node is removed from
	// it. It is pure: plans call it. nil: nothing.
	NodeRemoved func(*state.Cluster) *state.Cluster
	// Witness asks the node that has a task's container for what that has said
	// last. It answers within a few seconds, whatever the node does. nil: nobody
	// is asked.
	Witness func(ctx context.Context, t *state.Task) Testimony
	// Distribution asks the registry of an image what it has, with an
	// X-Registry-Auth value or none; nil: no registry is asked.
	Distribution func(ctx context.Context, image, auth string) (registry.DistributionInspect, error)

	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // no metrics
}

// API serves the routes; see Routes, Run and Events.
type API struct {
	config  Config
	log     *slog.Logger
	metrics *metrics
	cache   cache

	mu     sync.Mutex
	recent []events.Message // of the cluster, the newest keepEvents
	total  uint64           // events so far, recent included
	more   chan struct{}    // closed when total grows
}

// New returns an API. It starts nothing: Run does.
func New(c Config) (*API, error) {
	if c.Store == nil {
		return nil, errors.New("api: no store")
	}
	if c.Linearizable == nil {
		c.Linearizable = func(context.Context) (*state.View, error) { return c.Store.View(), nil }
	}
	if c.Peers == nil {
		c.Peers = func() []Peer { return nil }
	}
	if c.Tokens == nil {
		c.Tokens = func(*state.View) (string, string) { return "", "" }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	return &API{config: c, log: c.Log, metrics: m, more: make(chan struct{})}, nil
}

// Route is one call of the API.
type Route struct {
	Method  string
	Pattern string // of http.ServeMux, without method and version prefix
	Handler http.Handler
	Write   bool // changes the state
	// Roles are the certificate roles that may call it over the network. The
	// owner of the local socket may call everything.
	Roles []string
}

// Routes lists every call that the API answers.
func (a *API) Routes() []Route {
	var routes []Route
	add := func(method, pattern string, h handler) {
		routes = append(routes, Route{
			Method: method, Pattern: pattern, Handler: a.handle(method+" "+pattern, h),
			Write: method != http.MethodGet, Roles: []string{"manager", "client"},
		})
	}
	add("GET", "/swarm", a.inspectSwarm)
	add("POST", "/swarm/update", a.updateSwarm)
	add("GET", "/swarm/unlockkey", a.unlockKey)

	add("GET", "/nodes", a.listNodes)
	add("GET", "/nodes/{id}", a.inspectNode)
	add("DELETE", "/nodes/{id}", a.removeNode)
	add("POST", "/nodes/{id}/update", a.updateNode)

	add("GET", "/services", a.listServices)
	add("POST", "/services/create", a.createService)
	add("GET", "/services/{id}", a.inspectService)
	add("POST", "/services/{id}/update", a.updateService)
	add("DELETE", "/services/{id}", a.removeService)

	add("GET", "/tasks", a.listTasks)
	add("GET", "/tasks/{id}", a.inspectTask)

	add("GET", "/networks", a.listNetworks)
	add("POST", "/networks/create", a.createNetwork)
	add("POST", "/networks/prune", a.pruneNetworks)
	add("GET", "/networks/{id}", a.inspectNetwork)
	add("DELETE", "/networks/{id}", a.removeNetwork)

	add("GET", AttachmentPath, a.listAttachments)
	add("POST", AttachmentPath, a.attach)
	add("DELETE", AttachmentPath+"/{id}", a.detach)

	for _, k := range []valueKind{secretValue, configValue} {
		at := "/" + string(k) + "s"
		add("GET", at, a.listValues(k))
		add("POST", at+"/create", a.createValue(k))
		add("GET", at+"/{id}", a.inspectValue(k))
		add("DELETE", at+"/{id}", a.removeValue(k))
		add("POST", at+"/{id}/update", a.updateValue(k))
		add("GET", "/shoal/v1"+at+"/{id}/versions", a.listVersions(k))
		add("POST", "/shoal/v1"+at+"/{id}/set", a.setValue(k))
	}

	add("GET", "/shoal/v1/why/{id}", a.why)
	add("GET", "/shoal/v1/services/{id}/revisions", a.listRevisions)
	add("POST", "/shoal/v1/services/{id}/rollback", a.rollBackService)
	add("POST", "/shoal/v1/services/{id}/pause", a.steer(pause))
	add("POST", "/shoal/v1/services/{id}/resume", a.steer(resume))
	add("POST", "/shoal/v1/services/{id}/abort", a.steer(abort))
	add("GET", "/shoal/v1/rebalance", a.adviseRebalance)
	add("POST", "/shoal/v1/services/{id}/rebalance", a.rebalanceService)
	return routes
}
