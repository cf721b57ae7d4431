package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A tcp host is spoken to with a client certificate, Docker's API and shoal's
// own alike; without one nothing is sent.
func TestTCPHostUsesTheCertificates(t *testing.T) {
	ca, cert, key, pair := certificates(t)
	f, l, err := listenFake(filepath.Join(filepath.Dir(ca), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	f.why["web"] = `{"Kind":"service","Name":"web","Cause":"all is well"}`
	pool := x509.NewCertPool()
	pemCA, err := os.ReadFile(ca)
	if err != nil || !pool.AppendCertsFromPEM(pemCA) {
		t.Fatal("no CA", err)
	}
	srv := httptest.NewUnstartedServer(f)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	srv.StartTLS()
	defer srv.Close()
	host := "tcp://" + srv.Listener.Addr().String()
	tlsFlags := []string{"-H", host, "--tlscacert", ca, "--tlscert", cert, "--tlskey", key}
	for line, want := range map[string]string{"node ls -q": "node1xxxxxxxxxxxxxxxxxxxxx\n", "why web --format {{.Cause}}": "all is well\n"} {
		stdout, stderr, code := f.run(t, append(append([]string(nil), tlsFlags...), strings.Fields(line)...)...)
		if code != 0 || stdout != want {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", line, code, stdout, stderr)
		}
	}
	sent := len(f.requests)
	if _, stderr, code := f.run(t, "-H", host, "node", "ls"); code != 1 || len(f.requests) != sent {
		t.Errorf("without certificates: exit %d, stderr %q", code, stderr)
	}
}

// certificates are one self-signed certificate as CA, server and client.
func certificates(t *testing.T) (ca, cert, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER})
	dir, err := os.MkdirTemp("", "shoal-tls") //nolint:usetesting // TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, data := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return cert, cert, key, pair
}
