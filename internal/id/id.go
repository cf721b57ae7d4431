// Package id makes identifiers for the cluster's objects.
//
// An id is 25 characters of base 36, the form of Docker Swarm's ids, so that
// tools which cut them to 12 or match on [a-z0-9]{25} keep working.
package id

import (
	"crypto/rand"
	"math/big"
)

// Length is the number of characters of an id.
const Length = 25

// New returns a fresh random id: 128 bits, so a clash is not a case that
// callers handle.
func New() string {
	raw := make([]byte, 16)
	rand.Read(raw) // never fails: crypto/rand aborts the program instead
	return Base36(raw, Length)
}

// Base36 writes raw as a number in base 36, padded with zeros to width.
func Base36(raw []byte, width int) string {
	text := new(big.Int).SetBytes(raw).Text(36)
	for len(text) < width {
		text = "0" + text
	}
	return text
}

// Valid reports whether s has the form of an id.
func Valid(s string) bool {
	if len(s) != Length {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
