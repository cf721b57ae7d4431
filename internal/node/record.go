package node

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"shoal/internal/durable"
	"shoal/internal/pki"
)

const recordVersion = 1

// record is what a node remembers of its cluster besides its certificate, so
// that it finds back by itself.
type record struct {
	Version    int           `json:"version"`
	NodeID     string        `json:"nodeID"`
	ClusterID  string        `json:"clusterID"`
	Listen     string        `json:"listen"`    // host:port
	Advertise  string        `json:"advertise"` // host:port
	Asked      *asked        `json:"asked,omitempty"`
	Managers   []pki.Manager `json:"managers"`
	HasLog     bool          `json:"hasLog,omitempty"` // this manager's Raft log holds what it has voted for
	GossipKeys []byte        `json:"gossipKeys"`       // sealed with the data key: JSON of [][]byte
	// TunnelKey is the private key of this node's end of tunnels, sealed with the
	// data key. It is made once for each membership and never leaves the node.
	TunnelKey []byte `json:"tunnelKey,omitempty"`
}

// asked are the addresses that the request to init or join gave; "": none, so
// that the daemon's flags count, or the machine has only one.
type asked struct {
	Listen    string `json:"listen,omitempty"`
	Advertise string `json:"advertise,omitempty"`
}

func loadRecord(path string) (*record, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("%s has format %d, this version of shoal knows %d", path, r.Version, recordVersion)
	}
	if r.NodeID == "" || r.ClusterID == "" || r.Listen == "" || r.Advertise == "" {
		return nil, fmt.Errorf("%s lacks nodeID, clusterID, listen or advertise", path)
	}
	return &r, nil
}

func (r *record) save(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.Write(path, data)
}

func (r *record) sealGossipKeys(key []byte, keys [][]byte) error {
	plain, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	sealer, err := newSealer(key)
	if err != nil {
		return err
	}
	r.GossipKeys = sealer.Seal(nil, nil, plain, []byte(r.ClusterID))
	return nil
}

func (r *record) openGossipKeys(key []byte) (keys [][]byte, err error) {
	sealer, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	plain, err := sealer.Open(nil, nil, r.GossipKeys, []byte(r.ClusterID))
	if err != nil {
		return nil, fmt.Errorf("gossip keys: the data key is not the one that sealed them: %w", err)
	}
	return keys, json.Unmarshal(plain, &keys)
}

// makeTunnelKey makes the node's end of tunnels, unless it is there.
func (r *record) makeTunnelKey(key []byte) error {
	if len(r.TunnelKey) > 0 {
		return nil
	}
	sealer, err := newSealer(key)
	if err != nil {
		return err
	}
	private := make([]byte, 32)
	rand.Read(private)
	r.TunnelKey = sealer.Seal(nil, nil, private, r.tunnelKeyOwner())
	return nil
}

func (r *record) openTunnelKey(key []byte) ([]byte, error) {
	sealer, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	private, err := sealer.Open(nil, nil, r.TunnelKey, r.tunnelKeyOwner())
	if err != nil {
		return nil, fmt.Errorf("tunnel key: the data key is not the one that sealed it: %w", err)
	}
	return private, nil
}

func (r *record) tunnelKeyOwner() []byte { return []byte("tunnel key " + r.ClusterID + "/" + r.NodeID) }

func newSealer(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// makeDataKey makes the key that seals what this node keeps on disk.
func makeDataKey(path string) ([]byte, error) {
	key := make([]byte, 32)
	rand.Read(key)
	return key, durable.Write(path, key)
}

// loadDataKey reads that key. Another one in its place would open nothing.
func loadDataKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, failed("data key %s is missing: what this node has on disk cannot be read without it; restore it from a backup, or run `shoal leave --force` here and join again", path)
	}
	if err == nil && len(key) != 32 {
		err = fmt.Errorf("data key %s has %d bytes, want 32", path, len(key))
	}
	return key, err
}
