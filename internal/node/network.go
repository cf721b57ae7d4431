package node

import (
	"net/http"
	"time"

	"github.com/docker/docker/api/types/network"
)

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
