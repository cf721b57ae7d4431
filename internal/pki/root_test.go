package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/id"
)

func TestRootIsAnAuthorityForTwentyYears(t *testing.T) {
	now := time.Now()
	root := newRoot(t)
	if root.Cert.Subject.CommonName != "shoal-ca" || !root.Cert.IsCA {
		t.Errorf("root is %q, CA %v", root.Cert.Subject.CommonName, root.Cert.IsCA)
	}
	if left := root.Cert.NotAfter.Sub(now); left < 19*365*24*time.Hour {
		t.Errorf("root expires in %s", left)
	}
	again, err := ParseRoot(root.CertPEM, root.KeyPEM)
	if err != nil || !again.Cert.Equal(root.Cert) {
		t.Errorf("ParseRoot of what NewRoot made: %v", err)
	}
}

func TestParseRootRefuses(t *testing.T) {
	root, other := newRoot(t), newRoot(t)
	leafKey, leaf := issue(t, root, manager, time.Now())
	for name, c := range map[string]struct{ cert, key []byte }{
		"nothing":             {nil, nil},
		"no PEM":              {[]byte("x"), root.KeyPEM},
		"two certificates":    {slices.Concat(root.CertPEM, other.CertPEM), root.KeyPEM},
		"key of another root": {root.CertPEM, other.KeyPEM},
		"no key":              {root.CertPEM, nil},
		"key is certificate":  {root.CertPEM, root.CertPEM},
		"no authority":        {leaf, leafKey},
	} {
		if _, err := ParseRoot(c.cert, c.key); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: err %v, want invalid argument", name, err)
		}
	}
}

func TestSignGivesExactlyTheIdentityAsked(t *testing.T) {
	root, now := newRoot(t), time.Now()
	for _, want := range []Identity{manager, worker, client} {
		_, certPEM := issue(t, root, want, now)
		cert, err := ParseCert(certPEM)
		if err != nil {
			t.Fatal(err)
		}
		got, err := IdentityOf(cert)
		if err != nil || got != want {
			t.Errorf("IdentityOf = %v, %v, want %v", got, err, want)
		}
		names := []string{"shoal-" + string(want.Role), want.NodeID}
		if !slices.Equal(cert.DNSNames, names) {
			t.Errorf("names %v, want %v", cert.DNSNames, names)
		}
		if since := now.Sub(cert.NotBefore); since < time.Hour || since > time.Hour+time.Minute {
			t.Errorf("backdated by %s, want 1h", since)
		}
		if left := cert.NotAfter.Sub(now); left > DefaultValidity || left < DefaultValidity-time.Minute {
			t.Errorf("valid for %s, want %s", left, DefaultValidity)
		}
		if cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign != 0 {
			t.Error("a node certificate may sign others")
		}
	}
}

func TestSignIgnoresTheNameInTheRequest(t *testing.T) {
	root := newRoot(t)
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	forged := &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "m1", OrganizationalUnit: []string{"shoal-manager"}, Organization: []string{"c1"}},
		DNSNames: []string{"shoal-manager"},
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, forged, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})
	certPEM, err := root.Sign(csr, worker, DefaultValidity, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := ParseCert(certPEM)
	if got, err := IdentityOf(cert); got != worker || err != nil {
		t.Errorf("identity %v, %v, want %v", got, err, worker)
	}
	if slices.Contains(cert.DNSNames, "shoal-manager") {
		t.Errorf("names %v taken from the request", cert.DNSNames)
	}
}

func TestSignRefuses(t *testing.T) {
	root := newRoot(t)
	_, good, _ := NewKeyAndCSR()
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	edDER, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, edKey)
	ed := pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: edDER})
	for name, c := range map[string]struct {
		csr      []byte
		identity Identity
		validity time.Duration
		want     string
	}{
		"no csr":        {nil, worker, DefaultValidity, "csr: want exactly one PEM block"},
		"torn csr":      {tear(good), worker, DefaultValidity, "csr: "},
		"other key":     {ed, worker, DefaultValidity, "csr: key must be ECDSA P-256"},
		"no node id":    {good, Identity{Role: RoleWorker, ClusterID: "c1"}, DefaultValidity, "without a node id"},
		"no cluster":    {good, Identity{Role: RoleWorker, NodeID: "w1"}, DefaultValidity, "without a cluster id"},
		"unknown role":  {good, Identity{"w1", "root", "c1"}, DefaultValidity, `role "root"`},
		"short of life": {good, worker, time.Minute, "below 1h0m0s"},
	} {
		_, err := root.Sign(c.csr, c.identity, c.validity, time.Now())
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err %v, want invalid argument with %q", name, err, c.want)
		}
	}
}

// tear flips bits in the signature of a PEM block.
func tear(data []byte) []byte {
	block, _ := pem.Decode(data)
	block.Bytes[len(block.Bytes)-3] ^= 0xff
	return pem.EncodeToMemory(block)
}

func TestSignNeverOutlivesTheRoot(t *testing.T) {
	root := newRoot(t)
	_, csr, _ := NewKeyAndCSR()
	certPEM, err := root.Sign(csr, worker, DefaultValidity, root.Cert.NotAfter.Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if cert, _ := ParseCert(certPEM); cert.NotAfter.After(root.Cert.NotAfter) {
		t.Errorf("certificate until %s, root until %s", cert.NotAfter, root.Cert.NotAfter)
	}
}

func TestIdentityOfIsStrict(t *testing.T) {
	for name, subject := range map[string]pkix.Name{
		"nothing":       {},
		"two units":     {CommonName: "n", Organization: []string{"c"}, OrganizationalUnit: []string{"shoal-worker", "shoal-manager"}},
		"two clusters":  {CommonName: "n", Organization: []string{"c", "d"}, OrganizationalUnit: []string{"shoal-worker"}},
		"no cluster":    {CommonName: "n", OrganizationalUnit: []string{"shoal-worker"}},
		"empty cluster": {CommonName: "n", Organization: []string{""}, OrganizationalUnit: []string{"shoal-worker"}},
		"no node":       {Organization: []string{"c"}, OrganizationalUnit: []string{"shoal-worker"}},
		"bare role":     {CommonName: "n", Organization: []string{"c"}, OrganizationalUnit: []string{"worker"}},
		"of Swarm":      {CommonName: "n", Organization: []string{"c"}, OrganizationalUnit: []string{"swarm-worker"}},
		"unknown role":  {CommonName: "n", Organization: []string{"c"}, OrganizationalUnit: []string{"shoal-ca"}},
	} {
		got, err := IdentityOf(&x509.Certificate{Subject: subject})
		if !errdefs.IsPermissionDenied(err) || got != (Identity{}) {
			t.Errorf("%s: %v, %v, want permission denied", name, got, err)
		}
	}
}

func TestNodeIDFollowsFromTheKey(t *testing.T) {
	keyPEM, csr, _ := NewKeyAndCSR()
	_, other, _ := NewKeyAndCSR()
	keys, _ := parseKeys(keyPEM)
	again, _ := newCSR(keys[0])
	idOf := func(csr []byte) string {
		public, err := ParseCSR(csr)
		if err != nil {
			t.Fatal(err)
		}
		got, err := NodeIDOf(public)
		if err != nil || !id.Valid(got) {
			t.Fatalf("NodeIDOf = %q, %v", got, err)
		}
		return got
	}
	if idOf(csr) != idOf(again) {
		t.Error("two requests with one key have two ids")
	}
	if idOf(csr) == idOf(other) {
		t.Error("two keys have one id")
	}
}
