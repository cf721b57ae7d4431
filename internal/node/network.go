package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"shoal/manager/api"
	"shoal/raftstore/state"
)

// maxNetworkBody is far above what describes a network.
const maxNetworkBody = 1 << 20

// networkView is the networks that a client of this node sees: the engine's
// own, and the cluster's in place of the halves of them that the engine has.
type networkView struct {
	engine  *engineProxy
	cluster http.Handler // answers for the whole cluster; nil: this node is no manager
}

// networks is what this node shows of networks; not ok: it is in no cluster, so
// that the engine alone answers.
func (n *Node) networks() (view networkView, ok bool) {
	m, _ := n.current()
	if m == nil {
		return networkView{}, false
	}
	view.engine = n.engine
	if mgr := m.manager(); mgr != nil {
		view.cluster = mgr.API()
	}
	return view, true
}

// networkRoutes are the calls about networks, and those that put containers
// onto them.
func (n *Node) networkRoutes(mux *http.ServeMux) {
	mux.Handle("GET /networks", n.withNetworks(networkView.list))
	mux.Handle("GET /networks/{name}", n.withNetworks(networkView.inspect))
	mux.Handle("POST /networks/create", n.withNetworks(n.createNetwork))
	mux.Handle("POST /networks/prune", n.withNetworks(networkView.prune))
	mux.Handle("DELETE /networks/{name}", n.withNetworks(n.removeNetwork))
	mux.Handle("POST /networks/{name}/connect", n.withNetworks(n.connectContainer))
	mux.Handle("POST /networks/{name}/disconnect", n.withNetworks(n.disconnectContainer))
	mux.Handle("POST /containers/create", n.withNetworks(n.createContainer))
}

// withNetworks has h answer where this node is in a cluster.
func (n *Node) withNetworks(h func(networkView, http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, ok := n.networks()
		if !ok {
			n.engine.original(w, r)
			return
		}
		if err := h(v, w, r); err != nil {
			api.WriteError(w, err)
		}
	}
}

// list merges both lists. The engine's entries are passed on as they are.
func (v networkView) list(w http.ResponseWriter, r *http.Request) error {
	filter, err := api.ParseNetworkFilter(r.URL.Query())
	if err != nil {
		return err
	}
	all, err := v.clusterList(r, filter)
	if err != nil {
		return err
	}
	var local []json.RawMessage
	if err := v.engine.get(r.Context(), enginePath(r, "/networks")+"?"+r.URL.RawQuery, &local); err != nil {
		return unavailable("%v", err)
	}
	for _, raw := range local {
		var n network.Summary
		if err := json.Unmarshal(raw, &n); err == nil && halfOf(n) == "" {
			all = append(all, raw)
		}
	}
	writeJSON(w, all)
	return nil
}

