package raftstore

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"pgregory.net/rapid"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

const canary = "canary-in-the-coal-mine"

// sealedManager returns the configuration of a closed store that holds the
// canary in its log and in a snapshot.
func sealedManager(t *testing.T) Config {
	t.Helper()
	m := openManager(t, Config{Dir: t.TempDir(), NodeID: "n1"})
	must(t, m.Bootstrap(t.Context()))
	must(t, m.Update(t.Context(), func(*state.View) ([]state.Change, error) {
		return []state.Change{state.Put(statetest.Node("n1", statetest.Label("secret", canary)))}, nil
	}))
	must(t, m.raft.Load().Snapshot().Error())
	must(t, m.Update(t.Context(), func(*state.View) ([]state.Change, error) {
		return []state.Change{state.Put(statetest.Node("n2", statetest.Label("secret", canary)))}, nil
	}))
	var plain bytes.Buffer
	must(t, m.View().WriteSnapshot(&plain))
	if !bytes.Contains(plain.Bytes(), []byte(canary)) {
		t.Fatal("the canary is not in the state; this test proves nothing")
	}
	must(t, m.Close())
	return m.cfg
}

func TestNothingReadableOnDisk(t *testing.T) {
	t.Parallel()
	cfg := sealedManager(t)
	files := 0
	err := filepath.WalkDir(cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("%s contains the canary", path)
		}
		return err
	})
	must(t, err)
	if files < 3 {
		t.Errorf("only %d files were looked at", files)
	}
}

func TestWrongKeyIsNamed(t *testing.T) {
	t.Parallel()
	cfg := sealedManager(t)
	cfg.Key = bytes.Repeat([]byte{1}, keySize)
	_, wire := raft.NewInmemTransport("n1:2377")
	cfg.Transport = wire
	_, err := Open(cfg)
	if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "data key") {
		t.Errorf("Open = %v", err)
	}
}

func TestDamagedEntryIsNamed(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(*raft.Log){
		"changed":         func(l *raft.Log) { l.Data[len(l.Data)-1] ^= 1 },
		"cut":             func(l *raft.Log) { l.Data = l.Data[:10] },
		"empty":           func(l *raft.Log) { l.Data = nil },
		"of another term": func(l *raft.Log) { l.Term++ },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := sealedManager(t)
			bolt, err := raftboltdb.New(boltOptions(filepath.Join(cfg.Dir, boltFile)))
			must(t, err)
			last, err := bolt.LastIndex()
			must(t, err)
			var l raft.Log
			must(t, bolt.GetLog(last, &l))
			damage(&l)
			must(t, bolt.StoreLog(&l))
			must(t, bolt.Close())
			_, cfg.Transport = raft.NewInmemTransport("n1:2377")
			if _, err = Open(cfg); err == nil || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("Open = %v", err)
			}
		})
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	cfg := sealedManager(t)
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "snapshots", "*", "state.bin"))
	must(t, err)
	for _, f := range files {
		data, err := os.ReadFile(f)
		must(t, err)
		must(t, os.WriteFile(f, data[:len(data)-5], 0o600))
	}
	_, cfg.Transport = raft.NewInmemTransport("n1:2377")
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("Open = %v", err)
	}
}

// What a crash leaves behind while a store is made or a snapshot is written.
func TestHalfMadeFilesAreReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, boltFile+".tmp"), []byte("junk"), 0o600))
	half := filepath.Join(dir, "snapshots", "1-2-3.tmp")
	must(t, os.MkdirAll(half, 0o700))
	m := openManager(t, Config{Dir: dir, NodeID: "n1"})
	must(t, m.Bootstrap(t.Context()))
	must(t, m.Update(t.Context(), put("a")))
	must(t, m.Close())
	for _, path := range []string{half, filepath.Join(dir, boltFile+".tmp")} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

// fileSnapshots keeps one snapshot in memory, as it would be on disk.
type fileSnapshots struct {
	raft.SnapshotStore
	data []byte
	meta raft.SnapshotMeta
}

type fileSink struct {
	bytes.Buffer
	store *fileSnapshots
}

func (s *fileSink) Close() error {
	s.store.data = s.Bytes()
	s.store.meta.Size = int64(s.Len())
	return nil
}
func (s *fileSink) ID() string    { return "x" }
func (s *fileSink) Cancel() error { return nil }

func (f *fileSnapshots) Create(_ raft.SnapshotVersion, index, term uint64, _ raft.Configuration, _ uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	f.meta = raft.SnapshotMeta{Index: index, Term: term}
	return &fileSink{store: f}, nil
}

