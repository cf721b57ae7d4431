package pki

import (
	"testing"
	"time"
)

func newRoot(t testing.TB) *Root {
	t.Helper()
	root, err := NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// newCredential is a credential in memory.
func newCredential(t testing.TB, root *Root, identity Identity) *Credential {
	t.Helper()
	return newCredentialAt(t, root, identity, "", time.Now())
}

func newCredentialAt(t testing.TB, root *Root, identity Identity, dir string, now time.Time) *Credential {
	t.Helper()
	keyPEM, certPEM := issue(t, root, identity, now)
	c, err := NewCredential(dir, keyPEM, certPEM, root.CertPEM)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func issue(t testing.TB, root *Root, identity Identity, now time.Time) (keyPEM, certPEM []byte) {
	t.Helper()
	keyPEM, csrPEM, err := NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, err = root.Sign(csrPEM, identity, DefaultValidity, now)
	if err != nil {
		t.Fatal(err)
	}
	return keyPEM, certPEM
}

var (
	manager = Identity{NodeID: "m1", Role: RoleManager, ClusterID: "c1"}
	worker  = Identity{NodeID: "w1", Role: RoleWorker, ClusterID: "c1"}
	client  = Identity{NodeID: "alice", Role: RoleClient, ClusterID: "c1"}
)
