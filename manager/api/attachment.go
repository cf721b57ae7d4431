package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/pkg/namesgenerator"

	"shoal/internal/id"
	"shoal/manager/allocator"
	"shoal/raftstore/state"
)

// AttachmentPath is where attachments are made, listed and, below it, removed.
const AttachmentPath = "/shoal/v1/attachments"

// Limits of what a container says of itself.
const (
	maxContainerName = 253 // of a DNS name
	maxAliases       = 64
)

// AttachRequest asks for the place of a container that no service has on an
// attachable network.
type AttachRequest struct {
	Network string     `json:"Network"` // id, name or the beginning of an id
	NodeID  string     `json:"NodeID"`
	Name    string     `json:"Name"` // of the container
	Aliases []string   `json:"Aliases,omitempty"`
	Addr    netip.Addr `json:"Addr,omitzero"` // wanted; zero: any
}

// Attachment is such a place.
type Attachment struct {
	ID        string         `json:"ID"`
	NodeID    string         `json:"NodeID"`
	Name      string         `json:"Name"`
	NetworkID string         `json:"NetworkID"`
	Network   string         `json:"Network"` // name
	VNI       uint32         `json:"VNI"`
	Internal  bool           `json:"Internal"`
	Addrs     []netip.Prefix `json:"Addrs"` // with the length of their subnets
	Gateway   netip.Addr     `json:"Gateway,omitzero"`
	CreatedAt time.Time      `json:"CreatedAt"`
}

// RandomName is what a container is called that was given no name: as an engine
// would call it, but known before it is made.
func RandomName() string { return namesgenerator.GetRandomName(1) }

func presentAttachment(a *state.Attachment, n *state.Network) Attachment {
	out := Attachment{ID: a.ID, NodeID: a.NodeID, Name: a.Name, NetworkID: a.NetworkID, Addrs: a.Addrs, CreatedAt: a.CreatedAt}
	if n != nil {
		out.Network, out.VNI, out.Internal = n.Spec.Name, n.VNI, n.Spec.Internal
		if len(n.Pools) > 0 {
			out.Gateway = n.Pools[0].Gateway
		}
	}
	return out
}

func (a *API) listAttachments(w http.ResponseWriter, r *http.Request) error {
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	nodeID := r.URL.Query().Get("node")
	all := v.Attachments()
	if nodeID != "" {
		all = v.AttachmentsOfNode(nodeID)
	}
	return writeList(w, func(yield func(Attachment) bool) {
		for at := range all {
			if !yield(presentAttachment(at, v.Network(at.NetworkID))) {
				return
			}
		}
	})
}

func (a *API) attach(w http.ResponseWriter, r *http.Request) error {
	var request AttachRequest
	body, err := readJSON(w, r, &request)
	if err != nil {
		return err
	}
	if err := checkAttach(request); err != nil {
		return err
	}
	attachmentID, now := id.New(), time.Now().UTC()
	out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
		at, n, err := planAttach(v, attachmentID, request)
		if err != nil {
			return nil, outcome{}, err
		}
		shown := presentAttachment(at, n)
		shown.CreatedAt = now
		answer, err := encode(shown)
		return []state.Change{state.Put(at)}, outcome{http.StatusCreated, answer}, err
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

func checkAttach(r AttachRequest) error {
	switch {
	case r.Network == "":
		return invalid("invalid Network: it is empty")
	case r.NodeID == "":
		return invalid("invalid NodeID: it is empty")
	case r.Name == "" || len(r.Name) > maxContainerName:
		return invalid("invalid Name: %q, 1 to %d characters are allowed", r.Name, maxContainerName)
	case len(r.Aliases) > maxAliases:
		return invalid("invalid Aliases: %d of them, at most %d are allowed", len(r.Aliases), maxAliases)
	case r.Addr.IsValid() && !r.Addr.Is4():
		return invalid("invalid Addr: %s, an IPv4 address can be asked for", r.Addr)
	}
	for i, alias := range r.Aliases {
		if alias == "" || len(alias) > maxContainerName {
			return invalid("invalid Aliases[%d]: %q, 1 to %d characters are allowed", i, alias, maxContainerName)
		}
	}
	return nil
}

// planAttach gives a container an address of each family of the network.
func planAttach(v *state.View, attachmentID string, r AttachRequest) (*state.Attachment, *state.Network, error) {
	n, err := findNetwork(v, r.Network)
	if err != nil {
		return nil, nil, err
	}
	if v.Node(r.NodeID) == nil {
		return nil, nil, notFound("node", r.NodeID)
	}
	if !n.Spec.Attachable {
		return nil, nil, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(
			"Could not attach to network %s: rpc error: code = PermissionDenied desc = network %s not manually attachable", r.Network, n.Spec.Name))
	}
	at := &state.Attachment{ID: attachmentID, NetworkID: n.ID, NodeID: r.NodeID, Name: r.Name, Aliases: r.Aliases}
	for _, p := range n.Pools {
		wish := netip.Addr{}
		if p.Subnet.Addr().Is4() {
			wish = r.Addr
		}
		addr, err := allocator.FreeAddr(v, n.Spec.Name, p, wish)
		if err != nil {
			return nil, nil, fmt.Errorf("Could not attach to network %s: %w", r.Network, err) //nolint:staticcheck // the text is Docker's
		}
		at.Addrs = append(at.Addrs, netip.PrefixFrom(addr, p.Subnet.Bits()))
	}
	return at, n, nil
}

func (a *API) detach(w http.ResponseWriter, r *http.Request) error {
	ref, nodeID := r.PathValue("id"), r.URL.Query().Get("node")
	out, err := a.write(r, nil, func(v *state.View) ([]state.Change, outcome, error) {
		at := v.Attachment(ref)
		if at == nil || nodeID != "" && at.NodeID != nodeID {
			return nil, outcome{}, notFound("attachment", ref)
		}
		return []state.Change{state.Delete(state.KindAttachment, at.ID)}, outcome{status: http.StatusOK}, nil
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}
