package node

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/docker/docker/api/types/network"

	"shoal/overlay"
	workernet "shoal/worker/network"
)

// A half is what one engine has of a cluster network: a bridge, to which the
// data plane adds the way to the other nodes. The worker makes it.
const (
	// labelNetwork holds the id of the cluster network on its half.
	labelNetwork    = workernet.NetworkLabel
	labelAttachable = workernet.AttachableLabel
	labelInternal   = workernet.InternalLabel

	// gatewayNetwork is this node's own network, of all containers that may
	// speak with the outside.
	gatewayNetwork = overlay.MeshBridge
)

// halfOf is the id of the cluster network that n is a half of, empty for none.
func halfOf(n network.Summary) string { return n.Labels[labelNetwork] }

// halves are those that this node's engine has.
func (v networkView) halves(ctx context.Context) (halves []network.Summary, err error) {
	query := url.Values{"filters": {`{"label":["` + labelNetwork + `"]}`}}
	if err := v.engine.get(ctx, "/networks?"+query.Encode(), &halves); err != nil {
		return nil, unavailable("%v", err)
	}
	return halves, nil
}

// half is the engine's id of the half of a cluster network, empty if there is
// none here.
func (v networkView) half(ctx context.Context, networkID string) (string, error) {
	halves, err := v.halves(ctx)
	if err != nil {
		return "", err
	}
	for _, h := range halves {
		if halfOf(h) == networkID {
			return h.ID, nil
		}
	}
	return "", nil
}

// presentHalf shows a half as the network that it is a part of.
func presentHalf(h network.Summary) network.Inspect {
	id := halfOf(h)
	out := network.Inspect{
		// Where the engine had a network of that name, the half has another.
		Name: strings.TrimSuffix(h.Name, "."+id[:min(12, len(id))]), ID: id, Created: h.Created, Scope: "swarm", Driver: "overlay", EnableIPv4: true, EnableIPv6: h.EnableIPv6,
		IPAM:     network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Internal: h.Labels[labelInternal] == "true", Attachable: h.Labels[labelAttachable] == "true",
		Containers: map[string]network.EndpointResource{}, Options: map[string]string{}, Labels: map[string]string{},
	}
	for _, c := range h.IPAM.Config {
		out.IPAM.Config = append(out.IPAM.Config, network.IPAMConfig{Subnet: c.Subnet, Gateway: c.Gateway})
	}
	for key, value := range h.Labels {
		if !strings.HasPrefix(key, "shoal.") {
			out.Labels[key] = value
		}
	}
	return out
}

// containers are those of this node on a cluster network; nil if it has no half
// of it, which clients see as null.
func (v networkView) containers(r *http.Request, networkID string) (map[string]network.EndpointResource, error) {
	id, err := v.half(r.Context(), networkID)
	if err != nil || id == "" {
		return nil, err
	}
	status, body, err := v.engine.call(r.Context(), http.MethodGet, enginePath(r, "/networks/"+id), nil)
	if err != nil {
		return nil, unavailable("%v", err)
	}
	if status != http.StatusOK { // it has just gone
		return nil, nil
	}
	var n network.Inspect
	err = json.Unmarshal(body, &n)
	return n.Containers, err
}
