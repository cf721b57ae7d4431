package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"github.com/containerd/errdefs"
)

// What bolt writes into each of its first two pages, after the page's header.
const (
	boltPageHeader = 16
	boltMetaSize   = 64
	boltMagic      = 0xED0CDAED
)

// checkWhole refuses a bolt file that is shorter than it says itself, after a
// copy that was cut off, say: bolt maps the file, and the process would die of
// the first page that is not there. Any other damage bolt reports by itself.
func checkWhole(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	need, err := boltSize(f)
	if err != nil || info.Size() >= need {
		return err
	}
	return fmt.Errorf("%s is cut short, it has %d bytes of %d: restore it from a backup, or have this manager leave and join again: %w",
		path, info.Size(), need, errdefs.ErrDataLoss)
}

// boltSize is how long a bolt file is by its newest valid meta page, 0 if it
// has none.
func boltSize(r io.ReaderAt) (size int64, err error) {
	var newest uint64
	for page := range int64(2) {
		var meta [boltMetaSize]byte
		_, err := r.ReadAt(meta[:], page*int64(os.Getpagesize())+boltPageHeader)
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return 0, err
		}
		order := binary.NativeEndian
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:56]) // never fails
		pages, txid := order.Uint64(meta[40:]), order.Uint64(meta[48:])
		if order.Uint32(meta[:]) == boltMagic && order.Uint64(meta[56:]) == sum.Sum64() && txid >= newest {
			newest, size = txid, int64(pages)*int64(order.Uint32(meta[8:])) //nolint:gosec // under the checksum
		}
	}
	return size, nil
}
