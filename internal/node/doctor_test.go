package node

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shoal/internal/pki"
	"shoal/overlay/check"
)

// requestAs is a request of whoever has this certificate; nil: of nobody known.
func requestAs(t *testing.T, peer *pki.Credential, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, path, body)
	r.TLS = nil
	if peer == nil {
		return r
	}
	cert, err := peer.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	return r
}

// TestExamineByIdentity is this call's row of the matrix of RPCs and identities:
// it is the one that workers answer too.
func TestExamineByIdentity(t *testing.T) {
	h := newHall(t)
	n := testNode(t)
	n.engine = newEngineProxy(n.cfg)
	n.cfg.GossipPort = 0 // 0 is always free
	m := newMember(n, &record{NodeID: "w1", Listen: "0.0.0.0:0", Advertise: "127.0.0.1:2377"}, nil)
	call := func(peer *pki.Credential, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		m.examine(w, requestAs(t, peer, http.MethodPost, check.Path, strings.NewReader(body)))
		return w
	}
	for role, want := range map[pki.Role]int{pki.RoleManager: http.StatusOK, pki.RoleWorker: http.StatusForbidden, pki.RoleClient: http.StatusForbidden} {
		if got := call(h.credential("x", role), "{}").Code; got != want {
			t.Errorf("as %s: %d, want %d", role, got, want)
		}
	}
	if got := call(nil, "{}").Code; got != http.StatusUnauthorized {
		t.Errorf("without a certificate: %d", got)
	}
	if got := call(h.credential("m1", pki.RoleManager), "no JSON").Code; got != http.StatusBadRequest {
		t.Errorf("no JSON: %d", got)
	}
	var report check.Report // of a worker: m has no manager
	if err := json.NewDecoder(call(h.credential("m1", pki.RoleManager), "{}").Body).Decode(&report); err != nil || report.NodeID != "w1" || len(report.Findings) == 0 {
		t.Errorf("report of %q with %d findings, %v", report.NodeID, len(report.Findings), err)
	}
}
