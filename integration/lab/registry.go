package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// RegistryPort is where a registry of a lab listens.
const RegistryPort = "5000"

// Registry is a Docker registry on a host: TLS under a root of its own, which
// the engines of all hosts trust, and one user with a password.
type Registry struct {
	*Process
	Addr string // host:port, the first part of its images' names
	dir  string
}

// StartRegistry starts Debian's docker-registry on h for a user, whose password
// is known by its bcrypt hash.
func (h *Host) StartRegistry(ctx context.Context, user, hash string) (*Registry, error) {
	r := &Registry{Addr: net.JoinHostPort(h.Addr, RegistryPort), dir: filepath.Join(h.Dir, "registry")}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, err
	}
	root, err := r.certify(h.Addr)
	if err != nil {
		return nil, err
	}
	for _, host := range h.lab.hosts {
		trusted := filepath.Join(host.Dir, "etc", "certs.d", r.Addr) // /etc/docker there
		if err := os.MkdirAll(trusted, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(trusted, "ca.crt"), root, 0o644); err != nil {
			return nil, err
		}
	}
	if err := r.SetPassword(user, hash); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`version: 0.1
log: {level: info}
storage:
  filesystem: {rootdirectory: %q}
http:
  addr: %q
  tls: {certificate: %q, key: %q}
auth:
  htpasswd: {realm: lab, path: %q}
`, r.path("data"), r.Addr, r.path("cert.pem"), r.path("key.pem"), r.path("htpasswd"))
	if err := os.WriteFile(r.path("config.yml"), []byte(config), 0o644); err != nil {
		return nil, err
	}
	if r.Process, err = h.Start(ctx, "registry", "docker-registry", "serve", r.path("config.yml")); err != nil {
		return nil, err
	}
	return r, r.await(ctx)
}

func (r *Registry) path(name string) string { return filepath.Join(r.dir, name) }

// SetPassword makes the registry accept a user with another password, and
// nobody else.
func (r *Registry) SetPassword(user, hash string) error {
	return os.WriteFile(r.path("htpasswd"), []byte(user+":"+hash+"\n"), 0o644)
}

// await waits until the registry asks for credentials.
func (r *Registry) await(ctx context.Context) error {
	return poll(ctx, func() (string, bool, error) {
		if !r.Running() {
			return "", false, fmt.Errorf("registry ended: %s", r.Log(2000))
		}
		out, err := r.h.Run(ctx, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", filepath.Join(r.h.Dir, "etc", "certs.d", r.Addr, "ca.crt"), "https://"+r.Addr+"/v2/")
		return fmt.Sprint(out, err), out == fmt.Sprint(http.StatusUnauthorized), nil
	})
}

// certify writes a certificate for an address and its key, and returns the root.
func (r *Registry) certify(addr string) (root []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry of a lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.ParseIP(addr)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyText := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	if err := os.WriteFile(r.path("cert.pem"), cert, 0o644); err != nil {
		return nil, err
	}
	return cert, os.WriteFile(r.path("key.pem"), keyText, 0o600)
}
