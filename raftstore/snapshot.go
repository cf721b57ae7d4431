package raftstore

import (
	"bufio"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// A sealed snapshot is a version byte and a salt, then chunks of 64 KiB, each
// with its tag; the last one, which may be empty, is shorter. The nonce is the
// number of the chunk and whether it is the last, so chunks cannot be dropped,
// repeated or moved. Index and term of the snapshot are bound in.
const (
	chunkSize      = 64 << 10
	tagSize        = 16
	snapshotPrefix = 1 + saltSize
)

// sealedSnapshots seals the snapshots of a store.
type sealedSnapshots struct {
	raft.SnapshotStore
	sealer *sealer
}

// openSnapshots opens the snapshots in dir and removes what a crash left half
// done.
func openSnapshots(dir string, log *slog.Logger) (raft.SnapshotStore, error) {
	half, err := filepath.Glob(filepath.Join(dir, "snapshots", "*.tmp"))
	if err != nil {
		return nil, err
	}
	for _, path := range half {
		if err := os.RemoveAll(path); err != nil {
			return nil, err
		}
	}
	return raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshots, newLogger(log))
}

// Create implements raft.SnapshotStore.
func (s *sealedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, c, configIndex, t)
	if err != nil {
		return nil, err
	}
	var with salt
	rand.Read(with[:]) // never fails
	aead, err := s.sealer.derive(with)
	if err == nil {
		_, err = sink.Write(append([]byte{sealVersion}, with[:]...))
	}
	if err != nil {
		return nil, errors.Join(err, sink.Cancel())
	}
	return &sealedSink{SnapshotSink: sink, chunks: chunks{aead: aead, place: snapshotPlace(index, term)}, buf: make([]byte, 0, chunkSize+tagSize)}, nil
}

// List implements raft.SnapshotStore.
func (s *sealedSnapshots) List() ([]*raft.SnapshotMeta, error) {
	list, err := s.SnapshotStore.List()
	if err != nil {
		return nil, err
	}
	for i, m := range list {
		list[i] = plainMeta(m)
	}
	return list, nil
}

// Open implements raft.SnapshotStore. What it returns is not sealed: another
// manager that is sent the snapshot seals it with its own key.
func (s *sealedSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, file, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	prefix := make([]byte, snapshotPrefix)
	_, err = io.ReadFull(file, prefix)
	if err == nil && prefix[0] != sealVersion {
		err = errSealed
	}
	var aead cipher.AEAD
	if err == nil {
		aead, err = s.sealer.derive(salt(prefix[1:]))
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open snapshot %s: %w", id, err), file.Close())
	}
	return plainMeta(meta), &sealedReader{
		file: file, r: bufio.NewReaderSize(file, chunkSize+tagSize),
		chunks: chunks{aead: aead, place: snapshotPlace(meta.Index, meta.Term)},
	}, nil
}

// plainMeta is m with the size of what was sealed.
func plainMeta(m *raft.SnapshotMeta) *raft.SnapshotMeta {
	c := *m
	body := max(0, c.Size-int64(snapshotPrefix))
	full := body / (chunkSize + tagSize)
	c.Size = full*chunkSize + max(0, body%(chunkSize+tagSize)-tagSize)
	return &c
}

func snapshotPlace(index, term uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, index), term)
}

// chunks numbers the chunks of one snapshot.
type chunks struct {
	aead  cipher.AEAD
	place []byte
	next  uint64
}

func (c *chunks) nonce(last bool) []byte {
	n := make([]byte, nonceSize)
	binary.BigEndian.PutUint64(n[nonceSize-8:], c.next)
	if last {
		n[0] = 1
	}
	c.next++
	return n
}

type sealedSink struct {
	raft.SnapshotSink
	chunks
	buf    []byte
	closed bool
}

// Write implements io.Writer.
func (s *sealedSink) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), chunkSize-len(s.buf))
		s.buf, rest = append(s.buf, rest[:n]...), rest[n:]
		if len(s.buf) == chunkSize {
			if err := s.flush(false); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (s *sealedSink) flush(last bool) error {
	_, err := s.SnapshotSink.Write(s.aead.Seal(s.buf[:0], s.nonce(last), s.buf, s.place))
	s.buf = s.buf[:0]
	return err
}

// Close implements raft.SnapshotSink. raft calls it a second time.
func (s *sealedSink) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if err := s.flush(true); err != nil {
		return errors.Join(err, s.SnapshotSink.Cancel())
	}
	return s.SnapshotSink.Close()
}

// Cancel implements raft.SnapshotSink.
func (s *sealedSink) Cancel() error {
	s.closed = true
	return s.SnapshotSink.Cancel()
}

type sealedReader struct {
	chunks
	file  io.Closer
	r     *bufio.Reader
	plain []byte
	done  bool
}

// Read implements io.Reader.
func (s *sealedReader) Read(p []byte) (int, error) {
	for len(s.plain) == 0 {
		if s.done {
			return 0, io.EOF
		}
		if err := s.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.plain)
	s.plain = s.plain[n:]
	return n, nil
}

func (s *sealedReader) chunk() error {
	sealed := make([]byte, chunkSize+tagSize)
	n, err := io.ReadFull(s.r, sealed)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read snapshot: %w", err)
	}
	s.done = n < len(sealed)
	plain, err := s.aead.Open(sealed[:0], s.nonce(s.done), sealed[:n], s.place)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", errSealed)
	}
	s.plain = plain
	return nil
}

// Close implements io.Closer.
func (s *sealedReader) Close() error { return s.file.Close() }
