package raftstore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// keySize is that of the data key and of the keys derived from it.
const keySize = 32

// A sealed record is a version byte, the salt and the counter with which it
// was sealed, and the AES-256-GCM ciphertext. The key is HKDF-SHA256 of the
// data key and the salt, which is drawn when a sealer is made; the counter is
// the nonce. So a nonce is never used twice under one key, however many
// records are written.
const (
	sealVersion  = 1
	saltSize     = 16
	nonceSize    = 12
	sealHeader   = 1 + saltSize + 8
	sealOverhead = sealHeader + 16
)

// errSealed says that sealed data was not written with this key or was
// changed since.
var errSealed = errors.New("it was sealed with another key or is damaged")

type salt [saltSize]byte

// sealer seals records for one purpose.
type sealer struct {
	key     []byte
	purpose string
	salt    salt
	count   atomic.Uint64

	mu    sync.Mutex
	aeads map[salt]cipher.AEAD // one per start of the process that wrote records
}

func newSealer(key []byte, purpose string) *sealer {
	s := &sealer{key: key, purpose: purpose, aeads: map[salt]cipher.AEAD{}}
	rand.Read(s.salt[:]) // never fails
	return s
}

// aead returns the cipher for records with this salt.
func (s *sealer) aead(with salt) (cipher.AEAD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.aeads[with]; a != nil {
		return a, nil
	}
	a, err := s.derive(with)
	if err != nil {
		return nil, err
	}
	s.aeads[with] = a
	return a, nil
}

// derive makes the cipher for this salt.
func (s *sealer) derive(with salt) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.key, with[:], "shoal "+s.purpose, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return cipher.NewGCM(block)
}

// seal returns plain sealed and bound to the additional data.
func (s *sealer) seal(plain, additional []byte) ([]byte, error) {
	a, err := s.aead(s.salt)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(plain)+sealOverhead)
	out = append(out, sealVersion)
	out = append(out, s.salt[:]...)
	out = binary.BigEndian.AppendUint64(out, s.count.Add(1))
	return a.Seal(out, nonce(out), plain, additional), nil
}

// open returns what seal was given.
func (s *sealer) open(sealed, additional []byte) ([]byte, error) {
	if len(sealed) < sealOverhead || sealed[0] != sealVersion {
		return nil, errSealed
	}
	a, err := s.aead(salt(sealed[1 : 1+saltSize]))
	if err != nil {
		return nil, err
	}
	plain, err := a.Open(nil, nonce(sealed), sealed[sealHeader:], additional)
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// nonce is the counter of a record, in the last bytes of a nonce.
func nonce(record []byte) []byte {
	n := make([]byte, nonceSize)
	copy(n[nonceSize-8:], record[1+saltSize:sealHeader])
	return n
}
