package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// SnapshotVersion is the format of the snapshots that this code writes.
const SnapshotVersion = 1

// A snapshot is lines of JSON: a header, one change for each object in the
// order of kinds and keys, and a trailer with the SHA-256 of all before it.
type (
	snapshotHeader struct {
		Format  string `json:"format"` // "shoal state"
		Version int    `json:"v"`
		Index   uint64 `json:"index"`
	}
	snapshotTrailer struct {
		Objects int    `json:"objects"`
		SHA256  string `json:"sha256"`
	}
)

const snapshotFormat = "shoal state"

func kinds() []Kind {
	return []Kind{KindCluster, KindNode, KindService, KindRevision, KindTask, KindNetwork, KindSecret, KindConfig, KindVolume, KindRequest, KindAttachment}
}

// Objects yields every object of the view, by kind and key.
func (v *View) objects(yield func(Object) error) error {
	for _, k := range kinds() {
		for o := range v.tables.of(k).all {
			if err := yield(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteSnapshot writes the whole view. The same state gives the same bytes.
func (v *View) WriteSnapshot(w io.Writer) error {
	buf := bufio.NewWriterSize(w, 1<<16)
	sum := sha256.New()
	enc := json.NewEncoder(io.MultiWriter(buf, sum))
	enc.SetEscapeHTML(false)
	if err := enc.Encode(snapshotHeader{snapshotFormat, SnapshotVersion, v.index}); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	trailer := snapshotTrailer{}
	err := v.objects(func(o Object) error {
		trailer.Objects++
		return enc.Encode(Put(o))
	})
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	trailer.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if err := json.NewEncoder(buf).Encode(trailer); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// Hash identifies the state: equal on replicas that applied the same entries.
func (v *View) Hash() (string, error) {
	sum := sha256.New()
	if err := v.WriteSnapshot(sum); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Restore replaces the state by a snapshot. A snapshot that is damaged, cut
// short or of a later format is refused and the state stays as it is.
func (d *DB) Restore(r io.Reader) error {
	restored, index, err := readSnapshot(r)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	d.replace(restored, index)
	return nil
}

func readSnapshot(r io.Reader) (tables, uint64, error) {
	lines := lineReader{r: bufio.NewReaderSize(r, 1<<16), sum: sha256.New()}
	first, err := lines.next()
	if err != nil {
		return tables{}, 0, err
	}
	var head snapshotHeader
	if err := json.Unmarshal(first, &head); err != nil {
		return tables{}, 0, fmt.Errorf("header: %w", err)
	}
	if head.Format != snapshotFormat || head.Version != SnapshotVersion {
		return tables{}, 0, fmt.Errorf("format %q version %d is not known, this version of shoal knows %d: upgrade this manager", head.Format, head.Version, SnapshotVersion)
	}
	restored := newTables()
	if err := readObjects(&lines, &restored); err != nil {
		return tables{}, 0, err
	}
	return restored, head.Index, nil
}

func readObjects(lines *lineReader, into *tables) error {
	for count := 0; ; count++ {
		line, err := lines.next()
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte(`{"objects":`)) {
			var trailer snapshotTrailer
			if err := json.Unmarshal(line, &trailer); err != nil {
				return fmt.Errorf("trailer: %w", err)
			}
			if trailer.Objects != count || trailer.SHA256 != hex.EncodeToString(lines.sum.Sum(nil)) {
				return errors.New("checksum does not match: the snapshot is damaged")
			}
			return nil
		}
		var c Change
		if err := json.Unmarshal(line, &c); err != nil {
			return fmt.Errorf("object %d: %w", count+1, err)
		}
		if c.put == nil {
			return fmt.Errorf("object %d: a snapshot has no deletions", count+1)
		}
		into.of(c.kind).apply(c)
	}
}

// lineReader reads lines. sum is that of the lines before the last one.
type lineReader struct {
	r    *bufio.Reader
	sum  hash.Hash
	last []byte
}

func (l *lineReader) next() ([]byte, error) {
	l.sum.Write(l.last)
	line, err := l.r.ReadBytes('\n')
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF // the trailer is missing
	}
	if err != nil {
		return nil, err
	}
	l.last = line
	return line, nil
}
