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
	name, err := b.containerName(r, request.Container)
	if err != nil {
		return err
	}
	p, err := b.board(r, r.PathValue("name"), name, request.EndpointConfig)
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

func (b boarding) containerName(r *http.Request, ref string) (string, error) {
	status, body, err := b.engine.call(r.Context(), http.MethodGet, enginePath(r, "/containers/"+url.PathEscape(ref)+"/json"), nil)
	if err != nil {
		return "", unavailable("%v", err)
	}
	if status != http.StatusOK {
		return "", relay.Refusal(status, body)
	}
	var c struct {
		Name string `json:"Name"`
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return "", err
	}
	return strings.TrimPrefix(c.Name, "/"), nil
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
	shared, err := v.shared(r, wanted)
	if errdefs.IsNotFound(err) {
		n.engine.original(w, r) // says so
		return nil
	}
	if err != nil {
		return err
	}
	half, err := v.half(r.Context(), shared.ID)
	if err != nil {
		return err
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
