package node

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"shoal/internal/pki"
)

func TestRecordReadsBackAndHidesItsKeys(t *testing.T) {
	dir := t.TempDir()
	key, err := makeDataKey(filepath.Join(dir, "data.key"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadDataKey(filepath.Join(dir, "data.key"))
	if err != nil || !bytes.Equal(key, again) {
		t.Fatalf("the data key changed: %v", err)
	}
	secret := bytes.Repeat([]byte("canary42"), 4)
	r := &record{Version: recordVersion, NodeID: "n1", ClusterID: "c1", Listen: "0.0.0.0:2377", Advertise: "10.0.0.1:2377", Managers: []pki.Manager{{NodeID: "n1", Addr: "10.0.0.1:2377"}}}
	if err := r.sealGossipKeys(key, [][]byte{secret}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node.json")
	if err := r.save(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || bytes.Contains(data, secret) || bytes.Contains(data, []byte("Y2FuYXJ5")) {
		t.Errorf("the file holds a gossip key in the clear, or %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
	got, err := loadRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := got.openGossipKeys(key)
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0], secret) {
		t.Errorf("keys %v, %v", keys, err)
	}
	if _, err := got.openGossipKeys(make([]byte, 32)); err == nil {
		t.Error("another data key opens the gossip keys")
	}
	if err := got.makeTunnelKey(key); err != nil {
		t.Fatal(err)
	}
	sealed := bytes.Clone(got.TunnelKey)
	if err := got.makeTunnelKey(key); err != nil || !bytes.Equal(sealed, got.TunnelKey) {
		t.Errorf("the tunnel key was made again, or %v", err)
	}
	if private, err := got.openTunnelKey(key); err != nil || len(private) != 32 || bytes.Contains(got.TunnelKey, private) {
		t.Errorf("a tunnel key of %d bytes, %v, sealed as %x", len(private), err, got.TunnelKey)
	}
	if _, err := got.openTunnelKey(make([]byte, 32)); err == nil {
		t.Error("another data key opens the tunnel key")
	}
	got.ClusterID = "c2"
	if _, err := got.openTunnelKey(key); err == nil {
		t.Error("the tunnel key of one cluster opens as that of another")
	}
	if _, err := got.openGossipKeys(key); err == nil {
		t.Error("keys of one cluster open as those of another")
	}
}

func TestLoadRecordRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := loadRecord(filepath.Join(dir, "none")); !errdefs.IsNotFound(err) {
		t.Errorf("no file: %v, want not found", err)
	}
	for name, text := range map[string]string{"damaged": "{", "later": `{"version":2}`, "no version": `{}`} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadRecord(path); err == nil || errdefs.IsNotFound(err) {
			t.Errorf("%s: %v, want an error that is not «not found»", name, err)
		}
	}
	path := filepath.Join(dir, "short.key")
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadDataKey(path); err == nil {
		t.Error("a data key of 5 bytes was taken")
	}
}
