package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
)

// JoinProtocol is the ALPN name of the door for nodes without a certificate.
const JoinProtocol = "shoal-join/1"

// Server is what ServerTLS needs.
type Server struct {
	Credential *Credential
	Protocols  []string // ALPN, in order of preference
	// Anonymous are the protocols on which a peer without a certificate is let
	// in; its certificate, if any, is not looked at there.
	Anonymous []string
	// Allow, if set, may refuse a peer whose certificate is good: a removed
	// node, a worker that wants to speak Raft.
	Allow func(peer Identity, protocol string) error
}

// ServerTLS is the configuration of the cluster's listener. After a handshake
// PeerIdentity names the peer.
func ServerTLS(s Server) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: s.Credential.GetCertificate,
		NextProtos:     s.Protocols,
		// The peer's certificate is checked in VerifyConnection, which knows
		// the protocol and the root of this moment.
		ClientAuth: tls.RequestClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if slices.Contains(s.Anonymous, cs.NegotiatedProtocol) {
				return nil
			}
			peer, err := s.Credential.verify(cs, x509.ExtKeyUsageClientAuth)
			if err == nil && s.Allow != nil {
				err = s.Allow(peer, cs.NegotiatedProtocol)
			}
			return err
		},
	}
}

// Client is what ClientTLS needs.
type Client struct {
	Credential *Credential
	Protocols  []string // ALPN, in order of preference
	Roles      []Role   // what the other end may be; none: any role
	NodeID     string   // who the other end must be; empty: any node
}

// ClientTLS is the configuration for calling another node. The name or address
// that was dialled plays no part.
func ClientTLS(c Client) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: c.Credential.GetClientCertificate,
		NextProtos:           c.Protocols,
		InsecureSkipVerify:   true, // no host names here: VerifyConnection does all checks
		VerifyConnection: func(cs tls.ConnectionState) error {
			peer, err := c.Credential.verify(cs, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			if len(c.Roles) > 0 && !slices.Contains(c.Roles, peer.Role) {
				return fmt.Errorf("peer is %s, want role %v: %w", peer, c.Roles, errdefs.ErrPermissionDenied)
			}
			if c.NodeID != "" && c.NodeID != peer.NodeID {
				return fmt.Errorf("peer is %s, want node %s: %w", peer, c.NodeID, errdefs.ErrPermissionDenied)
			}
			return nil
		},
	}
}

// verify checks a peer: chain and time, then identity, then cluster.
func (c *Credential) verify(cs tls.ConnectionState, usage x509.ExtKeyUsage) (Identity, error) {
	own := c.now()
	if len(cs.PeerCertificates) == 0 {
		return Identity{}, fmt.Errorf("peer has no certificate: %w", errdefs.ErrUnauthenticated)
	}
	leaf := cs.PeerCertificates[0]
	// The error of an expired certificate names both clocks.
	_, err := leaf.Verify(x509.VerifyOptions{Roots: own.pool, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return Identity{}, fmt.Errorf("certificate of peer %q: %w: %w", leaf.Subject.CommonName, err, errdefs.ErrUnauthenticated)
	}
	peer, err := IdentityOf(leaf)
	if err != nil {
		return Identity{}, err
	}
	if peer.ClusterID != own.identity.ClusterID {
		return Identity{}, fmt.Errorf("peer %s is of cluster %s, not %s: %w",
			peer, peer.ClusterID, own.identity.ClusterID, errdefs.ErrPermissionDenied)
	}
	return peer, nil
}

// PeerIdentity names the other end of a connection that one of the
// configurations here has let through.
func PeerIdentity(cs tls.ConnectionState) (Identity, error) {
	if len(cs.PeerCertificates) == 0 {
		return Identity{}, fmt.Errorf("peer has no certificate: %w", errdefs.ErrUnauthenticated)
	}
	return IdentityOf(cs.PeerCertificates[0])
}
