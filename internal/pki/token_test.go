package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestTokenRoundTrip(t *testing.T) {
	root := newRoot(t)
	token, err := root.Token(RoleWorker, 1)
	if err != nil {
		t.Fatal(err)
	}
	text := token.Text()
	if !strings.HasPrefix(text, "SHMTKN-1-") || len(text) != len("SHMTKN-1-")+50+1+25 {
		t.Errorf("token %q has another form", text)
	}
	got, err := ParseToken(text)
	if err != nil || got != token {
		t.Errorf("ParseToken(%q) = %v, %v", text, got, err)
	}
	if got.Digest != Digest(root.Cert) {
		t.Errorf("digest %q, want that of the root", got.Digest)
	}
}

func TestTokenIsOfOneRoleGenerationAndRoot(t *testing.T) {
	a, b := newRoot(t), newRoot(t)
	seen := map[string]string{}
	for _, root := range []*Root{a, b} {
		for _, role := range []Role{RoleWorker, RoleManager} {
			for _, generation := range []uint64{0, 1, 2, 11} {
				token, err := root.Token(role, generation)
				if err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprintf("%p %s %d", root, role, generation)
				if other, ok := seen[token.secret]; ok {
					t.Errorf("%s has the secret of %s", name, other)
				}
				seen[token.secret] = name
				again, _ := root.Token(role, generation)
				if !again.Matches(token.Hash()) {
					t.Errorf("%s derived twice differs", name)
				}
			}
		}
	}
}

// The derivation is part of the wire format: tokens are in people's scripts.
func TestTokenSecretGolden(t *testing.T) {
	scalar := make([]byte, 32)
	for i := range scalar {
		scalar[i] = byte(i + 1)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		t.Fatal(err)
	}
	root := &Root{key: key}
	for _, c := range []struct {
		role       Role
		generation uint64
		want       string
	}{
		{RoleWorker, 1, "6670zq7tcuppepx9qmie139wx"},
		{RoleManager, 1, "8bik3rt6qh3z67v3vba5ntque"},
		{RoleWorker, 2, "d3u2fuxkx9lyux7xntoca2xfd"},
	} {
		if got, err := root.TokenSecret(c.role, c.generation); got != c.want || err != nil {
			t.Errorf("TokenSecret(%s, %d) = %q, %v, want %q", c.role, c.generation, got, err, c.want)
		}
	}
}

func TestTokenMatchesOnlyItsHash(t *testing.T) {
	token, _ := newRoot(t).Token(RoleManager, 3)
	other, _ := newRoot(t).Token(RoleManager, 3)
	for name, c := range map[string]struct {
		hash []byte
		want bool
	}{
		"own":       {token.Hash(), true},
		"another's": {other.Hash(), false},
		"empty":     {nil, false},
		"prefix":    {token.Hash()[:31], false},
	} {
		if got := token.Matches(c.hash); got != c.want {
			t.Errorf("%s: Matches = %v", name, got)
		}
	}
}

func TestTokenDoesNotPrintItsSecret(t *testing.T) {
	token, _ := newRoot(t).Token(RoleWorker, 1)
	for _, format := range []string{"%v", "%+v", "%s"} {
		if text := fmt.Sprintf(format, token); strings.Contains(text, token.secret) {
			t.Errorf("%s prints the secret: %s", format, text)
		}
	}
}

func TestParseTokenRefuses(t *testing.T) {
	token, _ := newRoot(t).Token(RoleWorker, 1)
	good := token.Text()
	for name, text := range map[string]string{
		"empty":        "",
		"Swarm's":      "SWMTKN" + good[6:],
		"version":      strings.Replace(good, "-1-", "-2-", 1),
		"upper case":   strings.Replace(good, token.secret, strings.ToUpper("a"+token.secret[1:]), 1),
		"space":        good + " ",
		"newline":      good + "\n",
		"short":        good[:len(good)-1],
		"long":         good + "0",
		"no dash":      good[:59] + "0" + good[60:],
		"no base 36":   good[:len(good)-1] + "é",
		"dash inside":  good[:len(good)-1] + "-",
		"only digest":  good[:59],
		"NUL in front": "\x00" + good,
	} {
		if _, err := ParseToken(text); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: ParseToken(%q): err %v", name, text, err)
		}
	}
}

// The texts are Swarm's: scripts match on them.
func TestErrorTexts(t *testing.T) {
	for err, want := range map[error]string{
		ErrInvalidToken: "invalid join token",
		ErrWrongRoot:    "remote CA does not match fingerprint",
		ErrTokenRefused: "A valid join token is necessary to join this cluster",
	} {
		if err.Error() != want {
			t.Errorf("text %q, want %q", err, want)
		}
	}
	if !errdefs.IsInvalidArgument(ErrInvalidToken) || !errdefs.IsPermissionDenied(ErrWrongRoot) {
		t.Error("an error lost its kind")
	}
	if errors.Is(ErrTokenRefused, ErrInvalidToken) {
		t.Error("a refused token counts as a malformed one")
	}
}

func FuzzParseToken(f *testing.F) {
	token, _ := newRoot(f).Token(RoleWorker, 1)
	f.Add(token.Text())
	f.Add("")
	f.Add("SHMTKN-1-" + strings.Repeat("0", 50) + "-" + strings.Repeat("z", 25))
	f.Add("SHMTKN-1-" + strings.Repeat("é", 25) + "-" + strings.Repeat("z", 25))
	f.Add("SWMTKN-1-" + strings.Repeat("0", 50) + "-" + strings.Repeat("z", 25))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrInvalidToken) || token != (Token{}) {
				t.Errorf("ParseToken(%q) = %v, %v", text, token, err)
			}
			return
		}
		if token.Text() != text {
			t.Errorf("ParseToken(%q) reads back as %q", text, token.Text())
		}
	})
}
