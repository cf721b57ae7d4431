package id

import "testing"

func TestNewIsValidAndDistinct(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		got := New()
		if !Valid(got) {
			t.Fatalf("New() = %q: not a valid id", got)
		}
		if seen[got] {
			t.Fatalf("New() returned %q twice", got)
		}
		seen[got] = true
	}
}

func TestValid(t *testing.T) {
	for s, want := range map[string]bool{
		"":                           false,
		"abc":                        false,
		"0123456789abcdefghijklmno":  true,
		"0123456789ABCdefghijklmno":  false,
		"0123456789abcdefghijklmno1": false,
		"0123456789-bcdefghijklmno":  false,
	} {
		if got := Valid(s); got != want {
			t.Errorf("Valid(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestBase36PadsToWidth(t *testing.T) {
	if got := Base36([]byte{35}, 4); got != "000z" {
		t.Errorf("Base36(35, 4) = %q, want 000z", got)
	}
}
