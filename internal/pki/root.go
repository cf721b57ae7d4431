package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/id"
)

const (
	rootName = "shoal-ca"
	rootLife = 20 * 365 * 24 * time.Hour

	// backdate covers clocks of joining nodes that are behind.
	backdate = time.Hour

	// MinValidity is the shortest life of a node certificate, as in Swarm.
	MinValidity = time.Hour
	// DefaultValidity is the life of a node certificate unless the cluster's
	// spec says otherwise.
	DefaultValidity = 90 * 24 * time.Hour

	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	pemRequest     = "CERTIFICATE REQUEST"
)

// Root is the cluster's certificate authority. KeyPEM is the cluster's dearest
// secret: never log a Root.
type Root struct {
	Cert    *x509.Certificate
	CertPEM []byte
	KeyPEM  []byte
	key     *ecdsa.PrivateKey
}

// NewRoot makes a self-signed root.
func NewRoot(now time.Time) (*Root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make root key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: rootName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign root certificate: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return ParseRoot(encodeCert(der), keyPEM)
}

// ParseRoot reads what NewRoot made and checks that the key is the
// certificate's.
func ParseRoot(certPEM, keyPEM []byte) (*Root, error) {
	cert, err := ParseCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	if !cert.IsCA {
		return nil, fmt.Errorf("root certificate %q may not sign others: %w", cert.Subject.CommonName, errdefs.ErrInvalidArgument)
	}
	keys, err := parseKeys(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	if !keys[0].PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("root key does not belong to the root certificate: %w", errdefs.ErrInvalidArgument)
	}
	return &Root{Cert: cert, CertPEM: certPEM, KeyPEM: keyPEM, key: keys[0]}, nil
}

// Sign issues a certificate for the key of a signing request. The identity
// comes from the caller alone: names inside the request are ignored. hosts are
// the addresses and names under which clients reach a node: other nodes do not
// look at them, but a TLS client such as the docker CLI does.
func (r *Root) Sign(csrPEM []byte, identity Identity, validity time.Duration, now time.Time, hosts ...string) ([]byte, error) {
	public, err := ParseCSR(csrPEM)
	if err != nil {
		return nil, err
	}
	if err := identity.validate(); err != nil {
		return nil, err
	}
	if validity < MinValidity {
		return nil, fmt.Errorf("certificate validity %s is below %s: %w", validity, MinValidity, errdefs.ErrInvalidArgument)
	}
	until := now.Add(validity)
	if until.After(r.Cert.NotAfter) {
		until = r.Cert.NotAfter // a leaf that outlives its root would fail without warning
	}
	unit := rolePrefix + string(identity.Role)
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject: pkix.Name{
			CommonName:         identity.NodeID,
			OrganizationalUnit: []string{unit},
			Organization:       []string{identity.ClusterID},
		},
		DNSNames:              []string{unit, identity.NodeID},
		NotBefore:             now.Add(-backdate),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           extUsages(identity.Role),
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, r.Cert, public, r.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", identity, err)
	}
	return encodeCert(der), nil
}

// extUsages lets nodes serve and call; a client only calls.
func extUsages(role Role) []x509.ExtKeyUsage {
	if role == RoleClient {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
}

// NewKeyAndCSR makes a node's key and the request to have it signed. The key
// stays on the node.
func NewKeyAndCSR() (keyPEM, csrPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make node key: %w", err)
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	csrPEM, err = newCSR(key)
	return keyPEM, csrPEM, err
}

func newCSR(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make signing request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), nil
}

// ParseCSR returns the public key of a signing request after checking that
// whoever made it has the private one.
func ParseCSR(csrPEM []byte) (*ecdsa.PublicKey, error) {
	der, err := decodeOne(csrPEM, pemRequest)
	if err != nil {
		return nil, fmt.Errorf("csr: %w", err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("csr: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("csr: signature: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	public, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("csr: key must be ECDSA P-256: %w", errdefs.ErrInvalidArgument)
	}
	return public, nil
}

// NodeIDOf is the id of a node that joins with this key. It follows from the
// key, so that a join whose answer got lost can be sent again without leaving
// a second node behind, and nobody without the key can claim the id.
func NodeIDOf(public *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return id.Base36(sum[:16], id.Length), nil
}

// Digest is the fingerprint of a root certificate in join tokens: SHA-256 of
// its DER form in 50 characters of base 36.
func Digest(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return id.Base36(sum[:], digestLength)
}

// ParseCert reads exactly one PEM certificate.
func ParseCert(certPEM []byte) (*x509.Certificate, error) {
	der, err := decodeOne(certPEM, pemCertificate)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return cert, nil
}

func decodeOne(data []byte, kind string) ([]byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("want exactly one PEM block %q: %w", kind, errdefs.ErrInvalidArgument)
	}
	return block.Bytes, nil
}

// parseKeys reads one or more private keys; see Credential for why a file may
// hold two.
func parseKeys(data []byte) ([]*ecdsa.PrivateKey, error) {
	var keys []*ecdsa.PrivateKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		key, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || key.Curve != elliptic.P256() {
			return nil, fmt.Errorf("private key is not ECDSA P-256: %w", errdefs.ErrInvalidArgument)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no PEM block %q: %w", pemKey, errdefs.ErrInvalidArgument)
	}
	return keys, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
}

func serial() *big.Int {
	raw := make([]byte, 16)
	rand.Read(raw)              // never fails: crypto/rand aborts the program instead
	raw[0] = raw[0]&0x7f | 0x40 // positive, and never zero
	return new(big.Int).SetBytes(raw)
}
