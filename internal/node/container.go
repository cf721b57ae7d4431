package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"shoal/manager/api"
	"shoal/manager/relay"
	"shoal/raftstore/state"
)

const (
	// maxContainerBody is far above what describes a container.
	maxContainerBody = 4 << 20
	// labelAttachment holds the ids of the places on networks that a container
	// was made with.
	labelAttachment = "shoal.attachment"
)

// place is a place on a cluster network and what the engine calls its half.
type place struct {
	api.Attachment
	engineID  string
	gatewayID string // of this node's own network; empty: the network is internal
	done      func()
}

// endpoint is how the engine is to connect a container to it. The hardware
// address follows from the IPv4 address: other nodes go by that.
func (p place) endpoint(given *network.EndpointSettings) *network.EndpointSettings {
	e := network.EndpointSettings{}
	if given != nil {
		e = *given
	}
	e.NetworkID, e.IPAMConfig = "", &network.EndpointIPAMConfig{}
	for _, a := range p.Addrs {
		if a.Addr().Is4() {
			e.IPAMConfig.IPv4Address, e.MacAddress = a.Addr().String(), hardwareAddr(a.Addr())
		} else {
			e.IPAMConfig.IPv6Address = a.Addr().String()
		}
	}
	return &e
}

func hardwareAddr(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// boarding brings containers onto cluster networks.
type boarding struct {
	networkView
	attachments *attachments
	// ready makes this node's half of a network complete, gateway this node's
	// own network, and both return the engine's id of it; nil: this node cannot.
	ready   func(ctx context.Context, networkID string) (engineNetworkID string, err error)
	gateway func(ctx context.Context) (engineNetworkID string, err error)
	nodeID  string
}

func (n *Node) boarding(v networkView) boarding {
	m, _ := n.current()
	if m == nil { // it has just left
		return boarding{networkView: v}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return boarding{networkView: v, attachments: m.attachments, ready: m.networkReady, gateway: m.gatewayReady, nodeID: m.record.Load().NodeID}
}

// clusterNetwork is what to ask the managers for when a container names a
// network; empty: it is the engine's, or none at all.
func (b boarding) clusterNetwork(r *http.Request, ref string) (string, error) {
	if ref == "" || ref == "default" || state.Predefined(ref) || strings.HasPrefix(ref, "container:") || b.attachments == nil {
		return "", nil
	}
	local, err := b.local(r, ref)
	if err != nil {
		return "", unavailable("%v", err)
	}
	switch {
	case local == nil:
		return ref, nil
	case halfOf(*local) != "":
		return halfOf(*local), nil
	}
	return "", nil
}

// board gets a place on the network that ref names; nil: it is none of the
// cluster's.
func (b boarding) board(r *http.Request, ref, name string, given *network.EndpointSettings) (*place, error) {
	wanted, err := b.clusterNetwork(r, ref)
	if err != nil || wanted == "" {
		return nil, err
	}
	request := api.AttachRequest{Network: wanted, NodeID: b.nodeID, Name: name}
	if given != nil {
		request.Aliases = given.Aliases
		if err := readWish(&request, given); err != nil {
			return nil, err
		}
	}
	at, done, err := b.attachments.attach(r.Context(), request)
	if errdefs.IsNotFound(err) {
		return nil, nil // the engine will say so
	}
	if err != nil {
		return nil, err
	}
	p := &place{Attachment: at, done: done}
	if err := b.prepare(r, p); err != nil {
		b.leave(r.Context(), p)
		// Not as of the cause's kind: the docker CLI takes 404 for a missing image.
		return nil, unavailable("network %s is not ready on this node: %v", at.Network, err)
	}
	return p, nil
}

// prepare makes ready what a container with this place is connected to: where it
// leads outside, also this node's own network.
func (b boarding) prepare(r *http.Request, p *place) (err error) {
	if b.ready == nil || b.gateway == nil {
		return errors.New("its worker is not there yet")
	}
	if p.engineID, err = b.ready(r.Context(), p.NetworkID); err != nil {
		return err
	}
	if len(p.Addrs) > 1 { // a host without IPv6 has half of the half
		half, err := b.local(r, p.engineID)
		if err != nil {
			return err
		}
		if half != nil && !half.EnableIPv6 {
			p.Addrs = p.Addrs[:1]
		}
	}
	if !p.Internal {
		p.gatewayID, err = b.gateway(r.Context())
	}
	return err
}

// readWish reads which address a container wants.
func readWish(request *api.AttachRequest, given *network.EndpointSettings) (err error) {
	if given.MacAddress != "" {
		return invalid("MacAddress %s: on cluster networks the hardware address follows from the IP address, leave it out", given.MacAddress)
	}
	c := given.IPAMConfig
	switch {
	case c == nil:
		return nil
	case c.IPv6Address != "":
		return invalid("IPAMConfig.IPv6Address %s: on cluster networks an IPv4 address can be chosen, the IPv6 address is given", c.IPv6Address)
	case len(c.LinkLocalIPs) > 0:
		return invalid("IPAMConfig.LinkLocalIPs: not on cluster networks, leave it out")
	case c.IPv4Address == "":
		return nil
	}
	if request.Addr, err = netip.ParseAddr(c.IPv4Address); err != nil {
		return invalid("invalid IPv4 address: %s", c.IPv4Address)
	}
	return nil
}

// leave gives places back whose container did not come to be.
func (b boarding) leave(ctx context.Context, places ...*place) {
	for _, p := range places {
		p.done()
		b.attachments.release(ctx, p.ID)
	}
}

// createContainer makes a container; one that names cluster networks gets a
// place on each first.
func (n *Node) createContainer(v networkView, w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxContainerBody))
	if err != nil {
		return invalid("read the container: %v", err)
	}
	restore(r, body)
	spec, err := readContainer(body)
	if err != nil { // not JSON: the engine says so
		n.engine.original(w, r)
		return nil
	}
	b := n.boarding(v)
	query := r.URL.Query()
	name := strings.TrimPrefix(query.Get("name"), "/")
	if name == "" { // the engine would choose it too late
		name = api.RandomName()
	}
	places, err := b.boardAll(r, spec, name)
	if err != nil {
		return err
	}
	if len(places) == 0 {
		n.engine.original(w, r)
		return nil
	}
	query.Set("name", name)
	if body, err = spec.encode(places, api.Version(r)); err != nil {
		b.leave(r.Context(), places...)
		return err
	}
	status, answer, err := b.create(r, query, body, places)
	if err == nil && status != http.StatusCreated {
		b.leave(r.Context(), places...)
	}
	// After an error there may be a container: whoever looks at the places will
	// find out. Before they are given back, it has to have been seen.
	for _, p := range places {
		p.done()
	}
	b.attachments.kick()
	if err != nil {
		return unavailable("%v", err)
	}
	writeRaw(w, status, answer)
	return nil
}

