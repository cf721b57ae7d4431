package pki

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"shoal/internal/id"
)

const (
	tokenPrefix  = "SHMTKN-1-"
	digestLength = 50 // base 36 characters of 256 bits
	secretLength = 25 // base 36 characters of 128 bits
)

// Errors of joining, in Swarm's words: users and scripts know them.
var (
	// ErrInvalidToken: the text is not a join token at all.
	ErrInvalidToken = errdefs.ErrInvalidArgument.WithMessage("invalid join token")
	// ErrWrongRoot: the token is of another cluster, or someone sits in between.
	ErrWrongRoot = errdefs.ErrPermissionDenied.WithMessage("remote CA does not match fingerprint")
	// ErrTokenRefused: well-formed, but not a token of this cluster (any more).
	ErrTokenRefused = errdefs.ErrInvalidArgument.WithMessage("A valid join token is necessary to join this cluster")
)

// Token is a join token: whom to trust, and why to be let in.
type Token struct {
	Digest string // of the cluster's root certificate
	secret string
}

// ParseToken reads a token exactly as String writes it.
func ParseToken(text string) (Token, error) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(rest) != digestLength+1+secretLength || rest[digestLength] != '-' {
		return Token{}, ErrInvalidToken
	}
	token := Token{Digest: rest[:digestLength], secret: rest[digestLength+1:]}
	if !isBase36(token.Digest) || !isBase36(token.secret) {
		return Token{}, ErrInvalidToken
	}
	return token, nil
}

func isBase36(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// Text is the whole token, secret included: for the user who asked for it and
// for the manager that is asked to let a node in.
func (t Token) Text() string { return tokenPrefix + t.Digest + "-" + t.secret }

// String hides the secret, so that a token in a log line gives nothing away.
func (t Token) String() string { return tokenPrefix + t.Digest + "-…" }

// Hash is what the cluster's state keeps of the token.
func (t Token) Hash() []byte { return HashSecret(t.secret) }

// Matches reports whether hash is of this token's secret, in constant time.
func (t Token) Matches(hash []byte) bool {
	return subtle.ConstantTimeCompare(t.Hash(), hash) == 1
}

// Token is the join token of a role. Every manager derives the same one; a
// higher generation makes the earlier ones worthless.
func (r *Root) Token(role Role, generation uint64) (Token, error) {
	secret, err := r.TokenSecret(role, generation)
	if err != nil {
		return Token{}, err
	}
	return Token{Digest: Digest(r.Cert), secret: secret}, nil
}

// TokenSecret derives the secret part of a join token from the root key.
// Changing the derivation makes every printed token worthless: see the golden
// vector in the tests.
func (r *Root) TokenSecret(role Role, generation uint64) (string, error) {
	key, err := r.key.Bytes()
	if err != nil {
		return "", fmt.Errorf("read root key: %w", err)
	}
	info := fmt.Sprintf("%s/%d", role, generation)
	raw, err := hkdf.Key(sha256.New, key, []byte("shoal join token"), info, 16)
	if err != nil {
		return "", fmt.Errorf("derive join token: %w", err)
	}
	return id.Base36(raw, secretLength), nil
}

// HashSecret is the SHA-256 of a token's secret part.
func HashSecret(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
