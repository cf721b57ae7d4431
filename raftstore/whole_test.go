package raftstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/raft"
)

func TestBoltFileThatIsCutShortIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), boltFile)
	store, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(50) {
		if err := store.StoreLog(&raft.Log{Index: i + 1, Data: make([]byte, 3000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkWhole(path); err != nil {
		t.Fatalf("a whole file: %v", err)
	}
	for _, size := range []int{len(whole) / 2, 3 * os.Getpagesize(), 2*os.Getpagesize() - 1} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if store, err := openBolt(path); !errdefs.IsDataLoss(err) {
			t.Errorf("%d of %d bytes: %v, want data loss", size, len(whole), err)
			if err == nil {
				store.Close()
			}
		}
		if info, err := os.Stat(path); err != nil || info.Size() != int64(size) {
			t.Errorf("the file was touched: %v, %v", info, err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if store, err = openBolt(path); err != nil {
		t.Fatal(err)
	}
	if last, err := store.LastIndex(); err != nil || last != 50 {
		t.Errorf("last index %d, %v", last, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
