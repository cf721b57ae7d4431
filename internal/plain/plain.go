// Package plain makes text that programs wrote safe to be shown to people.
package plain

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line is a line of output as a terminal may show it: without escape sequences
// and other control characters, and with no more than limit bytes; 0: all.
func Line(text string, limit int) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		if limit > 0 && b.Len() >= limit {
			b.WriteString("…")
			break
		}
		if n := escape(text[i:]); n > 0 {
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		i += size
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case r == utf8.RuneError:
			b.WriteByte('?')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// Lines are the lines of text, those that are empty left out, each with no more
// than limit bytes; 0: all.
func Lines(text string, limit int) (lines []string) {
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = Line(line, limit); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// escape returns the length of the escape sequence that text begins with, 0 if
// it begins with none: CSI, OSC and those of two characters (ECMA-48).
func escape(text string) int {
	if text[0] != 0x1b {
		return 0
	}
	if len(text) == 1 {
		return 1
	}
	switch text[1] {
	case '[':
		for i := 2; i < len(text); i++ {
			if text[i] >= 0x40 && text[i] <= 0x7e {
				return i + 1
			}
		}
		return len(text)
	case ']', 'P', '_', '^', 'X': // up to BEL or ST
		for i := 2; i < len(text); i++ {
			if text[i] == 0x07 {
				return i + 1
			}
			if text[i] == 0x1b && i+1 < len(text) && text[i+1] == '\\' {
				return i + 2
			}
		}
		return len(text)
	}
	return 2
}