// boardAll gets a place on each cluster network that a container names.
func (b boarding) boardAll(r *http.Request, spec *containerSpec, name string) (places []*place, err error) {
	spec.places = map[string]*place{}
	for _, ref := range spec.networks() {
		p, err := b.board(r, ref, name, spec.endpoints[ref])
		if err == nil && p != nil && spec.macAddress() != "" {
			err = invalid("MacAddress %s: on cluster networks the hardware address follows from the IP address, leave it out", spec.macAddress())
			places = append(places, p)
		}
		if err != nil {
			b.leave(r.Context(), places...)
			return nil, err
		}
		if p != nil {
			spec.places[ref] = p
			places = append(places, p)
		}
	}
	return places, nil
}

// create has the engine make the container, and connects it to this node's own
// network unless it is to reach nothing outside: cluster networks lead nowhere
// else.
func (b boarding) create(r *http.Request, query url.Values, body []byte, places []*place) (status int, answer []byte, err error) {
	status, answer, err = b.engine.call(r.Context(), http.MethodPost, enginePath(r, "/containers/create")+"?"+query.Encode(), body)
	gateway := outward(places)
	if err != nil || status != http.StatusCreated || gateway == "" {
		return status, answer, err
	}
	var created struct {
		ID string `json:"Id"`
	}
	if err := json.Unmarshal(answer, &created); err != nil {
		return status, answer, err
	}
	connect, err := json.Marshal(network.ConnectOptions{Container: created.ID})
	if err != nil {
		return status, answer, err
	}
	code, text, err := b.engine.call(r.Context(), http.MethodPost, enginePath(r, "/networks/"+gateway+"/connect"), connect)
	if err == nil && code != http.StatusOK {
		err = relay.Refusal(code, text)
	}
	if err == nil {
		return status, answer, nil
	}
	// Half a container would look like a whole one.
	_, _, remove := b.engine.call(context.WithoutCancel(r.Context()), http.MethodDelete, enginePath(r, "/containers/"+created.ID)+"?force=1", nil)
	if remove != nil {
		err = fmt.Errorf("%w; container %s could not be removed: %w", err, created.ID, remove)
	}
	return 0, nil, fmt.Errorf("connect the container to this node's network %s: %w", gatewayNetwork, err)
}

// outward is the network by which a container reaches what is outside.
func outward(places []*place) string {
	for _, p := range places {
		if p.gatewayID != "" {
			return p.gatewayID
		}
	}
	return ""
}

func writeRaw(w http.ResponseWriter, status int, body []byte) {
	if len(body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails if the client has gone
}
