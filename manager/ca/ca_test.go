package ca

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/id"
	"shoal/internal/pki"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// fixture is a cluster with one manager and its CA.
type fixture struct {
	*CA
	store   *statetest.Store
	cluster *state.Cluster
	manager *state.Node
	log     *bytes.Buffer
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	cluster, err := NewCluster(Founding{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	manager, _, err := FirstNode(cluster, request(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: statetest.New(cluster, manager), cluster: cluster, manager: manager, log: new(bytes.Buffer)}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.CA, err = New(Config{Store: f.store, Log: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func request(t *testing.T) pki.JoinRequest {
	t.Helper()
	_, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	return pki.JoinRequest{CSR: csr, Addr: "10.0.0.2:2377", GossipAddr: "10.0.0.2:7946", Hostname: "host-2"}
}

func (f *fixture) tokens(t *testing.T) swarm.JoinTokens {
	t.Helper()
	tokens, err := Tokens(f.store.View())
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// somewhere is where a request comes from.
func somewhere(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, last}) }

func identityIn(t *testing.T, certPEM []byte) pki.Identity {
	t.Helper()
	cert, err := pki.ParseCert(certPEM)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := pki.IdentityOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func TestNewClusterHasSwarmsDefaults(t *testing.T) {
	cluster, err := NewCluster(Founding{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	spec := cluster.Spec
	if !id.Valid(cluster.ID) || spec.Name != "default" || *spec.Orchestration.TaskHistoryRetentionLimit != 5 ||
		spec.Raft.SnapshotInterval != 10000 || spec.Raft.ElectionTick != 10 || *spec.Raft.KeepOldSnapshots != 0 ||
		spec.Dispatcher.HeartbeatPeriod != 5*time.Second || spec.CAConfig.NodeCertExpiry != 2160*time.Hour ||
		cluster.SubnetSize != 24 || cluster.DataPathPort != 4789 || cluster.DefaultAddrPool[0] != "10.0.0.0/8" || cluster.MeshPool.String() != "10.252.0.0/14" {
		t.Errorf("cluster is %+v", cluster.ClusterInfo)
	}
	if len(cluster.GossipKeys) != 1 || len(cluster.GossipKeys[0]) != 32 {
		t.Errorf("%d gossip keys", len(cluster.GossipKeys))
	}
	if cluster.TLSInfo.TrustRoot != string(cluster.RootCert) || len(cluster.TLSInfo.CertIssuerSubject) == 0 {
		t.Error("TLS info lacks the root")
	}
}

func TestNewClusterKeepsWhatWasAsked(t *testing.T) {
	history := int64(-1)
	f := Founding{DefaultAddrPool: []string{"10.7.0.0/16"}, SubnetSize: 26, DataPathPort: 7789, MeshPool: "172.16.0.0/16"}
	f.Spec.Orchestration.TaskHistoryRetentionLimit = &history
	f.Spec.CAConfig.NodeCertExpiry = 2 * time.Hour
	f.Spec.Labels = map[string]string{"a": "b"}
	cluster, err := NewCluster(f, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if *cluster.Spec.Orchestration.TaskHistoryRetentionLimit != -1 || cluster.Spec.CAConfig.NodeCertExpiry != 2*time.Hour ||
		cluster.Spec.Labels["a"] != "b" || cluster.SubnetSize != 26 || cluster.DataPathPort != 7789 || cluster.DefaultAddrPool[0] != "10.7.0.0/16" || cluster.MeshPool.String() != "172.16.0.0/16" {
		t.Errorf("cluster is %+v", cluster.ClusterInfo)
	}
	_, certPEM, err := FirstNode(cluster, request(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if cert, _ := pki.ParseCert(certPEM); time.Until(cert.NotAfter) > 2*time.Hour {
		t.Errorf("certificate until %s, asked for 2h", cert.NotAfter)
	}
}

func TestNewClusterRefusesWhatItWouldNotHonour(t *testing.T) {
	for field, config := range map[string]swarm.CAConfig{
		"NodeCertExpiry": {NodeCertExpiry: time.Minute},
		"ExternalCAs":    {ExternalCAs: []*swarm.ExternalCA{{URL: "https://x"}}},
		"SigningCACert":  {SigningCACert: "x"},
		"ForceRotate":    {ForceRotate: 1},
	} {
		_, err := NewCluster(Founding{Spec: swarm.Spec{CAConfig: config}}, time.Now())
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: err %v", field, err)
		}
	}
}

func TestTokensAreTheSameOnEveryManagerAndNotInState(t *testing.T) {
	f := newFixture(t)
	tokens := f.tokens(t)
	again, err := Tokens(statetest.View(f.cluster))
	if err != nil || again != tokens {
		t.Errorf("second manager: %v, %v", again, err)
	}
	if tokens.Worker == tokens.Manager {
		t.Error("one token for both roles")
	}
	entry, err := state.Entry{Updates: [][]state.Change{{state.Put(f.cluster)}}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{tokens.Worker, tokens.Manager} {
		if secret := token[len(token)-25:]; bytes.Contains(entry, []byte(secret)) {
			t.Error("state holds the secret of a token")
		}
	}
	if _, err := Tokens(statetest.View()); !errdefs.IsUnavailable(err) {
		t.Errorf("no cluster: err %v", err)
	}
}

func TestRotateTokensVoidsOnlyTheRolesAsked(t *testing.T) {
	f := newFixture(t)
	before := f.tokens(t)
	if err := f.RotateTokens(t.Context(), pki.RoleWorker); err != nil {
		t.Fatal(err)
	}
	after := f.tokens(t)
	if after.Worker == before.Worker || after.Manager != before.Manager {
		t.Errorf("before %v, after %v", before, after)
	}
	r := request(t)
	for token, want := range map[string]error{before.Worker: pki.ErrTokenRefused, after.Worker: nil} {
		r.Token = token
		if _, err := f.Join(t.Context(), r, somewhere(2)); !errors.Is(err, want) {
			t.Errorf("join: err %v, want %v", err, want)
		}
	}
	if f.cluster.Tokens.Worker.Generation != 1 {
		t.Error("the stored object was modified")
	}
	if err := f.RotateTokens(t.Context(), pki.RoleClient); !errdefs.IsInvalidArgument(err) {
		t.Errorf("token for a client: err %v", err)
	}
}

func TestRenewGivesTheRoleInState(t *testing.T) {
	f := newFixture(t)
	worker := statetest.Node("w1")
	f.store.Put(worker)
	_, csr, _ := pki.NewKeyAndCSR()
	peer := pki.Identity{NodeID: "w1", Role: pki.RoleWorker, ClusterID: f.cluster.ID}
	for _, role := range []swarm.NodeRole{swarm.NodeRoleWorker, swarm.NodeRoleManager, swarm.NodeRoleWorker} {
		next := *worker
		next.Spec.Role = role
		f.store.Put(&next)
		got, err := f.Renew(t.Context(), peer, csr)
		if err != nil || got.Role != pki.Role(role) {
			t.Fatalf("Renew = %v, %v, want role %s", got, err, role)
		}
		want := pki.Identity{NodeID: "w1", Role: pki.Role(role), ClusterID: f.cluster.ID}
		if identity := identityIn(t, got.Certificate); identity != want {
			t.Errorf("certificate of %v, want %v", identity, want)
		}
	}
}

func TestRenewRefuses(t *testing.T) {
	f := newFixture(t)
	f.store.Put(statetest.Node("w1"), statetest.Node("gone"))
	f.store.Apply(state.Delete(state.KindNode, "gone"))
	_, csr, _ := pki.NewKeyAndCSR()
	good := pki.Identity{NodeID: "w1", Role: pki.RoleWorker, ClusterID: f.cluster.ID}
	for name, c := range map[string]struct {
		peer pki.Identity
		csr  []byte
		is   func(error) bool
		want string
	}{
		"removed node":    {pki.Identity{NodeID: "gone", Role: pki.RoleWorker, ClusterID: f.cluster.ID}, csr, errdefs.IsPermissionDenied, "has been removed"},
		"other cluster":   {pki.Identity{NodeID: "w1", Role: pki.RoleWorker, ClusterID: "c2"}, csr, errdefs.IsPermissionDenied, "no node of this cluster"},
		"client":          {pki.Identity{NodeID: "w1", Role: pki.RoleClient, ClusterID: f.cluster.ID}, csr, errdefs.IsPermissionDenied, "no node of this cluster"},
		"no csr":          {good, nil, errdefs.IsInvalidArgument, "csr: "},
		"certificate csr": {good, f.cluster.RootCert, errdefs.IsInvalidArgument, "csr: "},
	} {
		_, err := f.Renew(t.Context(), c.peer, c.csr)
		if !c.is(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err %v, want %q", name, err, c.want)
		}
	}
	empty, err := New(Config{Store: statetest.New()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := empty.Renew(t.Context(), good, csr); !errdefs.IsUnavailable(err) {
		t.Errorf("no cluster: err %v", err)
	}
}

func TestNewNeedsAStore(t *testing.T) {
	if _, err := New(Config{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("err %v", err)
	}
}
