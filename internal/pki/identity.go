// Package pki makes and checks what the nodes of a cluster prove themselves
// with: the root certificate, node certificates, join tokens, and the TLS
// settings that use them. It also holds the node's end of joining and of
// renewal; manager/ca is the other end.
//
// A certificate names its node (CN), the node's role (OU, "shoal-" and the
// role) and the cluster (O). Host names mean nothing here: peers are checked
// by root, cluster, role and node id only.
package pki

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Role is what the holder of a certificate may do.
type Role string

// The roles. A client is a user of the API over TCP, never a node.
const (
	RoleManager Role = "manager"
	RoleWorker  Role = "worker"
	RoleClient  Role = "client"
)

// rolePrefix keeps the names in certificates apart from those of other
// systems, Docker Swarm's "swarm-manager" first of all.
const rolePrefix = "shoal-"

// Identity is who a certificate says its holder is.
type Identity struct {
	NodeID    string // for a client: its name
	Role      Role
	ClusterID string
}

// String is for logs and messages: "worker abc".
func (i Identity) String() string { return string(i.Role) + " " + i.NodeID }

func (r Role) valid() bool {
	return r == RoleManager || r == RoleWorker || r == RoleClient
}

func (i Identity) validate() error {
	switch {
	case i.NodeID == "":
		return fmt.Errorf("identity without a node id: %w", errdefs.ErrInvalidArgument)
	case i.ClusterID == "":
		return fmt.Errorf("identity without a cluster id: %w", errdefs.ErrInvalidArgument)
	case !i.Role.valid():
		return fmt.Errorf("identity with role %q, allowed are manager, worker and client: %w", i.Role, errdefs.ErrInvalidArgument)
	}
	return nil
}

// IdentityOf reads the identity out of a certificate. It refuses anything but
// exactly one organization and one unit: a certificate that could be read in
// two ways must not be read at all. The chain is not its business.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	name := cert.Subject
	if len(name.OrganizationalUnit) != 1 || len(name.Organization) != 1 {
		return Identity{}, fmt.Errorf("certificate of %q has %d units and %d organizations, want one of each: %w",
			name.CommonName, len(name.OrganizationalUnit), len(name.Organization), errdefs.ErrPermissionDenied)
	}
	role, ok := strings.CutPrefix(name.OrganizationalUnit[0], rolePrefix)
	identity := Identity{NodeID: name.CommonName, Role: Role(role), ClusterID: name.Organization[0]}
	if err := identity.validate(); err != nil || !ok {
		return Identity{}, fmt.Errorf("certificate of %q with unit %q and organization %q names no identity of this system: %w",
			name.CommonName, name.OrganizationalUnit[0], identity.ClusterID, errdefs.ErrPermissionDenied)
	}
	return identity, nil
}
