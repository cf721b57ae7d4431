package ca

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/pki"
)

// ClientPath is where a manager issues certificates for clients.
const ClientPath = "/shoal/v1/certificates"

// ClientRequest asks for a certificate for a user of the API over TCP.
type ClientRequest struct {
	Name string // of the user, for logs
	CSR  []byte // PEM, made with the user's own key
}

// ClientResponse is what such a user needs besides their key.
type ClientResponse struct {
	Certificate []byte // PEM
	RootCert    []byte // PEM
}

// clientName keeps names apart from node ids, which have no dash or dot but are
// 25 characters long: a name is shorter or longer.
var clientName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.@-]{0,63}$`)

// IssueClient makes a certificate with which the Docker API can be used over
// TCP, with the rights of whoever may use a manager's socket.
func (c *CA) IssueClient(_ context.Context, request ClientRequest) (*ClientResponse, error) {
	if !clientName.MatchString(request.Name) {
		return nil, fmt.Errorf("field Name, %q: want 1 to 64 letters, digits, '_', '.', '@' or '-', the first a letter or digit: %w", request.Name, errdefs.ErrInvalidArgument)
	}
	if len(request.CSR) == 0 {
		return nil, fmt.Errorf("field CSR: want a certificate signing request in PEM: %w", errdefs.ErrInvalidArgument)
	}
	cluster := c.store.View().Cluster()
	if cluster == nil {
		return nil, fmt.Errorf("no cluster: %w", errdefs.ErrUnavailable)
	}
	root, err := pki.ParseRoot(cluster.RootCert, cluster.RootKey)
	if err != nil {
		return nil, fmt.Errorf("root of cluster %s: %w", cluster.ID, err)
	}
	validity := cluster.Spec.CAConfig.NodeCertExpiry
	if validity == 0 {
		validity = pki.DefaultValidity
	}
	identity := pki.Identity{NodeID: request.Name, Role: pki.RoleClient, ClusterID: cluster.ID}
	certPEM, err := root.Sign(request.CSR, identity, validity, time.Now())
	if err != nil {
		return nil, fmt.Errorf("field CSR: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	c.log.Info("client certificate issued", "name", request.Name)
	return &ClientResponse{Certificate: certPEM, RootCert: cluster.RootCert}, nil
}

// ClientHandler answers POST ClientPath. Whoever calls it must be allowed to
// use the API already.
func (c *CA) ClientHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request ClientRequest
		if !c.read(w, r, &request) {
			return
		}
		response, err := c.IssueClient(r.Context(), request)
		c.answer(w, response, err)
	})
}
