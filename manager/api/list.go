package api

import (
	"bytes"
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"strings"
)

// flushAt bounds what a list holds in memory while it is sent.
const flushAt = 64 << 10

// writeList answers with an array of JSON, piece by piece.
func writeList[T any](w http.ResponseWriter, seq iter.Seq[T]) error {
	return writeArray(w, func(buf *bytes.Buffer) iter.Seq[error] {
		enc := json.NewEncoder(buf)
		enc.SetEscapeHTML(false)
		return func(yield func(error) bool) {
			for v := range seq {
				err := enc.Encode(v)
				buf.Truncate(buf.Len() - 1) // the newline
				if !yield(err) {
					return
				}
			}
		}
	})
}

// writeArray answers with an array. items writes one item into the buffer for
// each error that it yields.
func writeArray(w http.ResponseWriter, items func(*bytes.Buffer) iter.Seq[error]) error {
	w.Header().Set("Content-Type", "application/json")
	var buf bytes.Buffer
	buf.WriteByte('[')
	separator := 0
	for err := range items(&buf) {
		if err != nil {
			// Half an array may be on its way: the client must not take it for whole.
			panic(http.ErrAbortHandler)
		}
		if separator = buf.Len(); separator >= flushAt {
			if _, err := w.Write(buf.Bytes()); err != nil {
				return nil // the client is gone
			}
			buf.Reset()
		}
		buf.WriteByte(',')
	}
	if separator > 0 {
		buf.Truncate(buf.Len() - 1) // the last separator
	}
	buf.WriteString("]\n")
	_, _ = w.Write(buf.Bytes()) // as above
	return nil
}

// byPrefixes yields what scan yields for each of the prefixes, each object
// once; everything if there are none.
func byPrefixes[T any](prefixes []string, scan func(string) iter.Seq[T]) iter.Seq[T] {
	if len(prefixes) == 0 {
		return scan("")
	}
	sorted := slices.Sorted(slices.Values(prefixes))
	return func(yield func(T) bool) {
		for i, p := range sorted {
			if slices.ContainsFunc(sorted[:i], func(q string) bool { return strings.HasPrefix(p, q) }) {
				continue // seen already
			}
			for o := range scan(p) {
				if !yield(o) {
					return
				}
			}
		}
	}
}
