package pki

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/durable"
)

func TestCredentialIsLoadedAsWritten(t *testing.T) {
	dir, root := t.TempDir(), newRoot(t)
	written := newCredentialAt(t, root, worker, dir, time.Now())
	loaded, err := LoadCredential(dir)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Identity() != worker || !loaded.Leaf().Equal(written.Leaf()) {
		t.Errorf("loaded %v, want %v", loaded.Identity(), worker)
	}
	if string(loaded.RootPEM()) != string(root.CertPEM) {
		t.Error("root differs")
	}
	for _, name := range []string{"node.key", "node.crt", "ca.crt"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("directory holds %v, want three files", entries)
	}
}

func TestLoadCredentialWithoutOneIsNotFound(t *testing.T) {
	if _, err := LoadCredential(t.TempDir()); !errdefs.IsNotFound(err) {
		t.Errorf("err %v, want not found", err)
	}
}

func TestLoadCredentialRefusesWhatDoesNotBelongTogether(t *testing.T) {
	root, other := newRoot(t), newRoot(t)
	otherKey, otherCert := issue(t, other, worker, time.Now())
	for name, c := range map[string]struct {
		file string
		data []byte
	}{
		"foreign root":        {"ca.crt", other.CertPEM},
		"foreign key":         {"node.key", otherKey},
		"foreign certificate": {"node.crt", otherCert},
		"empty certificate":   {"node.crt", nil},
		"cut key":             {"node.key", otherKey[:40]},
	} {
		dir := t.TempDir()
		newCredentialAt(t, root, worker, dir, time.Now())
		if err := os.WriteFile(filepath.Join(dir, c.file), c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadCredential(dir); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: err %v, want invalid argument", name, err)
		}
	}
}

func TestReplaceSwapsCertificateOnDiskAndInMemory(t *testing.T) {
	dir, root := t.TempDir(), newRoot(t)
	c := newCredentialAt(t, root, worker, dir, time.Now())
	promoted := worker
	promoted.Role = RoleManager
	keyPEM, certPEM := issue(t, root, promoted, time.Now())
	changed := c.Changed()
	if err := c.Replace(keyPEM, certPEM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("Changed is still open")
	}
	served, err := c.GetCertificate(nil)
	if err != nil || !served.Leaf.Equal(c.Leaf()) || c.Identity() != promoted {
		t.Errorf("serves %v, identity %v", served.Leaf.Subject, c.Identity())
	}
	loaded, err := LoadCredential(dir)
	if err != nil || loaded.Identity() != promoted {
		t.Errorf("on disk: %v, %v", loaded, err)
	}
}

func TestReplaceRefuses(t *testing.T) {
	root, other := newRoot(t), newRoot(t)
	c := newCredentialAt(t, root, worker, t.TempDir(), time.Now())
	before := c.Leaf()
	goodKey, _ := issue(t, root, worker, time.Now())
	otherNode := Identity{"w2", RoleWorker, "c1"}
	otherCluster := Identity{"w1", RoleWorker, "c2"}
	for name, issuePair := range map[string]func() (key, cert []byte){
		"another node":    func() ([]byte, []byte) { return issue(t, root, otherNode, time.Now()) },
		"another cluster": func() ([]byte, []byte) { return issue(t, root, otherCluster, time.Now()) },
		"another root":    func() ([]byte, []byte) { return issue(t, other, worker, time.Now()) },
		"another key": func() ([]byte, []byte) {
			_, cert := issue(t, root, worker, time.Now())
			return goodKey, cert
		},
		"nothing": func() ([]byte, []byte) { return nil, nil },
	} {
		keyPEM, certPEM := issuePair()
		if err := c.Replace(keyPEM, certPEM); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: err %v, want invalid argument", name, err)
		}
		if !c.Leaf().Equal(before) {
			t.Fatalf("%s: certificate was swapped", name)
		}
	}
}

// A crash may come between any two of Replace's writes: each state that it can
// leave behind must load.
func TestReplaceSurvivesACrashAtAnyPoint(t *testing.T) {
	dir, root := t.TempDir(), newRoot(t)
	oldKey, oldCert := issue(t, root, worker, time.Now())
	newKey, newCert := issue(t, root, worker, time.Now())
	both := slices.Concat(newKey, oldKey)
	for i, files := range []struct{ key, cert, want []byte }{
		{oldKey, oldCert, oldCert},
		{both, oldCert, oldCert},
		{both, newCert, newCert},
		{newKey, newCert, newCert},
	} {
		for name, data := range map[string][]byte{keyFile: files.key, certFile: files.cert, rootFile: root.CertPEM} {
			if err := durable.Write(filepath.Join(dir, name), data); err != nil {
				t.Fatal(err)
			}
		}
		got, err := LoadCredential(dir)
		if err != nil || string(got.CertPEM()) != string(files.want) {
			t.Errorf("after %d writes: %v", i, err)
		}
	}
}

func TestNewCredentialTakesOverADirectory(t *testing.T) {
	dir, other := t.TempDir(), newRoot(t)
	newCredentialAt(t, newRoot(t), worker, dir, time.Now())
	next := Identity{"m9", RoleManager, "c9"}
	newCredentialAt(t, other, next, dir, time.Now())
	loaded, err := LoadCredential(dir)
	if err != nil || loaded.Identity() != next {
		t.Errorf("loaded %v, %v, want %v", loaded, err, next)
	}
}

func TestExpiredCertificateIsLoadedAndSaysSo(t *testing.T) {
	dir, root := t.TempDir(), newRoot(t)
	newCredentialAt(t, root, worker, dir, time.Now().Add(-100*24*time.Hour))
	c, err := LoadCredential(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Expired(time.Now()) || c.Expired(c.Leaf().NotAfter) {
		t.Error("Expired is wrong about 90 days after 100 days")
	}
}
