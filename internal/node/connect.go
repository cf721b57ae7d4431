package node

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"shoal/manager/relay"
)

// connectContainer puts a container that is there onto a network.
func (n *Node) connectContainer(v networkView, w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNetworkBody))
	if err != nil {
		return invalid("read the request: %v", err)
	}
	restore(r, body)
	var request network.ConnectOptions
	b := n.boarding(v)
	if json.Unmarshal(body, &request) != nil || request.Container == "" { // the engine says so
		n.engine.original(w, r)
		return nil
	}
	wanted, err := b.clusterNetwork(r, r.PathValue("name"))
	if err != nil {
		return err
	}
	if wanted == "" {
		n.engine.original(w, r)
		return nil
	}
	c, err := b.container(r, request.Container)
	if err != nil {
		return err
	}
	shared, half, err := v.sharedHalf(r, wanted)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if half != "" && c.isOn(half) {
		return errdefs.ErrConflict.WithMessage(request.Container + " is already attached to network " + shared.Name)
	}
	p, err := b.board(r, r.PathValue("name"), c.name(), request.EndpointConfig)
	if err != nil {
		return err
	}
	if p == nil {
		n.engine.original(w, r)
		return nil
	}
	request.EndpointConfig = p.endpoint(request.EndpointConfig)
	if body, err = json.Marshal(request); err != nil {
		b.leave(r.Context(), p)
		return err
	}
	status, answer, err := b.engine.call(r.Context(), http.MethodPost, enginePath(r, "/networks/"+p.engineID+"/connect"), body)
	if err == nil && status != http.StatusOK {
		b.leave(r.Context(), p)
	}
	p.done()
	b.attachments.kick() // as after a container was made
	if err != nil {
		return unavailable("%v", err)
	}
	writeRaw(w, status, answer)
	return nil
}

// connected is a container of this node with the engine's networks that it is
// on.
type connected struct {
	ID              string `json:"Id"`
	Name            string `json:"Name"`
	NetworkSettings struct {
		Networks map[string]network.EndpointSettings `json:"Networks"`
	} `json:"NetworkSettings"`
}

func (c connected) name() string { return strings.TrimPrefix(c.Name, "/") }

func (c connected) isOn(engineID string) bool {
	for _, e := range c.NetworkSettings.Networks {
		if e.NetworkID == engineID {
			return true
		}
	}
	return false
}

func (b boarding) container(r *http.Request, ref string) (c connected, err error) {
	status, body, err := b.engine.call(r.Context(), http.MethodGet, enginePath(r, "/containers/"+url.PathEscape(ref)+"/json"), nil)
	if err != nil {
		return c, unavailable("%v", err)
	}
	if status != http.StatusOK {
		return c, relay.Refusal(status, body)
	}
	return c, json.Unmarshal(body, &c)
}

// sharedHalf finds a network of the cluster, and the engine's id of its half;
// that is empty when this node has none.
func (v networkView) sharedHalf(r *http.Request, ref string) (*network.Inspect, string, error) {
	shared, err := v.shared(r, ref)
	if err != nil {
		return nil, "", err
	}
	half, err := v.half(r.Context(), shared.ID)
	return shared, half, err
}

// disconnectContainer takes a container off a network.
func (n *Node) disconnectContainer(v networkView, w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("name")
	b := n.boarding(v)
	wanted, err := b.clusterNetwork(r, ref)
	if err != nil {
		return err
	}
	if wanted == "" {
		n.engine.original(w, r)
		return nil
	}
	shared, half, err := v.sharedHalf(r, wanted)
	if errdefs.IsNotFound(err) {
		n.engine.original(w, r) // says so
		return nil
	}
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNetworkBody))
	if err != nil {
		return invalid("read the request: %v", err)
	}
	restore(r, body)
	var request network.DisconnectOptions
	if json.Unmarshal(body, &request) == nil && request.Container != "" {
		c, err := b.container(r, request.Container)
		switch {
		case err == nil && (half == "" || !c.isOn(half)): // 500, as Swarm
			return errdefs.ErrUnknown.WithMessage("container " + c.ID + " is not connected to network " + shared.Name)
		case err == nil || request.Force && errdefs.IsNotFound(err):
		default:
			return err
		}
	}
	if half == "" {
		return errdefs.ErrInvalidArgument.WithMessage("no container of this node is connected to network " + shared.Name)
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = "/networks/"+half+"/disconnect", ""
	n.engine.original(w, r)
	b.attachments.kick()
	return nil
}
