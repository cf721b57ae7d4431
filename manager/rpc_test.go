package manager

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"shoal/internal/pki"
	"shoal/manager/ca"
	"shoal/worker/assignment"
)

// rpcMatrix says for every internal call which roles may make it. A call that
// has no row here fails the test, so that nobody adds one without a decision.
func rpcMatrix() map[string][]pki.Role {
	nodes := []pki.Role{pki.RoleManager, pki.RoleWorker}
	return map[string][]pki.Role{
		"POST " + assignment.Path: nodes,
		"POST " + pki.RenewPath:   nodes,
		"POST " + pathReport:      {pki.RoleManager},
		"POST " + PathLeave:       nodes,
		"POST " + PathAttach:      nodes,
		"POST " + PathDetach:      nodes,
		"POST " + PathAttachments: nodes,
		pathAPI + "/":             {pki.RoleManager},
	}
}

// seat is a manager that never ran: enough to ask who may call what.
type seat struct {
	manager *Manager
	root    *pki.Root
	cluster string
}

func newSeat(t *testing.T) *seat {
	t.Helper()
	now := time.Now()
	cluster, err := ca.NewCluster(ca.Founding{}, now)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, csrPEM, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	_, certPEM, err := ca.FirstNode(cluster, pki.JoinRequest{CSR: csrPEM, Addr: "127.0.0.1:2377", GossipAddr: "127.0.0.1:7946", Hostname: "n"}, now)
	if err != nil {
		t.Fatal(err)
	}
	credential, err := pki.NewCredential("", keyPEM, certPEM, cluster.RootCert)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Dir: t.TempDir(), Addr: "127.0.0.1:2377", Key: make([]byte, 32), Credential: credential, Raft: listener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.store.Close() })
	root, err := pki.ParseRoot(cluster.RootCert, cluster.RootKey)
	if err != nil {
		t.Fatal(err)
	}
	return &seat{m, root, cluster.ID}
}

// call makes a call with a certificate of this identity; nil: without one.
func (s *seat) call(t *testing.T, method, path string, identity *pki.Identity) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader("not JSON"))
	r.ProtoMajor = 2
	r.TLS = nil
	if identity != nil {
		_, csrPEM, err := pki.NewKeyAndCSR()
		if err != nil {
			t.Fatal(err)
		}
		certPEM, err := s.root.Sign(csrPEM, *identity, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pki.ParseCert(certPEM)
		if err != nil {
			t.Fatal(err)
		}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	}
	w := httptest.NewRecorder()
	s.manager.RPC().ServeHTTP(w, r)
	return w
}

func TestEveryRPCStatesWhoMayCallIt(t *testing.T) {
	s := newSeat(t)
	matrix := rpcMatrix()
	for _, rpc := range s.manager.RPCs() {
		name := strings.TrimSpace(rpc.Method + " " + rpc.Path)
		if _, ok := matrix[name]; !ok {
			t.Errorf("%s has no row in the matrix: decide who may call it", name)
		}
		if len(rpc.Roles) == 0 {
			t.Errorf("%s may be called by nobody", name)
		}
	}
	if len(matrix) != len(s.manager.RPCs()) {
		t.Errorf("the matrix has %d rows (%v) for %d calls", len(matrix), slices.Sorted(maps.Keys(matrix)), len(s.manager.RPCs()))
	}
}

func TestRPCsByIdentity(t *testing.T) {
	s := newSeat(t)
	for name, allowed := range rpcMatrix() {
		method, path, found := strings.Cut(name, " ")
		if !found {
			method, path = http.MethodGet, name+"v1.41/services"
		}
		for _, role := range []pki.Role{pki.RoleManager, pki.RoleWorker, pki.RoleClient} {
			got := s.call(t, method, path, &pki.Identity{NodeID: "n1", Role: role, ClusterID: s.cluster}).Code
			denied := got == http.StatusForbidden || got == http.StatusUnauthorized
			if want := !slices.Contains(allowed, role); denied != want {
				t.Errorf("%s as %s: status %d, denied should be %v", name, role, got, want)
			}
		}
		if got := s.call(t, method, path, nil).Code; got != http.StatusUnauthorized {
			t.Errorf("%s without a certificate: status %d, want 401", name, got)
		}
	}
}

// What the listener would never let through must not get through here either.
func TestRPCsRefuseStrangeCertificates(t *testing.T) {
	s := newSeat(t)
	r := httptest.NewRequest(http.MethodPost, pathReport, nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
	w := httptest.NewRecorder()
	s.manager.RPC().ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("a certificate without an identity: %d", w.Code)
	}
	if got := s.call(t, http.MethodPost, "/rpc/unknown", &pki.Identity{NodeID: "n1", Role: pki.RoleManager, ClusterID: s.cluster}).Code; got != http.StatusNotFound {
		t.Errorf("an unknown call: %d", got)
	}
}

func TestEveryAPIRouteStatesItsRoles(t *testing.T) {
	for _, route := range newSeat(t).manager.api.Routes() {
		if len(route.Roles) == 0 || slices.Contains(route.Roles, string(pki.RoleWorker)) {
			t.Errorf("%s: roles %v: want some, and no worker among them", fmt.Sprint(route.Method, " ", route.Pattern), route.Roles)
		}
	}
}
