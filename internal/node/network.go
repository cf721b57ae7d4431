package node

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/docker/docker/api/types/network"

	"shoal/manager/api"
)

// maxNetworkBody is far above what describes a network.
const maxNetworkBody = 1 << 20

// inspectNetwork answers for the networks of every host that services may use
// by name: bridge, host and none are the cluster's as well as the engine's. The
// docker CLI asks for them in this way before it creates a service. All other
// networks are the engine's.
func (n *Node) inspectNetwork(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	predefined := name == "bridge" || name == "host" || name == "none"
	if m, _ := n.current(); m == nil || !predefined || r.URL.Query().Get("scope") != "swarm" {
		n.engine.ServeHTTP(w, r)
		return
	}
	writeJSON(w, network.Inspect{
		Name: name, ID: name, Scope: "swarm", Driver: name, Created: time.Time{}, EnableIPv4: true,
		IPAM:       network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Containers: map[string]network.EndpointResource{}, Options: map[string]string{},
		Labels: map[string]string{"com.docker.swarm.predefined": "true"},
	})
}

// createNetwork leaves the networks of one host to the engine. Those of the
// cluster are refused: the engine would say that this node is in no swarm.
func (n *Node) createNetwork(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNetworkBody))
	if err != nil {
		api.WriteError(w, invalid("read the network: %v", err))
		return
	}
	var request network.CreateRequest
	_ = json.Unmarshal(body, &request) // what is not JSON the engine refuses
	if m, _ := n.current(); m != nil && (request.Driver == "overlay" || request.Scope == "swarm") {
		api.WriteError(w, unsupported("network %s: overlay networks are not supported by this version of shoal; tasks without networks use the bridge of their node", request.Name))
		return
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	n.engine.ServeHTTP(w, r)
}
