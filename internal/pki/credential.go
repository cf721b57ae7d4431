package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/durable"
)

// The files of a node directory.
const (
	keyFile  = "node.key"
	certFile = "node.crt"
	rootFile = "ca.crt"
)

// Credential is a node's own certificate and key, and the root that it trusts:
// in memory for every handshake, and in the node's directory. Replace swaps
// both while connections are being made.
//
// node.key may hold two keys: a new key is written in front of the old one
// before its certificate is, so that after a crash between the two writes the
// directory still holds a matching pair.
type Credential struct {
	dir string // empty: memory only

	mu      sync.Mutex
	held    held
	changed chan struct{}
}

// held is one certificate with all that belongs to it. It is never modified.
type held struct {
	identity Identity
	leaf     *x509.Certificate
	root     *x509.Certificate
	key      *ecdsa.PrivateKey
	tls      tls.Certificate
	pool     *x509.CertPool
}

// NewCredential makes a credential from PEM. With a directory it is written
// there, in place of whatever identity the directory held.
func NewCredential(dir string, keyPEM, certPEM, rootPEM []byte) (*Credential, error) {
	next, err := hold(keyPEM, certPEM, rootPEM)
	if err != nil {
		return nil, err
	}
	c := &Credential{dir: dir, held: next, changed: make(chan struct{})}
	if dir == "" {
		return c, nil
	}
	// Without node.crt the directory holds no identity: nothing in between is
	// ever read as one.
	if err := durable.Remove(filepath.Join(dir, certFile)); err != nil {
		return nil, err
	}
	for _, file := range []struct {
		name string
		data []byte
	}{{keyFile, keyPEM}, {rootFile, rootPEM}, {certFile, certPEM}} {
		if err := durable.Write(filepath.Join(dir, file.name), file.data); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// LoadCredential reads a node directory. A directory without an identity is an
// errdefs.ErrNotFound. An expired certificate is loaded: what to do about it
// is for the caller, see Expired.
func LoadCredential(dir string) (*Credential, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, certFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no certificate in %s: %w", dir, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	rootPEM, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return nil, err
	}
	loaded, err := hold(keyPEM, certPEM, rootPEM)
	if err != nil {
		return nil, fmt.Errorf("read certificate in %s: %w", dir, err)
	}
	return &Credential{dir: dir, held: loaded, changed: make(chan struct{})}, nil
}

// Replace takes a renewed certificate and its key, on disk first. The root and
// the node stay; the role may change.
func (c *Credential) Replace(keyPEM, certPEM []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.held
	next, err := hold(keyPEM, certPEM, encodeCert(old.root.Raw))
	if err != nil {
		return fmt.Errorf("replace certificate: %w", err)
	}
	if next.identity.NodeID != old.identity.NodeID || next.identity.ClusterID != old.identity.ClusterID {
		return fmt.Errorf("replace certificate of %s: new one is of %s in cluster %s: %w",
			old.identity, next.identity, next.identity.ClusterID, errdefs.ErrInvalidArgument)
	}
	if err := c.persist(old, keyPEM, certPEM); err != nil {
		return err
	}
	c.held = next
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

func (c *Credential) persist(old held, keyPEM, certPEM []byte) error {
	if c.dir == "" {
		return nil
	}
	oldKey, err := encodeKey(old.key)
	if err != nil {
		return err
	}
	both := append(bytes.Clone(keyPEM), oldKey...)
	if err := durable.Write(filepath.Join(c.dir, keyFile), both); err != nil {
		return err
	}
	if err := durable.Write(filepath.Join(c.dir, certFile), certPEM); err != nil {
		return err
	}
	return durable.Write(filepath.Join(c.dir, keyFile), keyPEM)
}

func hold(keyPEM, certPEM, rootPEM []byte) (held, error) {
	leaf, err := ParseCert(certPEM)
	if err != nil {
		return held{}, fmt.Errorf("node certificate: %w", err)
	}
	root, err := ParseCert(rootPEM)
	if err != nil {
		return held{}, fmt.Errorf("root certificate: %w", err)
	}
	if err := leaf.CheckSignatureFrom(root); err != nil {
		return held{}, fmt.Errorf("node certificate is not signed by the root certificate: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	identity, err := IdentityOf(leaf)
	if err != nil {
		return held{}, err
	}
	keys, err := parseKeys(keyPEM)
	if err != nil {
		return held{}, fmt.Errorf("node key: %w", err)
	}
	for _, key := range keys {
		if key.PublicKey.Equal(leaf.PublicKey) {
			pool := x509.NewCertPool()
			pool.AddCert(root)
			// The root goes along, for joining nodes to compare with their token.
			chain := tls.Certificate{Certificate: [][]byte{leaf.Raw, root.Raw}, PrivateKey: key, Leaf: leaf}
			return held{identity, leaf, root, key, chain, pool}, nil
		}
	}
	return held{}, fmt.Errorf("node key does not belong to the node certificate: %w", errdefs.ErrInvalidArgument)
}

func (c *Credential) now() held {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// Identity is who this node is now.
func (c *Credential) Identity() Identity { return c.now().identity }

// Leaf is the certificate in use. It must not be modified.
func (c *Credential) Leaf() *x509.Certificate { return c.now().leaf }

// CertPEM is the certificate in use, in PEM.
func (c *Credential) CertPEM() []byte { return encodeCert(c.now().leaf.Raw) }

// RootPEM is the root certificate that this node trusts.
func (c *Credential) RootPEM() []byte { return encodeCert(c.now().root.Raw) }

// Expired reports whether the certificate in use has run out.
func (c *Credential) Expired(now time.Time) bool { return now.After(c.now().leaf.NotAfter) }

// Changed is closed when the certificate has been replaced; take it before
// reading.
func (c *Credential) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// CSR asks for a certificate for the key in use: to join again under the same
// node id.
func (c *Credential) CSR() ([]byte, error) { return newCSR(c.now().key) }

// KeyPEM is the private key in use. It must stay on this node.
func (c *Credential) KeyPEM() ([]byte, error) { return encodeKey(c.now().key) }

// GetCertificate is for tls.Config: the newest certificate for each handshake.
func (c *Credential) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	held := c.now()
	return &held.tls, nil
}

// GetClientCertificate is for tls.Config on the calling side.
func (c *Credential) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	held := c.now()
	return &held.tls, nil
}
