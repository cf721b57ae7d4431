package worker

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/durable"
)

const (
	// format opens the file and says how to read the rest: nonce, then the JSON
	// of a memory sealed with AES-256-GCM. It is never reused for another form.
	format   = "shoal-worker/1\n"
	fileName = "assignments"
	// writePause keeps a burst of statuses from becoming a burst of syncs. What
	// is lost in it, the managers and the engine know.
	writePause = time.Second
)

// vault keeps a memory on disk. Specs hold registry credentials, so nothing is
// written in the clear.
type vault struct {
	dir  string
	aead cipher.AEAD
	// owner is bound to the content: a file of another node does not open.
	owner []byte
}

func openVault(dir string, key []byte, clusterID, nodeID string) (*vault, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("worker's key has %d bytes, want 32: %w", len(key), errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("worker's directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory needs the x
		return nil, fmt.Errorf("worker's directory: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("worker's key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("worker's key: %w", err)
	}
	return &vault{dir: dir, aead: aead, owner: []byte(format + clusterID + "/" + nodeID)}, nil
}

func (v *vault) path() string { return filepath.Join(v.dir, fileName) }

func (v *vault) load() (memory, error) {
	raw, err := os.ReadFile(v.path())
	if err != nil {
		return memory{}, err
	}
	start := len(format) + v.aead.NonceSize()
	if len(raw) < start || string(raw[:len(format)]) != format {
		return memory{}, fmt.Errorf("%s is not a file of this worker: %w", v.path(), errdefs.ErrDataLoss)
	}
	text, err := v.aead.Open(nil, raw[len(format):start], raw[start:], v.owner)
	if err != nil {
		return memory{}, fmt.Errorf("open %s: %w: %w", v.path(), errdefs.ErrDataLoss, err)
	}
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return memory{}, fmt.Errorf("read %s: %w: %w", v.path(), errdefs.ErrDataLoss, err)
	}
	return m, nil
}

// save replaces the file: after a crash there is the old one or the new one.
func (v *vault) save(m memory) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode assignments: %w", err)
	}
	nonce := make([]byte, v.aead.NonceSize())
	rand.Read(nonce) // never fails
	sealed := v.aead.Seal(append([]byte(format), nonce...), nonce, text, v.owner)
	if err := durable.Write(v.path(), sealed); err != nil {
		return fmt.Errorf("save assignments: %w", err)
	}
	return nil
}

// remember writes what the worker holds to disk whenever it has changed, and
// once more at the end. A disk that does not take it stops nothing.
func (w *Worker) remember(ctx context.Context) error {
	defer w.saveIfDirty()
	for {
		select {
		case <-w.held.dirty:
			w.save()
		case <-ctx.Done():
			return ctx.Err()
		}
		timer := time.NewTimer(writePause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (w *Worker) saveIfDirty() {
	select {
	case <-w.held.dirty:
		w.save()
	default:
	}
}

func (w *Worker) save() {
	m := w.held.memory()
	m.Fabric = w.network.Known()
	if err := w.vault.save(m); err != nil {
		w.log.Error("assignments are not on disk", "error", err)
		w.held.markDirty()
	}
}