func (f *fileSnapshots) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return &f.meta, io.NopCloser(bytes.NewReader(f.data)), nil
}

// sealSnapshot writes plain in pieces of the given size.
func sealSnapshot(t tester, key, plain []byte, piece int) (*sealedSnapshots, *fileSnapshots) {
	t.Helper()
	file := &fileSnapshots{}
	s := &sealedSnapshots{file, newSealer(key, "snapshot")}
	sink, err := s.Create(1, 7, 3, raft.Configuration{}, 0, nil)
	must(t, err)
	for rest := plain; len(rest) > 0; {
		n := min(piece, len(rest))
		_, err := sink.Write(rest[:n])
		must(t, err)
		rest = rest[n:]
	}
	must(t, sink.Close())
	return s, file
}

func readSnapshot(s *sealedSnapshots) (plain []byte, size int64, err error) {
	meta, r, err := s.Open("x")
	if err != nil {
		return nil, 0, err
	}
	plain, err = io.ReadAll(r)
	return plain, meta.Size, err
}

func TestSealedSnapshotIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 17}
		n := rapid.SampledFrom(sizes).Draw(t, "size")
		piece := rapid.IntRange(1, 2*chunkSize).Draw(t, "piece")
		plain := bytes.Repeat([]byte("shoal"), n/5+1)[:n]
		s, _ := sealSnapshot(t, testKey(), plain, max(piece, n/100+1))
		got, size, err := readSnapshot(s)
		if err != nil || !bytes.Equal(got, plain) || size != int64(n) {
			t.Fatalf("read %d bytes, size said %d, want %d: %v", len(got), size, n, err)
		}
	})
}

func TestSealedSnapshotCannotBeChanged(t *testing.T) {
	plain := bytes.Repeat([]byte("shoal"), chunkSize) // five chunks and an empty one
	const chunk = chunkSize + tagSize
	for name, change := range map[string]func([]byte) []byte{
		"last chunk gone": func(d []byte) []byte { return d[:snapshotPrefix+5*chunk] },
		"two chunks gone": func(d []byte) []byte { return d[:snapshotPrefix+4*chunk] },
		"first chunk gone": func(d []byte) []byte {
			return append(bytes.Clone(d[:snapshotPrefix]), d[snapshotPrefix+chunk:]...)
		},
		"chunks swapped": func(d []byte) []byte {
			d = bytes.Clone(d)
			a, b := d[snapshotPrefix:snapshotPrefix+chunk], d[snapshotPrefix+chunk:snapshotPrefix+2*chunk]
			c := bytes.Clone(a)
			copy(a, b)
			copy(b, c)
			return d
		},
		"something added": func(d []byte) []byte { return append(bytes.Clone(d), 1) },
		"one bit":         func(d []byte) []byte { d = bytes.Clone(d); d[snapshotPrefix+99] ^= 4; return d },
		"other salt":      func(d []byte) []byte { d = bytes.Clone(d); d[3] ^= 4; return d },
		"nothing":         func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			s, file := sealSnapshot(t, testKey(), plain, chunkSize)
			file.data = change(file.data)
			if _, _, err := readSnapshot(s); err == nil {
				t.Error("it was read")
			}
		})
	}
	s, file := sealSnapshot(t, testKey(), plain, chunkSize)
	file.meta.Index++
	if _, _, err := readSnapshot(s); !errors.Is(err, errSealed) {
		t.Errorf("a snapshot of another index: %v", err)
	}
}

func TestSealedRecordIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		place := rapid.SliceOf(rapid.Byte()).Draw(t, "place")
		one, other := newSealer(testKey(), "log"), newSealer(testKey(), "log")
		sealed, err := one.seal(plain, place)
		must(t, err)
		got, err := other.open(sealed, place)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("open = %x, %v", got, err)
		}
		if again, err := one.seal(plain, place); err != nil || bytes.Equal(again, sealed) {
			t.Fatalf("sealed twice alike: %v", err)
		}
		if _, err := newSealer(testKey(), "snapshot").open(sealed, place); !errors.Is(err, errSealed) {
			t.Fatalf("opened for another purpose: %v", err)
		}
		bit := rapid.IntRange(0, len(sealed)*8-1).Draw(t, "bit")
		sealed[bit/8] ^= 1 << (bit % 8)
		if _, err := other.open(sealed, place); !errors.Is(err, errSealed) {
			t.Fatalf("opened with bit %d changed: %v", bit, err)
		}
	})
}
