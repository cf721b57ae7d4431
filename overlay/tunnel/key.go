package tunnel

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
)

const keySize = 32 // of every key of WireGuard

// PublicKey belongs to a private key.
func PublicKey(private []byte) ([]byte, error) {
	key, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("private key of a tunnel: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return key.PublicKey().Bytes(), nil
}

// Preshared is the key that two nodes share beside their own ones, from a key of
// the cluster and the public keys of both, in any order. It changes with the
// cluster's key, so whoever does not get the next one cannot follow.
func Preshared(key, a, b []byte) []byte {
	if bytes.Compare(a, b) > 0 {
		a, b = b, a
	}
	info := "shoal tunnel" + string(a) + string(b)
	psk, err := hkdf.Key(sha256.New, key, nil, info, keySize)
	if err != nil { // only for a length that no SHA-256 could give
		panic(err)
	}
	return psk
}

// clamp returns a private key with the bits set that X25519 ignores.
func clamp(private []byte) []byte {
	key := slices.Clone(private)
	key[0] &= 248
	key[31] = key[31]&127 | 64
	return key
}
