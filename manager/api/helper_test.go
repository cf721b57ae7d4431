package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client" //nolint:depguard // the caller that most users have

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// harness is an API over a store, and the real Docker client in front of it.
type harness struct {
	*testing.T
	store   *statetest.Store
	api     *api.API
	server  *httptest.Server
	docker  *client.Client
	peers   []api.Peer
	rotated []swarm.NodeRole
	witness func(*state.Task) api.Testimony
	// distribution answers for the registry; nil: it does not.
	distribution func(image, auth string) (registry.DistributionInspect, error)
}

func newHarness(tb testing.TB, objs ...state.Object) *harness {
	tb.Helper()
	h := &harness{store: statetest.New(objs...)}
	h.T, _ = tb.(*testing.T)
	var err error
	h.api, err = api.New(api.Config{
		Store:  h.store,
		Peers:  func() []api.Peer { return h.peers },
		Tokens: func(*state.View) (string, string) { return "SHMTKN-1-worker", "SHMTKN-1-manager" },
		RotateTokens: func(c *state.Cluster, roles ...swarm.NodeRole) (*state.Cluster, error) {
			next := *c
			for _, role := range roles {
				h.rotated = append(h.rotated, role)
				next.Tokens.Worker.Generation++
			}
			return &next, nil
		},
		NodeRemoved: func(c *state.Cluster) *state.Cluster {
			next := *c
			next.OverlayKeyAt = time.Time{}
			return &next
		},
		Witness: func(_ context.Context, t *state.Task) api.Testimony {
			if h.witness == nil {
				return api.Testimony{}
			}
			return h.witness(t)
		},
		Distribution: func(_ context.Context, image, auth string) (registry.DistributionInspect, error) {
			if h.distribution == nil {
				return registry.DistributionInspect{}, errors.New("no registry here")
			}
			return h.distribution(image, auth)
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	h.server = httptest.NewServer(serve(h.api))
	tb.Cleanup(h.server.Close)
	h.docker, err = client.NewClientWithOpts(client.WithHost("tcp://"+h.server.Listener.Addr().String()), client.WithVersion(api.MaxVersion))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { h.docker.Close() })
	return h
}

// serve is the least that a composition does with the routes.
func serve(a *api.API) http.Handler {
	mux := http.NewServeMux()
	for _, r := range a.Routes() {
		mux.Handle(r.Method+" "+r.Pattern, r.Handler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version, path, err := api.SplitVersion(r.URL.Path)
		if err != nil {
			api.WriteError(w, err)
			return
		}
		r = r.WithContext(api.WithVersion(r.Context(), version))
		r.URL.Path = path
		mux.ServeHTTP(w, r)
	})
}

// call is a raw request. body is sent as it is if it is a string, else as
// JSON; headers are "Name: value".
func (h *harness) call(method, path string, body any, headers ...string) (int, string) {
	h.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			h.Fatal(err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(h.Context(), method, h.server.URL+path, content)
	if err != nil {
		h.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (h *harness) hash() string {
	h.Helper()
	hash, err := h.store.View().Hash()
	if err != nil {
		h.Fatal(err)
	}
	return hash
}

// service returns a stored service and fails the test if there is none.
func (h *harness) service(name string) *state.Service {
	h.Helper()
	s := h.store.View().ServiceByName(name)
	if s == nil {
		h.Fatalf("service %s is not in the state", name)
	}
	return s
}

// webSpec is a small valid spec.
func webSpec(name string, replicas uint64) swarm.ServiceSpec {
	return swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: name},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "web:1"}},
		Mode:         swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &replicas}},
	}
}

// objects joins objects and the pairs that statetest.Service returns.
func objects(s *state.Service, r *state.Revision, more ...state.Object) []state.Object {
	return append([]state.Object{s, r}, more...)
}
