package pki

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// handshake runs both ends over a pipe and returns what each made of it.
func handshake(t *testing.T, server, client *tls.Config) (cs tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan error, 1)
	s := tls.Server(a, server)
	go func() {
		defer a.Close()
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x")) // flushes tickets too
		}
		done <- err
	}()
	c := tls.Client(b, client)
	clientErr = c.HandshakeContext(t.Context())
	if clientErr == nil {
		// In TLS 1.3 a client learns only here that it was refused.
		_, clientErr = io.ReadFull(c, make([]byte, 1))
	}
	b.Close()
	serverErr = <-done
	return s.ConnectionState(), serverErr, clientErr
}

func TestHandshakeMatrix(t *testing.T) {
	root, foreign := newRoot(t), newRoot(t)
	server := newCredential(t, root, manager)
	otherCluster := Identity{"w1", RoleWorker, "c2"}
	old := time.Now().Add(-100 * 24 * time.Hour)
	soon := time.Now().Add(3 * time.Hour)
	self := newCredential(t, foreign, worker)
	for _, c := range []struct {
		name   string
		caller *Credential
		want   string // error on the server; empty: accepted
	}{
		{"worker", newCredential(t, root, worker), ""},
		{"manager", newCredential(t, root, Identity{"m2", RoleManager, "c1"}), ""},
		{"client", newCredential(t, root, client), ""},
		{"of another root", self, "unknown authority"},
		{"of another cluster", newCredential(t, root, otherCluster), "is of cluster c2, not c1"},
		{"expired", newCredentialAt(t, root, worker, "", old), "is after"},
		{"not yet valid", newCredentialAt(t, root, worker, "", soon), "is before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			calling := ClientTLS(Client{Credential: server, Protocols: []string{"h2"}})
			calling.GetClientCertificate = c.caller.GetClientCertificate // trusts the server, shows its own
			cs, serverErr, _ := handshake(t, ServerTLS(Server{Credential: server, Protocols: []string{"h2"}}), calling)
			if c.want == "" {
				peer, err := PeerIdentity(cs)
				if serverErr != nil || err != nil || peer != c.caller.Identity() {
					t.Errorf("peer %v, %v, handshake: %v", peer, err, serverErr)
				}
				return
			}
			if serverErr == nil || !strings.Contains(serverErr.Error(), c.want) {
				t.Errorf("err %v, want %q", serverErr, c.want)
			}
		})
	}
}

func TestServerWithoutClientCertificate(t *testing.T) {
	server := newCredential(t, newRoot(t), manager)
	config := ServerTLS(Server{
		Credential: server, Protocols: []string{"h2", JoinProtocol}, Anonymous: []string{JoinProtocol},
	})
	for _, c := range []struct {
		protocols []string
		accepted  bool
	}{
		{[]string{JoinProtocol}, true},
		{[]string{"h2"}, false},
		{[]string{JoinProtocol, "h2"}, false}, // the server's preference decides
		{nil, false},
	} {
		calling := ClientTLS(Client{Credential: server, Protocols: c.protocols})
		calling.GetClientCertificate = nil
		_, serverErr, clientErr := handshake(t, config, calling)
		if accepted := serverErr == nil && clientErr == nil; accepted != c.accepted {
			t.Errorf("ALPN %v: server %v, client %v, want accepted %v", c.protocols, serverErr, clientErr, c.accepted)
		}
		if !c.accepted && !errdefs.IsUnauthorized(serverErr) {
			t.Errorf("ALPN %v: err %v, want unauthenticated", c.protocols, serverErr)
		}
	}
}

func TestServerAllowDecidesPerProtocol(t *testing.T) {
	root := newRoot(t)
	server := newCredential(t, root, manager)
	removed := errdefs.ErrPermissionDenied.WithMessage("node was removed")
	config := ServerTLS(Server{
		Credential: server, Protocols: []string{"shoal-raft/1", "h2"},
		Allow: func(peer Identity, protocol string) error {
			if protocol == "shoal-raft/1" && peer.Role != RoleManager {
				return removed
			}
			return nil
		},
	})
	caller := newCredential(t, root, worker)
	for protocol, want := range map[string]error{"h2": nil, "shoal-raft/1": removed} {
		_, serverErr, _ := handshake(t, config, ClientTLS(Client{Credential: caller, Protocols: []string{protocol}}))
		if !errors.Is(serverErr, want) {
			t.Errorf("%s: err %v, want %v", protocol, serverErr, want)
		}
	}
}

func TestClientChecksWhomItReached(t *testing.T) {
	root := newRoot(t)
	caller := newCredential(t, root, worker)
	for _, c := range []struct {
		name   string
		server *Credential
		client Client
		want   string
	}{
		{"any", newCredential(t, root, worker), Client{}, ""},
		{"role fits", newCredential(t, root, manager), Client{Roles: []Role{RoleManager}}, ""},
		{"node fits", newCredential(t, root, manager), Client{NodeID: "m1"}, ""},
		{"worker plays manager", newCredential(t, root, worker), Client{Roles: []Role{RoleManager}}, "want role [manager]"},
		{"another node", newCredential(t, root, manager), Client{NodeID: "m2"}, "want node m2"},
		{"another root", newCredential(t, newRoot(t), manager), Client{}, "unknown authority"},
		{"another cluster", newCredential(t, root, Identity{"m1", RoleManager, "c2"}), Client{}, "is of cluster c2"},
		{"client plays server", newCredential(t, root, client), Client{}, "incompatible key usage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.client.Credential = caller
			server := ServerTLS(Server{Credential: c.server, Anonymous: []string{""}})
			_, _, err := handshake(t, server, ClientTLS(c.client))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("err %v, want %q", err, c.want)
			}
		})
	}
}

func TestOlderTLSIsRefused(t *testing.T) {
	root := newRoot(t)
	calling := ClientTLS(Client{Credential: newCredential(t, root, worker)})
	calling.MinVersion, calling.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	_, err, _ := handshake(t, ServerTLS(Server{Credential: newCredential(t, root, manager)}), calling)
	if err == nil || !strings.Contains(err.Error(), "unsupported versions") {
		t.Errorf("err %v, want unsupported versions", err)
	}
}

func TestReplaceReachesTheNextHandshake(t *testing.T) {
	root := newRoot(t)
	server, caller := newCredential(t, root, manager), newCredential(t, root, worker)
	serving := ServerTLS(Server{Credential: server})
	calling := ClientTLS(Client{Credential: caller})
	keyPEM, certPEM := issue(t, root, Identity{"w1", RoleManager, "c1"}, time.Now())
	if err := caller.Replace(keyPEM, certPEM); err != nil {
		t.Fatal(err)
	}
	cs, err, _ := handshake(t, serving, calling)
	peer, idErr := PeerIdentity(cs)
	if err = errors.Join(err, idErr); err != nil || peer.Role != RoleManager {
		t.Errorf("server sees %v, %v, want the promoted node", peer, err)
	}
}

func TestPeerIdentityWithoutCertificate(t *testing.T) {
	if _, err := PeerIdentity(tls.ConnectionState{}); !errdefs.IsUnauthorized(err) {
		t.Errorf("err %v, want unauthenticated", err)
	}
}
