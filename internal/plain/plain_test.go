package plain

import (
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"as it is: ä 漢":        "as it is: ä 漢",
		"\x1b[31mred\x1b[0m":   "red",
		"\x1b]0;title\x07text": "text",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"\x1bcreset":           "reset",
		"cut short \x1b[12":    "cut short",
		"cut short \x1b]0;":    "cut short",
		"\x1b":                 "",
		"bell\x07 and\bback\r": "bell andback",
		"a\tb":                 "a b",
		"bad \xff utf-8":       "bad ? utf-8",
		"\u009b31mC1\u202e":    "31mC1",
	} {
		if got := Line(in, 0); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Line(strings.Repeat("x", 50), 10); got != strings.Repeat("x", 10)+"…" {
		t.Errorf("cut: %q", got)
	}
	if got := Line(strings.Repeat("x", 10), 10); got != strings.Repeat("x", 10) {
		t.Errorf("not to be cut: %q", got)
	}
}

func TestLines(t *testing.T) {
	if got := Lines("one\r\n\r\n\x1b[0m\ntwo\n", 0); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("%q", got)
	}
}

func FuzzLine(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range Line(text, 100) {
			if !unicode.IsPrint(r) {
				t.Errorf("%q has %q", text, r)
			}
		}
	})
}