func (v networkView) clusterList(r *http.Request, filter api.NetworkFilter) (all []json.RawMessage, err error) {
	all = []json.RawMessage{}
	if v.cluster != nil {
		answer := ask(v.cluster, r, http.MethodGet, "/networks", r.URL.RawQuery)
		if answer.status != http.StatusOK {
			return nil, answer.err()
		}
		return all, json.Unmarshal(answer.body.Bytes(), &all)
	}
	halves, err := v.halves(r.Context())
	if err != nil {
		return nil, err
	}
	for _, h := range halves {
		shown := presentHalf(h)
		if !filter.Match(shown, true) { // it would not be here without anything on it
			continue
		}
		raw, err := json.Marshal(shown)
		if err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}

// inspect answers for one network. Those of every host that services may use by
// name are the cluster's as well as the engine's: the docker CLI asks for them
// with scope swarm before it creates a service.
func (v networkView) inspect(w http.ResponseWriter, r *http.Request) error {
	ref, scope := r.PathValue("name"), r.URL.Query().Get("scope")
	if state.Predefined(ref) {
		if scope == "swarm" {
			writeJSON(w, predefined(ref))
		} else {
			v.engine.original(w, r)
		}
		return nil
	}
	found, err := v.find(r, ref, scope)
	switch {
	case err != nil:
		return err
	case found == nil:
		v.engine.original(w, r)
		return nil
	}
	if found.Containers, err = v.containers(r, found.ID); err != nil {
		return err
	}
	writeJSON(w, found)
	return nil
}

func predefined(name string) network.Inspect {
	return network.Inspect{
		Name: name, ID: name, Scope: "swarm", Driver: name, Created: time.Time{}, EnableIPv4: true,
		IPAM:       network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Containers: map[string]network.EndpointResource{}, Options: map[string]string{},
		Labels: map[string]string{"com.docker.swarm.predefined": "true"},
	}
}

// find looks for a network in both worlds; nil: the engine knows it, or says
// that there is none. A full name or id goes before the beginning of an id, and
// the cluster before the engine.
func (v networkView) find(r *http.Request, ref, scope string) (*network.Inspect, error) {
	local, err := v.local(r, ref)
	if err != nil {
		return nil, unavailable("%v", err)
	}
	if local != nil && halfOf(*local) != "" {
		ref, local = halfOf(*local), nil
	}
	if scope == "local" {
		return nil, v.localOnly(r, ref, local)
	}
	shared, err := v.shared(r, ref)
	exact := func(n *network.Inspect) bool { return n != nil && (n.Name == ref || n.ID == ref) }
	switch {
	case scope == "swarm":
		return shared, err
	case exact(local) && !exact(shared):
		return nil, nil // also when the cluster cannot answer
	case errdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case local != nil && !exact(shared):
		return nil, invalid("network %s is ambiguous (2 matches found on ID prefix)", ref)
	}
	return shared, nil
}

// localOnly refuses a half: it is no network of its own.
func (v networkView) localOnly(r *http.Request, ref string, local *network.Inspect) error {
	if local == nil && ref != r.PathValue("name") {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", r.PathValue("name")))
	}
	return nil
}

// local is what the engine knows under a reference; nil: nothing, or more than
// one.
func (v networkView) local(r *http.Request, ref string) (*network.Inspect, error) {
	status, body, err := v.engine.call(r.Context(), http.MethodGet, enginePath(r, "/networks/"+url.PathEscape(ref)), nil)
	if err != nil || status != http.StatusOK {
		return nil, err
	}
	var n network.Inspect
	return &n, json.Unmarshal(body, &n)
}

// shared is what the cluster knows under a reference. A node that is no manager
// goes by the halves that it has.
func (v networkView) shared(r *http.Request, ref string) (*network.Inspect, error) {
	var n network.Inspect
	if v.cluster != nil {
		query := url.Values{}
		if verbose := r.URL.Query().Get("verbose"); verbose != "" {
			query.Set("verbose", verbose)
		}
		answer := ask(v.cluster, r, http.MethodGet, "/networks/"+ref, query.Encode())
		if answer.status != http.StatusOK {
			return nil, answer.err()
		}
		return &n, json.Unmarshal(answer.body.Bytes(), &n)
	}
	halves, err := v.halves(r.Context())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(halves, func(h network.Summary) bool { return halfOf(h) == ref })
	if i < 0 {
		i = slices.IndexFunc(halves, func(h network.Summary) bool { return h.Name == ref })
	}
	if i < 0 {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
	}
	n = presentHalf(halves[i])
	return &n, nil
}

// createNetwork leaves the networks of one host to the engine. A name is that
// of one network, whoever has it.
func (n *Node) createNetwork(v networkView, w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNetworkBody))
	if err != nil {
		return invalid("read the network: %v", err)
	}
	restore(r, body)
	var request network.CreateRequest
	_ = json.Unmarshal(body, &request) // what is not JSON the engine refuses
	taken := errdefs.ErrConflict.WithMessage(fmt.Sprintf("network with name %s already exists", request.Name))
	if request.Driver != "overlay" && request.Scope != "swarm" && !request.Ingress {
		if m, _ := n.current(); m != nil && m.manager() != nil && m.manager().View().NetworkByName(request.Name) != nil {
			return taken
		}
		n.engine.original(w, r)
		return nil
	}
	if request.Name != "" && !state.Predefined(request.Name) && v.cluster != nil {
		local, err := v.local(r, request.Name)
		if err != nil {
			return unavailable("%v", err)
		}
		if local != nil && local.Name == request.Name && halfOf(*local) == "" {
			return taken
		}
	}
	n.toCluster(v, w, r)
	return nil
}

// toCluster has the cluster answer, or this node say why it cannot.
func (n *Node) toCluster(v networkView, w http.ResponseWriter, r *http.Request) {
	if v.cluster == nil {
		n.cluster(w, r)
		return
	}
	v.cluster.ServeHTTP(w, r)
}

// removeNetwork removes a network of the cluster, or one of the engine's.
func (n *Node) removeNetwork(v networkView, w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("name")
	if state.Predefined(ref) {
		n.engine.original(w, r)
		return nil
	}
	found, err := v.find(r, ref, "")
	if err != nil {
		return err
	}
	if found == nil {
		n.engine.original(w, r)
		return nil
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = "/networks/"+found.ID, ""
	n.toCluster(v, w, r)
	return nil
}

// prune removes what nothing is on: of the cluster's networks first, then of
// the engine's. Halves and the gateway network come and go by themselves, so the
// engine cannot be asked to prune.
func (v networkView) prune(w http.ResponseWriter, r *http.Request) error {
	filter, err := api.ParsePruneFilter(r.URL.Query(), time.Now())
	if err != nil {
		return err
	}
	report := network.PruneReport{}
	if v.cluster != nil {
		answer := ask(v.cluster, r, http.MethodPost, "/networks/prune", r.URL.RawQuery)
		if answer.status != http.StatusOK {
			return answer.err()
		}
		if err := json.Unmarshal(answer.body.Bytes(), &report); err != nil {
			return err
		}
	}
	var unused []network.Summary
	query := url.Values{"filters": {`{"dangling":["true"],"type":["custom"]}`}}
	if err := v.engine.get(r.Context(), enginePath(r, "/networks")+"?"+query.Encode(), &unused); err != nil {
		return unavailable("%v", err)
	}
	for _, n := range unused {
		if halfOf(n) != "" || n.Name == gatewayNetwork || !filter.Match(n.Created, n.Labels) {
			continue
		}
		status, _, err := v.engine.call(r.Context(), http.MethodDelete, enginePath(r, "/networks/"+n.ID), nil)
		if err != nil {
			return unavailable("%v", err)
		}
		if status == http.StatusNoContent { // else something has just come onto it
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		}
	}
	writeJSON(w, report)
	return nil
}

// restore puts a body that was read back into its request.
func restore(r *http.Request, body []byte) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}
