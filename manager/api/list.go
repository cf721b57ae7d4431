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

// writeList answers with an array, piece by piece.
func writeList[T any](w http.ResponseWriter, seq iter.Seq[T]) error {
	w.Header().Set("Content-Type", "application/json")
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	separator := byte('[')
	for v := range seq {
		buf.WriteByte(separator)
		separator = ','
		if err := enc.Encode(v); err != nil {
			// Half an array is on its way: the client must not take it for whole.
			panic(http.ErrAbortHandler)
		}
		buf.Truncate(buf.Len() - 1) // the newline
		if buf.Len() < flushAt {
			continue
		}
		if _, err := w.Write(buf.Bytes()); err != nil {
			return nil // the client is gone
		}
		buf.Reset()
	}
	if separator == '[' {
		buf.WriteByte('[')
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
